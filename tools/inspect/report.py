"""Inspections as text for people: blocks of lines, which a terminal shows in colours."""

from __future__ import annotations

import difflib
import re
from collections.abc import Iterable, Iterator
from dataclasses import dataclass

from radam_codegen.tools.inspect.assembly import HotLoop
from radam_codegen.tools.inspect.model import (
    BodyTraffic,
    InspectedKernel,
    Inspection,
    Stage,
)

__all__ = ["SECTIONS", "Block", "blocks", "loop_title", "plain_text"]

#: What can be shown besides the overview.
SECTIONS = ("passes", "diff", "source", "asm")

_KINDS = {
    "plan": "plan",
    "program": "saved program",
    "bundle": "folder",
    "entry": "cache entry",
}
#: Where the comment on an instruction begins.
_COMMENT_COLUMN = 41


@dataclass(frozen=True)
class Block:
    """Lines of one kind: ``"title"``, ``"text"``, ``"ir"``, ``"diff"``, ``"source"``, ``"asm"``."""

    kind: str
    lines: tuple[str, ...]


def plain_text(inspection: Inspection, sections: Iterable[str] = ()) -> str:
    """The inspection as text without colours.

    Args:
        inspection: What to show.
        sections: Which of :data:`SECTIONS`; the overview when there are none.
    """
    shown = ("\n".join(block.lines) for block in blocks(inspection, sections))
    return "\n\n".join(shown) + "\n"


def blocks(inspection: Inspection, sections: Iterable[str] = ()) -> Iterator[Block]:
    """The inspection, block by block."""
    wanted = tuple(sections)
    if not wanted:
        yield from _overview(inspection)
        return
    for kernel in inspection.kernels:
        if "passes" in wanted or "diff" in wanted:
            yield from _passes(kernel, only_changes="diff" in wanted)
        if "source" in wanted:
            yield from _source(kernel)
        if "asm" in wanted:
            yield from _assembly(kernel)


# ---- Overview -----------------------------------------------------------------------------------


def _overview(inspection: Inspection) -> Iterator[Block]:
    if inspection.kind != "name":
        yield Block("title", (f"{_KINDS[inspection.kind]} {inspection.target}",))
    for numbers in inspection.numbers:
        if numbers.title not in ("plan", "program"):
            yield Block("title", (numbers.title,))
        yield Block("text", tuple(numbers.text.splitlines()))
    for kernel in inspection.kernels:
        yield Block("text", tuple(_kernel_lines(kernel)))
    if inspection.problems:
        yield Block("text", ("not shown:", *(f"  {each}" for each in inspection.problems)))


def _kernel_lines(kernel: InspectedKernel) -> Iterator[str]:
    yield f"kernel {kernel.name}"
    entry = kernel.entry
    if entry is not None:
        yield f"  key:      {entry.key}"
        yield f"  folder:   {entry.folder}"
        yield f"  files:    {'as they were built' if entry.fault is None else entry.fault}"
        yield f"  compiled: for {entry.cpu or 'a CPU that is not said'}"
        yield f"  by:       {entry.compiler or 'a compiler that is not said'}"
    source = kernel.source
    same = "as this version renders it" if source.as_rendered else "NOT as this version renders it"
    yield f"  source:   {len(source.lines)} lines of {source.language}, {same}"
    yield f"  clip:     {kernel.structure.clip}"
    yield f"  skip by found_inf: {'yes' if kernel.structure.skip else 'no'}"
    for body, traffic, each in zip(kernel.ir.bodies, kernel.traffic, kernel.structure.classes):
        master = ", master weight float32" if each.master else ""
        yield f"  class {each.name}"
        yield (
            f"    param {each.param_dtype}, grad {each.grad_dtype}, "
            f"moments {each.moment_dtype}{master}, decay {each.decay}"
        )
        yield (
            f"    operations: {len(body.reduce)} reduce, {len(body.scalar)} scalar, "
            f"{len(body.each)} each"
        )
        yield f"    bytes per element: {_traffic(traffic)}"


def _traffic(traffic: BodyTraffic) -> str:
    moved, floor = traffic.ir, traffic.floor
    phases = f"{moved.each}"
    if moved.reduce:
        phases = f"{moved.reduce} reduce + {moved.each} each = {moved.total}"
    return f"{phases}; the floor is {floor.total}"


# ---- Passes -------------------------------------------------------------------------------------


def _passes(kernel: InspectedKernel, *, only_changes: bool) -> Iterator[Block]:
    yield Block("title", (f"passes of {kernel.title}",))
    before: Stage | None = None
    for number, stage in enumerate(kernel.stages):
        yield Block("title", (f"[{number}] {stage.name}", f"    {_stage(stage, number)}"))
        if before is not None and only_changes and stage.changed:
            yield Block("diff", tuple(changes(before.text, stage.text)))
        elif stage.changed:
            yield Block("ir", tuple(stage.text.splitlines()))
        before = stage


