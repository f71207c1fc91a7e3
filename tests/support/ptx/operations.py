"""What the instructions of PTX compute that neither jump nor touch memory."""

from __future__ import annotations

import operator
from collections.abc import Callable
from typing import Any

import numpy as np

from radam_codegen.ir.arithmetic import fma

__all__ = ["DTYPES", "bits_of", "compute", "view"]

Array = np.ndarray[Any, np.dtype[Any]]
Function = Callable[..., Array]

#: NumPy's names of the types; the width of each is in its name.
DTYPES = {
    **{f"{kind}{bits}": f"u{bits // 8}" for kind in "bu" for bits in (8, 16, 32, 64)},
    **{f"s{bits}": f"i{bits // 8}" for bits in (8, 16, 32, 64)},
    **{f"f{bits}": f"f{bits // 8}" for bits in (32, 64)},
    "pred": "?",
}

_COMPARISONS = {
    "eq": operator.eq,
    "ne": operator.ne,
    "lt": operator.lt,
    "le": operator.le,
    "gt": operator.gt,
    "ge": operator.ge,
}


def view(bits: Array, dtype: str) -> Array:
    """Bits of a register as an operand of a type: as many of the lowest as it has."""
    wanted = np.dtype(DTYPES[dtype])
    if bits.dtype == wanted or dtype == "pred":
        return bits
    if bits.dtype.itemsize != wanted.itemsize:
        bits = bits.astype(f"u{wanted.itemsize}")
    return np.asarray(bits).view(wanted)


def bits_of(values: Array) -> Array:
    """The bits of a result, as a register holds them."""
    values = np.asarray(values)
    if values.dtype == bool:
        return values
    if values.dtype == np.float32:
        # Any result that is not a number is this one on a GPU.
        return np.where(np.isnan(values), np.uint32(0x7FFFFFFF), values.view(np.uint32))
    return values.view(f"u{values.dtype.itemsize}")


def compute(parts: list[str]) -> tuple[Function, tuple[str, ...]] | None:
    """The function that an opcode stands for, and the types of its operands; None: not known."""
    name, *rest = parts
    dtype = rest[-1] if rest else ""
    if dtype not in DTYPES:
        return None
    integer, real, untyped = dtype[0] in "us", dtype[0] == "f", dtype[0] == "b"
    middle = ".".join(rest[:-1])
    if name == "setp":
        function = _comparison(middle, real)
        return None if function is None else (function, (dtype, dtype))
    if name == "selp" and not middle:
        # The sign of what is not a number is kept: nothing is computed.
        same = dtype if not real else f"b{dtype[1:]}"
        return (lambda a, b, p: np.where(p, a, b)), (same, same, "pred")
    if real and middle == "rn":
        return _rounded(name, dtype)
    if name == "neg" and not middle and real:
        sign = np.array(1 << (int(dtype[1:]) - 1), f"u{int(dtype[1:]) // 8}")
        return (lambda a: a ^ sign), (f"b{dtype[1:]}",)
    if name == "cvt":
        return _conversion(rest)
    if integer and not middle:
        return _integer(name, dtype)
    if integer and middle in ("lo", "wide"):
        return _product(name, middle, dtype)
    if untyped or dtype == "pred":
        return _bitwise(name, middle, dtype)
    return None


def _comparison(name: str, real: bool) -> Function | None:
    if name in _COMPARISONS and not real:
        return _COMPARISONS[name]
    unordered = name.endswith("u")
    compare = _COMPARISONS.get(name[:-1] if unordered else name)
    if compare is None or not real:
        return None
    # With what is not a number, the one kind is always true, and the other, "ne" too, never.
    if unordered:
        return lambda a, b: compare(a, b) | np.isnan(a) | np.isnan(b)
    return lambda a, b: compare(a, b) & ~np.isnan(a) & ~np.isnan(b)


