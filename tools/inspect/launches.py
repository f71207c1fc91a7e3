"""The launches of a saved program as text. It names no parameters, as the program does not."""

from __future__ import annotations

from collections.abc import Sequence
from itertools import groupby

from radam_codegen.ir.launch import LaunchSpec, TensorNumbers
from radam_codegen.ir.plan import ClipKind, DecayKind

__all__ = ["launches_text"]


def launches_text(launches: Sequence[LaunchSpec]) -> str:
    """Return every number of every launch; neighbours with equal numbers are counted."""
    count = len(launches)
    parts = [f"program: {count} launch{'es' if count != 1 else ''}\n"]
    parts.extend(_launch(number, launch) for number, launch in enumerate(launches))
    return "\n".join(parts)


def _launch(number: int, launch: LaunchSpec) -> str:
    numbers, count = launch.numbers, len(launch.tensors)
    lines = [
        f"launch {number}: {count} tensor{'s' if count != 1 else ''}",
        f"  kernel:  {launch.structure.name}",
        f"  beta1:   {numbers.beta1!r}",
        f"  beta2:   {numbers.beta2!r}",
        f"  epsilon: {numbers.epsilon!r}",
        f"  clip:    {_clip(launch)}",
        f"  skip by found_inf: {'yes' if launch.structure.skip else 'no'}",
    ]
    rows: list[tuple[str, ...]] = [("tensors", "class", "lr_scale", "decay", "clipped")]
    rows.extend(_row(launch, len(list(run)), each) for each, run in groupby(launch.tensors))
    widths = [max(map(len, column)) for column in zip(*rows)]
    for row in rows:
        cells = (cell.ljust(width) for cell, width in zip(row, widths))
        lines.append(f"  {'  '.join(cells)}".rstrip())
    return "\n".join(lines) + "\n"


def _row(launch: LaunchSpec, count: int, each: TensorNumbers) -> tuple[str, ...]:
    tensor_class = launch.structure.classes[each.body]
    decay = "-"
    if tensor_class.decay is not DecayKind.NONE:
        number = "at run time" if each.decay_at_run_time else repr(each.decay)
        decay = f"{tensor_class.decay} {number}"
    return (
        str(count),
        tensor_class.name,
        repr(each.lr_scale),
        decay,
        "yes" if each.need_clip else "no",
    )


def _clip(launch: LaunchSpec) -> str:
    kind, numbers = launch.structure.clip, launch.numbers
    if kind is ClipKind.NONE:
        return "none"
    if kind is ClipKind.VALUE:
        return f"value to [{numbers.clip_lower!r}, {numbers.clip_bound!r}]"
    return f"{kind} to {numbers.clip_bound!r}"
