"""``radam-codegen verify``."""

from __future__ import annotations

import json

import click

__all__ = ["verify"]


@click.command()
@click.argument("folder")
@click.option(
    "--rebuild",
    is_flag=True,
    help="Compile every source again, and compare the libraries byte by byte.",
)
@click.option(
    "--jobs",
    type=click.IntRange(min=1),
    help="How many compilers run at once.  [default: the CPUs there are]",
)
@click.option("--json", "as_json", is_flag=True, help="Print the report as JSON.")
def verify(folder: str, rebuild: bool, jobs: int | None, as_json: bool) -> None:
    """Verify the compiled files in FOLDER: an ahead-of-time bundle, a cache, or one entry.

    Every file is compared with its SHA-256, and every source with what this version renders for
    the same kernel. Nothing in the folder is loaded or changed.

    Exit status: 0 all good, 1 findings (one per line), 2 bad arguments.
    """
    from rich.console import Console
    from rich.progress import Progress

    from radam_codegen.tools.verify.run import verify as run

    console = Console(stderr=True)
    with Progress(console=console, disable=not console.is_terminal, transient=True) as progress:
        task = progress.add_task("Verifying", total=None)
        report = run(
            folder,
            rebuild=rebuild,
            jobs=jobs,
            on_progress=lambda done, total: progress.update(task, completed=done, total=total),
        )
    click.echo(json.dumps(report.to_json(), indent=2) if as_json else str(report))
    if not report.good:
        raise click.exceptions.Exit(1)
