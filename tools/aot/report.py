"""How making a bundle shows itself."""

from __future__ import annotations

import contextlib
import shlex
from collections.abc import Iterator
from typing import Callable

from rich.console import Console
from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeRemainingColumn

from radam_codegen.tools.aot.result import AotResult

__all__ = ["progress", "summary"]


@contextlib.contextmanager
def progress(console: Console) -> Iterator[Callable[[int, int, str], None]]:
    """Show a bar on a terminal, and a line per library elsewhere."""
    if not console.is_terminal:

        def line(done: int, total: int, text: str) -> None:
            # No wrapping: names are long, and a log is searched by line.
            console.print(f"[{done}/{total}] {text}", markup=False, highlight=False, soft_wrap=True)

        yield line
        return
    columns = (
        BarColumn(),
        MofNCompleteColumn(),
        TimeRemainingColumn(),
        TextColumn("{task.fields[last]}"),
    )
    with Progress(*columns, console=console, transient=True) as bar:
        task = bar.add_task("", total=None, last="")

        def move(done: int, total: int, text: str) -> None:
            bar.update(task, completed=done, total=total, last=text)

        yield move


def summary(result: AotResult) -> str:
    """The result in a few lines."""
    parts = []
    if result.kernels or not result.cuda_kernels:
        text = _count(len(result.kernels), "kernel")
        if result.cpus and result.kernels:
            libraries = _count(result.variants, "library", "libraries")
            text = f"{text} for {', '.join(result.cpus)} ({libraries})"
        parts.append(text)
    if result.cuda_kernels:
        text = _count(len(result.cuda_kernels), "CUDA kernel")
        if result.architectures:
            text += f" for {', '.join(f'sm_{each}' for each in result.architectures)}"
        parts.append(text)
    if result.operator:
        parts.append(f"the operator for Paddle {result.operator}")
    if not result.standalone:
        parts.append(f"{result.compiled} compiled now")
    parts.append(f"{result.size / 2**20:.1f} MiB in all")
    parts.append(f"{result.seconds:.1f} s")
    lines = [f"{result.folder}: {', '.join(parts)}"]
    if result.note:
        lines.append(result.note)
    if result.failures:
        failed = dict.fromkeys(f"{each.name} {each.cpu}".rstrip() for each in result.failures)
        lines.append(f"could not be compiled: {', '.join(failed)}")
    if not result.standalone:
        lines.append(f"To use it: export RADAM_CODEGEN_AOT={shlex.quote(str(result.folder))}")
    return "\n".join(lines)


def _count(count: int, one: str, many: str | None = None) -> str:
    return f"{count} {one if count == 1 else many or f'{one}s'}"
