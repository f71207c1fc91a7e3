"""Blocks as operators and the values between them, in the same words for both IRs.

Only what lowering asks for is here: who makes and who reads a value, where an operator stands, and
which memory it touches. Operators that matter have neutral names (``sum`` is ``pd_op.add_n`` in PIR
and ``sum`` in the legacy IR); all others are there for what they read and write.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from functools import cached_property
from typing import Any

__all__ = ["Block", "Flow", "Operator", "nothing"]


@dataclass(eq=False)
class Flow:
    """One value: what an operator wrote, up to where the next one writes the same memory."""

    #: ``paddle.pir.Value``, or the variable in the legacy IR.
    handle: Any
    #: Name of the memory behind it; equal names are one memory.
    storage: str
    #: None where it comes from outside of the block, or from a run before.
    maker: Operator | None = None
    readers: list[Operator] = field(default_factory=list)
    #: Why it may be seen by others than its readers; empty where it cannot.
    kept: str = ""

    @property
    def name(self) -> str:
        """The variable's name, or a text that stands for a value without one."""
        return self.storage

    @property
    def shape(self) -> tuple[int, ...]:
        """Extents; -1 where they are known only when the program runs."""
        return tuple(int(extent) for extent in self.handle.shape)


def nothing() -> Mapping[str, Any]:
    """Attributes of an operator that has none of interest."""
    return {}


@dataclass(eq=False)
class Operator:
    """One operator of a block."""

    #: ``paddle.pir.Operation`` or ``framework.Operator``.
    operation: Any
    #: The IR's own name.
    name: str
    #: Neutral name, or empty.
    kind: str
    position: int
    inputs: dict[str, tuple[Flow, ...]] = field(default_factory=dict)
    outputs: tuple[Flow, ...] = ()
    #: Memory that it reads and writes, its inner blocks included.
    reads: frozenset[str] = frozenset()
    writes: frozenset[str] = frozenset()
    read_numbers: Callable[[], Mapping[str, Any]] = nothing
    #: Whether it is the update of a parameter by any optimizer.
    updates: bool = False

    @property
    def numbers(self) -> Mapping[str, Any]:
        """Numbers that it was given, constant operands among them; None for one that varies."""
        return self.read_numbers()

    def one(self, name: str) -> Flow | None:
        """The single value of an input, None where there is none or are several."""
        found = self.inputs.get(name, ())
        return found[0] if len(found) == 1 else None

    @property
    def result(self) -> Flow:
        """The first value that it makes."""
        return self.outputs[0]


@dataclass(eq=False)
class Block:
    """One block with updates in it."""

    #: ``paddle.pir.Block`` or ``framework.Block``.
    handle: Any
    index: int
    operators: Sequence[Operator]

    def between(self, first: int, last: int) -> Sequence[Operator]:
        """Operators whose position is above ``first`` and below ``last``."""
        return self.operators[first + 1 : last]

    def writers(self, storage: str, first: int, last: int) -> Iterator[Operator]:
        """Those among them that write a memory."""
        return (op for op in self._writers.get(storage, ()) if first < op.position < last)

    @cached_property
    def _writers(self) -> dict[str, list[Operator]]:
        found: dict[str, list[Operator]] = {}
        for op in self.operators:
            for storage in op.writes:
                found.setdefault(storage, []).append(op)
        return found
