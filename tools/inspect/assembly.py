"""Counting what matters in the hot loops of a kernel's machine code.

The hot loops are the innermost loops that work on elements: in phase ``each`` they take the one
square root that every element needs, in phase ``reduce`` they square and add. That root, or that
sum, also says how many elements an iteration covers.
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass

from radam_codegen.tools.inspect import x86
from radam_codegen.tools.inspect.listing import Instruction, Routine, innermost_loops

__all__ = ["HotLoop", "LoopCounts", "count", "hot_loops"]

_STACK = "%rsp"


@dataclass(frozen=True)
class LoopCounts:
    """What one iteration of a loop does.

    Attributes:
        vector_bits: Width of the vectors that it computes in; 0 where it computes in scalars.
        elements: Elements that it covers.
        instructions: All instructions.
        loads: Instructions that read arrays.
        stores: Instructions that write arrays.
        loaded_bytes: Bytes of arrays that are read, each counted once however often it is read.
        stored_bytes: Bytes of arrays that are written.
        fma: Instructions that multiply and add.
        sqrt: Instructions that take roots.
        div: Instructions that divide.
        spill_loads: Reads from the stack.
        spill_stores: Writes to the stack.
        scalar_loads: Reads from an address that is the same in every iteration, constants included.
        calls: Functions that are called.
    """

    vector_bits: int
    elements: int
    instructions: int
    loads: int
    stores: int
    loaded_bytes: int
    stored_bytes: int
    fma: int
    sqrt: int
    div: int
    spill_loads: int
    spill_stores: int
    scalar_loads: int
    calls: tuple[str, ...]

    @property
    def bytes_per_element(self) -> float:
        """Bytes of arrays that move between memory and registers, per element."""
        return (self.loaded_bytes + self.stored_bytes) / self.elements


@dataclass(frozen=True)
class HotLoop:
    """An innermost loop over elements.

    Attributes:
        phase: ``"each"`` or ``"reduce"``.
        body: Class of tensors that it updates; None where nothing says which.
        is_main: Whether it covers the most elements per iteration among the loops of its phase and
            body; the others finish what that one leaves.
        counts: What one iteration does.
        instructions: The loop.
    """

    phase: str
    body: str | None
    is_main: bool
    counts: LoopCounts
    instructions: tuple[Instruction, ...]


def hot_loops(
    routines: Iterable[Routine],
    bodies: Sequence[str],
    places: Mapping[int, tuple[str, str]] | None = None,
) -> tuple[HotLoop, ...]:
    """Find and count the loops over elements.

    Args:
        routines: The machine code.
        bodies: Names of the kernel's classes of tensors.
        places: Phase and body of each line of the source that implements an operation on elements;
            used where the instructions know their lines.

    Returns:
        The loops, phase by phase and body by body, the main loop of each first.
    """
    found: list[tuple[str, str | None, LoopCounts, tuple[Instruction, ...]]] = []
    for routine in routines:
        frame = _has_frame(routine)
        for loop in innermost_loops(routine):
            place = _place(routine.name, loop, bodies, places or {})
            if place is None:
                continue
            counts = count(loop, place[0], frame=frame)
            if counts is not None:
                found.append((*place, counts, loop))
    order = {"reduce": 0, "each": 1}
    rank = {name: number for number, name in enumerate(bodies)}
    found.sort(key=lambda each: (order[each[0]], rank.get(each[1] or "", -1), -each[2].elements))
    most: dict[tuple[str, str | None], int] = {}
    for phase, body, counts, _ in found:
        most[phase, body] = max(most.get((phase, body), 0), counts.elements)
    return tuple(
        HotLoop(phase, body, counts.elements == most[phase, body], counts, loop)
        for phase, body, counts, loop in found
    )


def count(loop: Sequence[Instruction], phase: str, *, frame: bool = False) -> LoopCounts | None:
    """Count what one iteration of a loop does.

    Args:
        loop: The instructions.
        phase: ``"each"`` or ``"reduce"``, which says what an element is recognized by.
        frame: Whether ``%rbp`` points into the stack.

    Returns:
        The counts; None where the loop does not work on elements.
    """
    kinds = [x86.operation(each) for each in loop]
    mark = "sqrt" if phase == "each" else "add"
    elements = sum(x86.lanes(each) for each, kind in zip(loop, kinds) if kind == mark)
    if elements == 0 or (phase == "reduce" and "mul" not in kinds):
        return None
    memory = _Memory(loop, {_STACK, "%rbp"} if frame else {_STACK})
    if not memory.loads:
        return None
    widths = [
        x86.register_width(each)
        for each, kind in zip(loop, kinds)
        if kind is not None and re.search(r"p[sd]$", each.mnemonic)
    ]
    return LoopCounts(
        vector_bits=max(widths, default=0),
        elements=elements,
        instructions=len(loop),
        loads=memory.loads,
        stores=memory.stores,
        loaded_bytes=_covered(memory.loaded),
        stored_bytes=_covered(memory.stored),
        fma=kinds.count("fma"),
        sqrt=kinds.count("sqrt"),
        div=kinds.count("div"),
        spill_loads=memory.spill_loads,
        spill_stores=memory.spill_stores,
        scalar_loads=memory.scalar_loads,
        calls=tuple(_callee(each) for each in loop if x86.is_call(each)),
    )


class _Memory:
    """The accesses of one iteration, by what they touch."""

    def __init__(self, loop: Sequence[Instruction], stack: set[str]) -> None:
        self.loads = self.stores = 0
        self.spill_loads = self.spill_stores = self.scalar_loads = 0
        #: Ranges of bytes, by the registers that they are counted from.
        self.loaded: dict[object, list[tuple[int, int]]] = {}
        self.stored: dict[object, list[tuple[int, int]]] = {}
        changed = {x86.written_register(each) for each in loop}
        # What constants were added to a register since the iteration began, and how often it was
        # set to something else: an address is the same where both are accounted for.
        added: dict[str, int] = {}
        renewed: dict[str, int] = {}
        for each in loop:
            touched = x86.access(each)
            if touched is not None:
                if touched.base in stack:
                    self.spill_loads += touched.loads
                    self.spill_stores += touched.stores
                elif not {touched.base, touched.index} & changed:
                    self.scalar_loads += touched.loads
                else:
                    self._array(touched, added, renewed)
            register = x86.written_register(each)
            if register is not None:
                step = x86.constant_step(each)
                if step is None:
                    renewed[register] = renewed.get(register, 0) + 1
                else:
                    added[register] = added.get(register, 0) + step

    def _array(self, touched: x86.Access, added: dict[str, int], renewed: dict[str, int]) -> None:
        base, index = touched.base, touched.index
        start = touched.offset + added.get(base, 0) + touched.scale * added.get(index, 0)
        key = (base, renewed.get(base), index, renewed.get(index), touched.scale)
        span = (start, start + touched.size)
        if touched.loads:
            self.loads += 1
            self.loaded.setdefault(key, []).append(span)
        if touched.stores:
            self.stores += 1
            self.stored.setdefault(key, []).append(span)


def _covered(ranges: Mapping[object, list[tuple[int, int]]]) -> int:
    """Bytes in at least one of the ranges."""
    total = 0
    for spans in ranges.values():
        end: int | None = None
        for first, last in sorted(spans):
            start = first if end is None else max(first, end)
            total += max(0, last - start)
            end = last if end is None else max(end, last)
    return total


def _has_frame(routine: Routine) -> bool:
    return any(
        each.mnemonic in ("mov", "movq") and each.operands.replace(" ", "") == "%rsp,%rbp"
        for each in routine.instructions
    )


def _place(
    routine: str,
    loop: Sequence[Instruction],
    bodies: Sequence[str],
    places: Mapping[int, tuple[str, str]],
) -> tuple[str, str | None] | None:
    """Phase and body of a loop: by its lines, else by the routine that it is in."""
    lines = [places[each.line] for each in loop if each.line in places and each.line is not None]
    if lines:
        return max(sorted(set(lines)), key=lines.count)
    if places and any(each.line is not None for each in loop):
        return None
    # What a compiler made of a function, such as each.part.0; and the same code with an instruction
    # that not every CPU has.
    name = routine.partition(".")[0].removesuffix("_with_fma")
    if name == "update_chunks":
        name = "each"
    for phase in ("each", "reduce"):
        for body in bodies:
            if name == f"{body}_{phase}":
                return phase, body
        if name == phase:
            return phase, bodies[0] if len(bodies) == 1 else None
    return None


def _callee(each: Instruction) -> str:
    """The function's name: ``fmaf`` for ``fmaf@PLT`` and for ``1030 <fmaf@plt>``."""
    found = re.search(r"<([^>]+)>", each.operands)
    name = found.group(1) if found is not None else each.operands
    return re.sub(r"@plt$", "", name, flags=re.I)
