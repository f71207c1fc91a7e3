"""How the demo shows itself: progress, tables, the start of the kernel, JSON."""

from __future__ import annotations

import re
from dataclasses import asdict
from typing import Any

from rich.console import Console
from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeRemainingColumn
from rich.syntax import Syntax
from rich.table import Table

from radam_codegen.tools.demo.run import DemoResult, Source, run_demo, steps_per_epoch
from radam_codegen.tools.demo.training import Epoch

__all__ = ["kernel_excerpt", "print_result", "run_with_progress", "to_json"]


def run_with_progress(console: Console, *, epochs: int, seed: int) -> DemoResult:
    """Run the demo under a progress bar, or with a line per epoch where there is no terminal."""
    if not console.is_terminal:
        return run_demo(
            epochs=epochs,
            seed=seed,
            on_epoch=lambda number, native, generated: console.print(
                _epoch_line(number, epochs, native, generated), soft_wrap=True
            ),
        )
    columns = (
        TextColumn("{task.description}"),
        BarColumn(),
        MofNCompleteColumn(),
        TextColumn("steps"),
        TimeRemainingColumn(),
    )
    with Progress(*columns, console=console, transient=True) as progress:
        task = progress.add_task("training both", total=epochs * steps_per_epoch())

        def end_epoch(number: int, native: Epoch, generated: Epoch) -> None:
            text = f"accuracy {native.accuracy:.1%} and {generated.accuracy:.1%}"
            if number == epochs:
                text = "measuring startup"
            progress.update(task, description=text)

        return run_demo(
            epochs=epochs, seed=seed, on_step=lambda: progress.advance(task), on_epoch=end_epoch
        )


def print_result(console: Console, result: DemoResult) -> None:
    """Print both tables, then where the generated source is and how its kernel begins."""
    console.print(_epoch_table(result))
    console.print(_cost_table(result))
    console.print(
        "Step: a whole Executor.run (forward, backward, update), median after the first epoch, the "
        "two optimizers in turn. Startup: from minimize until the startup program has run, in a "
        "fresh process; cold with an empty cache, warm with a filled one. Native compiles nothing, "
        "so its one startup stands in both rows."
    )
    for source in result.sources:
        # No markup and no wrapping: a path has to survive being copied.
        console.print(f"\nGenerated {source.language}: {source.path}", markup=False, soft_wrap=True)
        _print_excerpt(console, source)


def kernel_excerpt(text: str, count: int = 20) -> tuple[int, list[str]]:
    """Find the function that updates elements in a generated source.

    Args:
        text: The source.
        count: How many lines to return at most.

    Returns:
        The number of the first line, from 1, and the lines.

    """
    lines = text.splitlines()
    # A definition is a line at the margin with a parameter list and no semicolon after it.
    starts = [
        index
        for index, line in enumerate(lines)
        if re.match(r"(static|void|int|__global__)\b.*\(", line) and ";" not in line
    ]
    each = [index for index in starts if re.search(r"each\w*\s*\(", lines[index])]
    start = (each or starts or [0])[0]
    return start + 1, lines[start : start + count]


def to_json(result: DemoResult) -> dict[str, Any]:
    """Everything in the result but the text of the sources, as JSON takes it."""
    document = asdict(result)
    for source in document["sources"]:
        del source["text"]
    document["agrees"] = result.agrees
    return document


def _print_excerpt(console: Console, source: Source) -> None:
    first, lines = kernel_excerpt(source.text)
    if not console.is_terminal:
        for number, line in enumerate(lines, start=first):
            console.print(f"{number:4}  {line}", markup=False, highlight=False, soft_wrap=True)
        return
    console.print(
        Syntax(
            "\n".join(lines),
            "c" if source.language == "c" else "cuda",
            line_numbers=True,
            start_line=first,
            background_color="default",
            word_wrap=True,
        )
    )


def _epoch_line(number: int, epochs: int, native: Epoch, generated: Epoch) -> str:
    return (
        f"epoch {number}/{epochs}: native loss {native.loss:.4f} accuracy {native.accuracy:.1%}, "
        f"radam_codegen loss {generated.loss:.4f} accuracy {generated.accuracy:.1%}"
    )


def _epoch_table(result: DemoResult) -> Table:
    table = Table(
        title=f"Handwritten digits, {result.parameter_count:,} parameters, "
        f"{'PIR' if result.ir == 'pir' else 'legacy'} static program"
    )
    table.add_column("epoch", justify="right")
    for name in ("native", "radam_codegen"):
        table.add_column(f"{name}\nloss", justify="right")
        table.add_column(f"{name}\ntest accuracy", justify="right")
    both = zip(result.native.epochs, result.generated.epochs)
    for number, (native, generated) in enumerate(both, start=1):
        table.add_row(
            str(number),
            f"{native.loss:.4f}",
            f"{native.accuracy:.1%}",
            f"{generated.loss:.4f}",
            f"{generated.accuracy:.1%}",
        )
    return table


def _cost_table(result: DemoResult) -> Table:
    table = Table()
    table.add_column("")
    table.add_column("native", justify="right")
    table.add_column("radam_codegen", justify="right")
    native, generated = result.native, result.generated
    table.add_row("optimizer state, bytes", f"{native.state_bytes:,}", f"{generated.state_bytes:,}")
    table.add_row(
        "time per step, ms",
        f"{native.step_seconds * 1e3:.2f}",
        f"{generated.step_seconds * 1e3:.2f}",
    )
    if result.startup is not None:
        startup = result.startup
        table.add_row("startup, cold, s", f"{startup.native:.2f}", f"{startup.cold:.2f}")
        table.add_row("startup, warm, s", f"{startup.native:.2f}", f"{startup.warm:.2f}")
    table.add_row("largest parameter difference", "", f"{result.largest_difference:.1e}")
    return table