def _rounded(name: str, dtype: str) -> tuple[Function, tuple[str, ...]] | None:
    functions: dict[str, tuple[Function, int]] = {
        "add": (np.add, 2),
        "sub": (np.subtract, 2),
        "mul": (np.multiply, 2),
        "div": (np.divide, 2),
        "sqrt": (np.sqrt, 1),
        "fma": (lambda a, b, c: fma(*np.broadcast_arrays(a, b, c)), 3),
    }
    if name not in functions:
        return None
    function, count = functions[name]
    return function, (dtype,) * count


def _integer(name: str, dtype: str) -> tuple[Function, tuple[str, ...]] | None:
    bits = int(dtype[1:])
    functions: dict[str, tuple[Function, tuple[str, ...]]] = {
        "add": (np.add, (dtype, dtype)),
        "sub": (np.subtract, (dtype, dtype)),
        "neg": (np.negative, (dtype,)),
        "min": (np.minimum, (dtype, dtype)),
        "max": (np.maximum, (dtype, dtype)),
        # A shift by more than there are bits leaves nothing, or signs only.
        "shr": (lambda a, n: _shifted(a, n, bits, np.right_shift), (dtype, "u32")),
    }
    return functions.get(name)


def _product(name: str, middle: str, dtype: str) -> tuple[Function, tuple[str, ...]] | None:
    if name == "mul" and middle == "lo":
        return np.multiply, (dtype, dtype)
    if name == "mad" and middle == "lo":
        return (lambda a, b, c: a * b + c), (dtype, dtype, dtype)
    if name == "mul" and middle == "wide":
        wide = DTYPES[f"{dtype[0]}{2 * int(dtype[1:])}"]
        return (lambda a, b: a.astype(wide) * b.astype(wide)), (dtype, dtype)
    return None


def _bitwise(name: str, middle: str, dtype: str) -> tuple[Function, tuple[str, ...]] | None:
    if middle:
        return None
    functions: dict[str, tuple[Function, tuple[str, ...]]] = {
        "and": (np.bitwise_and, (dtype, dtype)),
        "or": (np.bitwise_or, (dtype, dtype)),
        "xor": (np.bitwise_xor, (dtype, dtype)),
        "not": (np.invert, (dtype,)),
    }
    if dtype != "pred":
        bits = int(dtype[1:])
        functions["shl"] = (lambda a, n: _shifted(a, n, bits, np.left_shift), (dtype, "u32"))
    if dtype == "b32":
        functions["prmt"] = (_permuted, (dtype, dtype, dtype))
    return functions.get(name)


def _shifted(values: Array, count: Array, bits: int, shift: Function) -> Array:
    last = np.minimum(count, bits - 1).astype(values.dtype)
    shifted = shift(values, last)
    if values.dtype.kind == "i":
        return shifted
    return np.where(count < bits, shifted, np.zeros_like(shifted))


def _permuted(low: Array, high: Array, selector: Array) -> Array:
    """Four of eight bytes; the selector's four digits say which."""
    whole = low.astype(np.uint64) | high.astype(np.uint64) << np.uint64(32)
    result = np.zeros(np.broadcast(low, high, selector).shape, np.uint32)
    for k in range(4):
        digit = selector >> np.uint32(4 * k) & np.uint32(15)
        byte = (whole >> ((digit & np.uint32(7)) * np.uint32(8)).astype(np.uint64)).astype(np.uint8)
        sign = np.where(byte & 0x80, np.uint8(255), np.uint8(0))
        chosen = np.where(digit & np.uint32(8), sign, byte).astype(np.uint32)
        result |= chosen << np.uint32(8 * k)
    return result


def _conversion(rest: list[str]) -> tuple[Function, tuple[str, ...]] | None:
    *modifiers, to, source = rest
    if to not in DTYPES or "pred" in (to, source):
        return None
    narrows = to[0] == "f" and (source[0] != "f" or to < source)
    # Between integers, and to a wider float, there is nothing to round.
    exact = (to[0] != "f" and source[0] != "f") or (to == "f64" and source == "f32")
    if not (modifiers == ["rn"] and narrows) and not (not modifiers and exact):
        return None
    return (lambda a: a.astype(DTYPES[to])), (source,)
