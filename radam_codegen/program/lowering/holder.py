"""The state of a lowered program, kept as an optimizer keeps its own."""

from __future__ import annotations

from collections.abc import Iterable

from paddle.base import unique_name
from paddle.optimizer import Optimizer

from radam_codegen.frontend.groups import GroupOptions, Groups, GroupSettings
from radam_codegen.program.state import StateMaker

__all__ = ["Holder", "reserve_names"]


class Holder(Optimizer):  # type: ignore[misc]
    """What :class:`StateMaker` needs of an optimizer, where the program has none any more."""

    def __init__(self) -> None:
        super().__init__(learning_rate=0.0)
        self.type = "radam_codegen"
        self._state = StateMaker(self)
        self._groups = Groups(GroupSettings((GroupOptions(0.0, 0.0, 0.0, None, None),)))


def reserve_names(names: Iterable[str]) -> None:
    """Have Paddle not give any of these names to the next variable that it makes.

    In a process that loads a program, Paddle begins to count anew.
    """
    generator = unique_name.generator
    for name in names:
        prefix, _, number = name.removeprefix(generator.prefix).rpartition("_")
        if prefix and number.isdecimal():
            generator.ids[prefix] = max(generator.ids[prefix], int(number) + 1)
