"""Names for tensors that share memory, of which the operator library knows the numbers only."""

from __future__ import annotations

import re
from collections.abc import Iterator, Sequence
from typing import Any

from paddle.base import framework

from radam_codegen.errors import UnsupportedError
from radam_codegen.program.operator import STEP_OP

__all__ = ["named", "refusal_of_program"]

_TENSOR = re.compile(r"\btensor (\d+)\b")
_REFUSAL = re.compile(r"radam_codegen: in group (-?\d+), (.*shares memory with.*?)\.(?:\s|$)")

#: What Paddle makes of the name of an input that is several tensors.
_PARAMS = "Param@VECTOR"


def named(refusal: str, names: Sequence[str]) -> UnsupportedError:
    """The error of a refusal that counts tensors, with their names.

    Args:
        refusal: what the operator library says.
        names: of the parameters, in the order of the tensors.
    """

    def name(found: re.Match[str]) -> str:
        number = int(found.group(1))
        return f"parameter {names[number]!r}" if number < len(names) else found.group()

    return UnsupportedError(_TENSOR.sub(name, refusal))


def refusal_of_program(program: Any, error: Exception) -> UnsupportedError | None:
    """What a run of a program failed with, if tensors of an update share memory.

    Args:
        program: of either IR.
        error: what Paddle made of it.
    """
    found = _REFUSAL.search(str(error))
    if found is None:
        return None
    names = next(_updated_by(program, int(found.group(1))), [])
    return named(found.group(2), names)


def _updated_by(program: Any, key: int) -> Iterator[list[str]]:
    """The names of the parameters of each operator that has this key."""
    if isinstance(program, framework.Program):
        for block in program.blocks:
            for operation in block.ops:
                if operation.type == STEP_OP and operation.attr("key") == key:
                    yield list(operation.input(_PARAMS))
        return
    for operation in _operations(program.global_block()):
        if operation.name().startswith(f"custom_op.{STEP_OP}") and operation.attrs()["key"] == key:
            combined = operation.operand_source(0).get_defining_op()
            yield [value.name for value in combined.operands_source()]


def _operations(block: Any) -> Iterator[Any]:
    for operation in block.ops:
        yield operation
        for inner in operation.blocks():
            yield from _operations(inner)
