"""Finding the variables of a program by their names."""

from __future__ import annotations

from collections.abc import Collection, Iterator
from functools import cached_property
from typing import Any

import paddle
from paddle.base import framework, unique_name

from radam_codegen.errors import ProgramError

__all__ = ["ProgramVariables", "blocks_of", "check_new", "initializes"]

#: Operators of PIR that stand for a variable, and the attribute that names it.
_NAMED = {"builtin.parameter": "parameter_name", "pd_op.data": "name"}
#: Those of startup programs that write one.
_WRITTEN = {"builtin.set_parameter": "parameter_name", "builtin.shadow_output": "output_name"}


class ProgramVariables:
    """The variables of the current main program, as the place that is being built can use them.

    Args:
        program: the main program, legacy or PIR.
    """

    def __init__(self, program: Any) -> None:
        self._program = program

    def __contains__(self, name: str) -> bool:
        """Tell whether the program has a variable, in any of its blocks."""
        if isinstance(self._program, framework.Program):
            return bool(self._program.global_block().has_var(name))
        return name in self._values

    def names(self) -> frozenset[str]:
        """Names of all variables that the program has now."""
        if isinstance(self._program, framework.Program):
            return frozenset(self._program.global_block().vars)
        return frozenset(self._values)

    def get(self, name: str) -> Any:
        """Return a variable (legacy) or a value (PIR).

        A PIR value of another branch cannot be used here; there will be one more for its variable.

        Raises:
            KeyError: the program has no such variable.
        """
        if isinstance(self._program, framework.Program):
            return self._program.global_block().vars[name]
        if name not in self._values:
            del self._values  # made since
        values = self._values[name]
        visible = [value for value in values if value.block in _around(_current_block())]
        return visible[0] if visible else self._again(values[0])

    @cached_property
    def _values(self) -> dict[str, list[Any]]:
        found: dict[str, list[Any]] = {}
        for block in blocks_of(self._program):
            for operation in block.ops:
                attribute = _NAMED.get(operation.name())
                if attribute is not None:
                    name = operation.attrs()[attribute]
                    found.setdefault(name, []).append(operation.result(0))
        return found

    def _again(self, value: Any) -> Any:
        core = paddle.pir.core
        again = core.data(value.name, value.shape, value.dtype, paddle.base.core.Place())
        again.persistable = True
        again.stop_gradient = value.stop_gradient
        self._values[value.name].append(again)
        return again


def check_new(prefix: str, taken: Collection[str], what: str) -> None:
    """Refuse a variable that would share the memory of another one, before it is made.

    Args:
        prefix: what Paddle is about to make a unique name from, which is unique among the names
            that were made in the same way, and no others.
        taken: names of the variables that the program has.
        what: what the variable is for, for the message.

    Raises:
        ProgramError: there is one of that name.
    """
    generator = unique_name.generator  # another one within unique_name.guard()
    name = f"{generator.prefix}{prefix}_{generator.ids[prefix]}"
    if name in taken:
        raise ProgramError(
            f"the program already has a variable {name!r}, which is what the {what} would be "
            "called: both would be one and the same. Give the parameter or variable another name, "
            "or, if both are an optimizer's, build them under one paddle.utils.unique_name.guard()"
        )


def blocks_of(program: Any) -> Iterator[Any]:
    """Yield all blocks of a PIR program, inner ones before those around them."""

    def inside(block: Any) -> Iterator[Any]:
        for operation in block.ops:
            for inner in operation.blocks():
                yield from inside(inner)
        yield block

    yield from inside(program.global_block())


def initializes(startup: Any, name: str) -> bool:
    """Tell whether a startup program writes a variable."""
    if isinstance(startup, framework.Program):
        return any(name in op.output_arg_names for op in startup.global_block().ops)
    return any(
        op.name() in _WRITTEN and op.attrs()[_WRITTEN[op.name()]] == name
        for op in startup.global_block().ops
    )


def _current_block() -> Any:
    return paddle.base.libpaddle.pir.get_current_insertion_point().block()


def _around(block: Any) -> list[Any]:
    """A block and those around it."""
    outermost = block.program.global_block()
    blocks = [block]
    while blocks[-1] != outermost:
        blocks.append(blocks[-1].parent_block)
    return blocks
