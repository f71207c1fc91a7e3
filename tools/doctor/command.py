"""``radam-codegen doctor``."""

from __future__ import annotations

import json

import click

__all__ = ["doctor"]

#: Where there is no terminal to say how wide it is.
_WIDTH = 120


@click.command()
@click.option("--json", "as_json", is_flag=True, help="Print the report as JSON.")
def doctor(as_json: bool) -> None:
    """Look at what this machine has, train in earnest, and say what to do about each finding.

    Exit status: 0 training works (there may be warnings), 1 it would fail, 2 bad arguments.
    """
    from rich.console import Console

    from radam_codegen.tools.doctor.report import print_report
    from radam_codegen.tools.doctor.run import examine

    progress = Console(stderr=True)
    with progress.status("Looking") as status:
        report = examine(lambda title: status.update(f"Looking at: {title}"))
    if as_json:
        click.echo(json.dumps(report.to_json(), indent=2))
    else:
        console = Console(highlight=False)
        if not console.is_terminal:
            console = Console(highlight=False, width=_WIDTH)
        print_report(console, report)
    if not report.healthy:
        raise click.exceptions.Exit(1)