def _stage(stage: Stage, number: int) -> str:
    if number == 0:
        return stage.summary
    if not stage.changed:
        return f"{stage.summary} Nothing to do here."
    return f"{stage.summary} {'Keeps every bit.' if stage.exact else 'Moves roundings.'}"


def changes(before: str, after: str) -> list[str]:
    """A unified diff without a header."""
    found = difflib.unified_diff(before.splitlines(), after.splitlines(), lineterm="", n=2)
    return list(found)[2:]


# ---- Source -------------------------------------------------------------------------------------


def _source(kernel: InspectedKernel) -> Iterator[Block]:
    source = kernel.source
    note = "" if source.as_rendered else ", not as this version renders it"
    yield Block("title", (f"source of {kernel.title}: {source.language}{note}",))
    lines = []
    for line in source.lines:
        if line.op is not None:
            lines.append(f"   IR | {line.op}")
        lines.append(f"{line.number:5} | {line.text}".rstrip())
    yield Block("source", tuple(lines))


# ---- Machine code -------------------------------------------------------------------------------


def _assembly(kernel: InspectedKernel) -> Iterator[Block]:
    assembly = kernel.assembly
    if assembly is None:
        return
    yield Block("title", (f"machine code of {kernel.title}", f"    {assembly.origin}"))
    if not assembly.loops:
        return
    floors = {traffic.body: traffic for traffic in kernel.traffic}
    for loop in assembly.loops:
        if loop.is_main:
            yield Block("title", (loop_title(loop),))
            yield Block("text", tuple(_counts(loop, floors.get(loop.body or ""))))
            yield Block("asm", tuple(_instructions(loop, kernel)))
    if assembly.merged:
        names = (f"  {phase} {body}" for phase, body in assembly.merged)
        yield Block("text", ("without a loop of its own, as it is the same as another's:", *names))
    rest = [loop for loop in assembly.loops if not loop.is_main]
    if rest:
        yield Block("text", ("other loops, for what the main loops leave:", *map(_rest, rest)))


def loop_title(loop: HotLoop) -> str:
    """What a loop is for, and how it computes."""
    width = f"{loop.counts.vector_bits}-bit vectors" if loop.counts.vector_bits else "scalars"
    count = loop.counts.elements
    return (
        f"{loop.phase} {loop.body or '(of a class that is not known)'}: {width}, "
        f"{count} element{'s' if count > 1 else ''} per iteration"
    )


def _counts(loop: HotLoop, traffic: BodyTraffic | None) -> Iterator[str]:
    counts = loop.counts
    rows = [
        ("instructions", counts.instructions, ""),
        ("loads", counts.loads, f"{counts.loaded_bytes} bytes"),
        ("stores", counts.stores, f"{counts.stored_bytes} bytes"),
        ("fma", counts.fma, ""),
        ("sqrt", counts.sqrt, ""),
        ("div", counts.div, ""),
        ("spills: loads", counts.spill_loads, ""),
        ("spills: stores", counts.spill_stores, ""),
        ("loads of scalars", counts.scalar_loads, ""),
        ("calls", len(counts.calls), ", ".join(sorted(set(counts.calls)))),
    ]
    yield f"  {'':18}{'per iteration':>14}{'per element':>13}"
    for name, number, note in rows:
        line = f"  {name:18}{number:14}{number / counts.elements:13.4g}"
        yield f"{line}   {note}" if note else line
    moved = f"  {'bytes moved':18}{counts.loaded_bytes + counts.stored_bytes:14}"
    moved += f"{counts.bytes_per_element:13.4g}"
    if traffic is not None:
        floor = traffic.floor.reduce if loop.phase == "reduce" else traffic.floor.each
        moved += f"   the floor is {floor}"
    yield moved


def _instructions(loop: HotLoop, kernel: InspectedKernel) -> Iterator[str]:
    lines = {line.number: line for line in kernel.source.lines}
    before = None
    for each in loop.instructions:
        text = f"  {each.mnemonic:13} {each.operands}".rstrip()
        line = lines.get(each.line or 0)
        if line is not None and line.op is not None and each.line != before:
            text = f"{text.ljust(_COMMENT_COLUMN)} # {line.number} {_short(line.op)}"
        before = each.line
        yield text


def _short(op: str) -> str:
    """An operation without types and operands: ``%moment1_out fma``."""
    return re.sub(r":[^=]*=", "", op).partition("(")[0].partition(",")[0]


def _rest(loop: HotLoop) -> str:
    counts = loop.counts
    return (
        f"  {loop_title(loop)};\n    {counts.instructions} instructions, "
        f"{counts.bytes_per_element:.4g} bytes per element, {counts.spill_loads} + "
        f"{counts.spill_stores} spills, {len(counts.calls)} calls"
    )
