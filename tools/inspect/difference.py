"""What differs between two targets: kernel by kernel, and the IR before what is made from it."""

from __future__ import annotations

import json
from collections.abc import Iterator, Sequence
from dataclasses import asdict, dataclass, fields
from typing import Any

from radam_codegen.tools.inspect.assembly import HotLoop
from radam_codegen.tools.inspect.model import InspectedKernel, Inspection
from radam_codegen.tools.inspect.report import Block, changes, loop_title

__all__ = ["Difference", "Part", "compare"]


@dataclass(frozen=True)
class Part:
    """One thing that differs.

    Attributes:
        kernel: The kernel, or both; None for what belongs to no one kernel.
        what: ``"kernels"``, ``"numbers"``, ``"structure"``, ``"IR"``, ``"source"``,
            ``"machine code"``.
        lines: The difference, as lines that begin with ``-`` (only in the first), ``+`` (only in
            the second) or a space.
    """

    kernel: str | None
    what: str
    lines: tuple[str, ...]


@dataclass(frozen=True)
class Difference:
    """All that differs between two targets.

    Attributes:
        first: The first target.
        second: The second target.
        parts: What differs; empty where nothing does.
        notes: What could not be compared, in a line each.
    """

    first: str
    second: str
    parts: tuple[Part, ...]
    notes: tuple[str, ...] = ()

    @property
    def is_empty(self) -> bool:
        """Whether nothing differs."""
        return not self.parts

    def to_json(self) -> str:
        """Everything as JSON text; equal differences give equal text."""
        document: dict[str, Any] = {
            "format": "radam_codegen.difference",
            "version": 1,
            "equal": self.is_empty,
            **asdict(self),
        }
        return json.dumps(document, indent=1, sort_keys=True, allow_nan=False) + "\n"

    def blocks(self) -> Iterator[Block]:
        """The difference to be shown."""
        if self.is_empty:
            yield Block("text", ("no difference",))
        else:
            yield Block("title", (f"--- {self.first}", f"+++ {self.second}"))
        for part in self.parts:
            about = "" if part.kernel is None else f" of {part.kernel}"
            yield Block("title", (f"{part.what}{about}",))
            yield Block("diff", part.lines)
        if self.notes:
            yield Block("text", self.notes)

    def __str__(self) -> str:
        return "\n\n".join("\n".join(block.lines) for block in self.blocks()) + "\n"


def compare(first: Inspection, second: Inspection) -> Difference:
    """Compare two targets.

    Kernels are matched by name, in their order where there are several of one name; what has no
    match is compared with what else has none.
    """
    parts: list[Part] = []
    notes: list[str] = []
    pairs, only_first, only_second = _pairs(first.kernels, second.kernels)
    if only_first or only_second:
        lines = [f"-{each.title}" for each in only_first]
        lines += [f"+{each.title}" for each in only_second]
        parts.append(Part(None, "kernels", tuple(lines)))
    if first.numbers and second.numbers:
        # Names and shapes are compared where both targets have them.
        what = "launches" if "program" in (first.kind, second.kind) else "text"
        before, after = (
            "\n".join(getattr(each, what) for each in one.numbers) for one in (first, second)
        )
        if before != after:
            parts.append(Part(None, "numbers", tuple(changes(before, after))))
    for one, other in pairs:
        parts.extend(_kernel(one, other, notes))
    return Difference(first.target, second.target, tuple(parts), tuple(dict.fromkeys(notes)))


def _pairs(
    first: Sequence[InspectedKernel], second: Sequence[InspectedKernel]
) -> tuple[
    list[tuple[InspectedKernel, InspectedKernel]], list[InspectedKernel], list[InspectedKernel]
]:
    pairs, left, right = [], [], list(second)
    for one in first:
        match = next((each for each in right if _label(each) == _label(one)), None)
        match = match or next((each for each in right if each.name == one.name), None)
        if match is None:
            left.append(one)
        else:
            right.remove(match)
            pairs.append((one, match))
    if len(left) == len(right) == 1:
        return [*pairs, (left[0], right[0])], [], []
    return pairs, left, right


def _label(kernel: InspectedKernel) -> tuple[str, str]:
    return (kernel.name, "" if kernel.entry is None else kernel.entry.cpu)


def _kernel(one: InspectedKernel, other: InspectedKernel, notes: list[str]) -> Iterator[Part]:
    title = one.title if one.title == other.title else f"{one.title} and {other.title}"
    texts = (
        ("structure", _structure(one), _structure(other)),
        ("IR", one.stages[-1].text, other.stages[-1].text),
        ("source", _source(one), _source(other)),
    )
    for what, before, after in texts:
        if before != after:
            yield Part(title, what, tuple(changes(before, after)))
    if one.assembly is None or other.assembly is None:
        return
    if not one.assembly.loops or not other.assembly.loops:
        for kernel in (one, other):
            if kernel.assembly is not None and not kernel.assembly.loops:
                notes.append(f"{kernel.title} has no machine code here: {kernel.assembly.origin}")
        return
    before, after = (_loops(each.assembly.loops) for each in (one, other) if each.assembly)
    if before != after:
        yield Part(title, "machine code", tuple(changes(before, after)))


def _structure(kernel: InspectedKernel) -> str:
    structure = kernel.structure
    lines = [f"clip: {structure.clip}", f"skip by found_inf: {structure.skip}"]
    for each in structure.classes:
        lines.append(
            f"class {each.name}: param {each.param_dtype}, grad {each.grad_dtype}, "
            f"moments {each.moment_dtype}, master {each.master}, decay {each.decay}"
        )
    return "\n".join(lines)


def _source(kernel: InspectedKernel) -> str:
    return "\n".join(line.text for line in kernel.source.lines)


def _loops(loops: Sequence[HotLoop]) -> str:
    """The counts of every loop. The instructions themselves differ by addresses alone, too."""
    lines = []
    for loop in loops:
        lines.append(f"{'main loop' if loop.is_main else 'loop'}, {loop_title(loop)}")
        lines.extend(
            f"  {each.name}: {getattr(loop.counts, each.name)}" for each in fields(loop.counts)
        )
        lines.append(f"  bytes_per_element: {loop.counts.bytes_per_element:.4g}")
    return "\n".join(lines)
