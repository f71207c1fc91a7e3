"""The report for people, in the terminal."""

from __future__ import annotations

from collections.abc import Sequence

from rich import box
from rich.console import Console
from rich.table import Table
from rich.text import Text

from radam_codegen.tools.bench.bounds import Finding, violated
from radam_codegen.tools.bench.report import Report
from radam_codegen.tools.bench.rows import (
    Grid,
    check_grid,
    machine_lines,
    memory_grid,
    network_grids,
    startup_grid,
    suite_grids,
)

__all__ = ["print_check", "print_report"]

#: Words and colours both, so that neither is needed.
_STYLES = {"holds": "green", "VIOLATED": "bold red", "not measured": "yellow"}


def print_report(console: Console, report: Report) -> None:
    """Print everything that a report has."""
    for line in machine_lines(report):
        console.print(Text(line))
    grids = [
        *suite_grids(report),
        *network_grids(report),
        *startup_grid(report),
        *memory_grid(report),
    ]
    for grid in grids:
        _print_grid(console, grid)


def print_check(console: Console, findings: Sequence[Finding]) -> None:
    """Print what must hold, and whether it does."""
    _print_grid(console, check_grid(findings))
    broken = violated(list(findings))
    unknown = sum(finding.holds is None for finding in findings)
    text = f"{len(findings) - len(broken) - unknown} of {len(findings)} bounds hold"
    if unknown:
        text += f", {unknown} were not measured"
    console.print(Text(f"{text}, {len(broken)} are violated.", "bold red" if broken else "bold"))


def _print_grid(console: Console, grid: Grid) -> None:
    table = Table(
        title=Text(grid.title),
        box=box.SIMPLE_HEAD,
        title_justify="left",
        title_style="bold",
        pad_edge=False,
    )
    for number, column in enumerate(grid.columns):
        table.add_column(column, justify="left" if number == 0 else "right", overflow="fold")
    for row in grid.rows:
        table.add_row(*(Text(cell, _STYLES.get(cell, "")) for cell in row))
    console.print(table)
    for note in grid.notes:
        console.print(Text(note, "yellow"))
