"""The report as a page of Markdown."""

from __future__ import annotations

import os
from collections.abc import Sequence
from pathlib import Path

from radam_codegen.codegen.render import environment
from radam_codegen.tools.bench.bounds import check
from radam_codegen.tools.bench.report import Report
from radam_codegen.tools.bench.rows import (
    check_grid,
    machine_lines,
    memory_grid,
    network_grids,
    startup_grid,
    suite_grids,
)

__all__ = ["page_text"]

_TEMPLATE = "report/performance.md.j2"


def page_text(report: Report, folder: Path, pictures: Sequence[tuple[str, Path]] = ()) -> str:
    """Write a report as Markdown.

    Args:
        report: What to write.
        folder: Where the page will lie; links to pictures are relative to it.
        pictures: Title and file of each picture.
    """
    sections = {
        "suites": suite_grids(report),
        "networks": network_grids(report),
        "startup": startup_grid(report),
        "memory": memory_grid(report),
        "bounds": check_grid(check(report)),
    }
    links = [(title, Path(os.path.relpath(path, folder)).as_posix()) for title, path in pictures]
    template = environment().get_template(_TEMPLATE)
    return template.render(machine=machine_lines(report), pictures=links, **sections)
