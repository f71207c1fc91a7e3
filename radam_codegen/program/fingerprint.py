"""Fingerprints of PIR programs, from the Python objects that hold them."""

from __future__ import annotations

import ctypes
from typing import Any

from radam_codegen.program.operator import registered_library
from radam_codegen.runtime import Fingerprint

__all__ = ["fingerprint_of"]

#: What pybind11 puts between the head of a Python object and its list of weak references: a pointer
#: to the C++ object, and room for a shared pointer to it.
_POINTERS = 3 * ctypes.sizeof(ctypes.c_void_p)

_checked: bool | None = None  # whether Paddle's Python objects were seen to be as expected


def fingerprint_of(program: Any) -> Fingerprint | None:
    """Return what tells the present state of a PIR program from all others of the process.

    It differs whenever the program's text does, and takes a small part of the time. Equal
    fingerprints mean the same program with the same operations, operands, types and attributes, in
    blocks of operations too.

    Args:
        program: A ``paddle.pir.Program``.

    Returns:
        None where it cannot be told: no operator of this package is registered, or this Paddle is
        none whose programs can be read.
    """
    library = registered_library()
    if library is None:
        return None
    block = program.global_block()
    if not (_check(block) if _checked is None else _checked):
        return None
    return library.fingerprint(_address(block))


def _check(block: Any) -> bool:
    """Find out once whether Python objects are as expected, by a value, which tells its address."""
    global _checked
    for operation in block.ops:
        if operation.num_results() > 0:
            _checked = _is_as_expected(operation.result(0))
            return _checked
    return False


def _is_as_expected(value: Any) -> bool:
    if type(value).__weakrefoffset__ != object.__basicsize__ + _POINTERS:
        return False
    # A value of C++ is one pointer.
    return ctypes.c_void_p.from_address(_address(value)).value == int(value.id, 16)


def _address(held: Any) -> int:
    """The address of the C++ object that a Python object of Paddle's stands for."""
    return ctypes.c_void_p.from_address(id(held) + object.__basicsize__).value or 0
