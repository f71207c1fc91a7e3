"""``radam-codegen lower``."""

from __future__ import annotations

import json
from pathlib import Path

import click

from radam_codegen.tools.paths import GivenPath

__all__ = ["lower"]


@click.command()
@click.argument("prefix", type=GivenPath(path_type=Path))
@click.option(
    "--out",
    required=True,
    type=GivenPath(path_type=Path),
    help="As what to save the lowered program and its state.",
)
@click.option(
    "--startup",
    type=GivenPath(path_type=Path, exists=True, dir_okay=False),
    help="The startup program, saved by paddle.save; it becomes OUT.startup and the suffix.",
)
@click.option(
    "--steps",
    type=click.IntRange(min=0),
    default=0,
    show_default=True,
    help="How many steps to time before and after; a few more are not counted.",
)
@click.option(
    "--feed",
    type=GivenPath(path_type=Path, exists=True, dir_okay=False),
    help="Arrays for these steps, an .npz file with the names of the program's data; what is "
    "missing is made up.",
)
@click.option("--json", "as_json", is_flag=True, help="Print the report as JSON.")
def lower(
    prefix: Path, out: Path, startup: Path | None, steps: int, feed: Path | None, as_json: bool
) -> None:
    """Replace the native RAdam updates of a saved program by fused steps.

    PREFIX is what was given to paddle.static.save, in either IR of Paddle. A program that was
    trained goes on where it is: its parameters and its state (.pdparams, .pdopt) are taken along,
    the state in the form that fused steps have. A process that loads the result calls
    radam_codegen.load_operator() first.

    Exit status: 0 lowered, 1 there was nothing to lower or it failed, 2 bad arguments.
    """
    from radam_codegen.tools.lower.run import lower_saved

    report = lower_saved(prefix, out, startup, steps, feed)
    click.echo(json.dumps(report.to_json(), indent=2) if as_json else str(report))
    if not report.steps:
        raise click.exceptions.Exit(1)
