"""``radam-codegen bench``."""

from __future__ import annotations

from collections.abc import Callable
from functools import reduce
from pathlib import Path
from typing import Any

import click

from radam_codegen.tools.bench.contestants import CONTESTANTS
from radam_codegen.tools.bench.networks import NETWORKS
from radam_codegen.tools.bench.suites import QUICK, SUITES, VARIANTS
from radam_codegen.tools.paths import GivenPath

__all__ = ["bench"]

#: Where there is no terminal to say how wide it is.
_WIDTH = 120
_QUICK_ROUNDS, _ROUNDS = 3, 7


def _names(option: str, kind: str, names: Any, text: str) -> Callable[..., Any]:
    return click.option(
        option, kind, type=click.Choice(list(names)), multiple=True, metavar="NAME", help=text
    )


@click.command()
@_names("--suite", "suites", SUITES, f"Parameters to step: {', '.join(SUITES)}. May be repeated.")
@_names("--variant", "variants", VARIANTS, f"What comes with the step: {', '.join(VARIANTS)}.")
@_names("--contestant", "contestants", CONTESTANTS, f"Who takes part: {', '.join(CONTESTANTS)}.")
@_names("--network", "networks", NETWORKS, f"Training steps to take: {', '.join(NETWORKS)}.")
@click.option("--networks", "all_networks", is_flag=True, help="Take steps of all networks.")
@click.option("--startup", is_flag=True, help="Measure startup and imports, in fresh processes.")
@click.option("--memory", is_flag=True, help="Measure memory, in fresh processes.")
@click.option("--all", "everything", is_flag=True, help="Measure all of it, with every contestant.")
@click.option("--quick", is_flag=True, help="Measure little: small suites, few rounds.")
@click.option(
    "--rounds",
    type=click.IntRange(min=1),
    help=f"How often everybody has a turn.  [default: {_ROUNDS}; with --quick {_QUICK_ROUNDS}]",
)
@click.option(
    "--threads",
    type=click.IntRange(min=1),
    help="Threads that everybody has.  [default: the physical cores]",
)
@click.option(
    "--peer-python",
    type=GivenPath(exists=True, dir_okay=False),
    metavar="PATH",
    help="The interpreter that has torch, JAX and optax.  [default: this one]",
)
@click.option(
    "--add",
    "added",
    type=GivenPath(exists=True, dir_okay=False),
    multiple=True,
    metavar="FILE",
    help="Take what is not measured now from a report of before; nothing is measured unasked then.",
)
@click.option(
    "--json",
    "json_file",
    type=GivenPath(dir_okay=False, writable=True),
    metavar="FILE",
    help="Write the report to FILE.",
)
@click.option(
    "--plot",
    "plot_folder",
    type=GivenPath(file_okay=False, writable=True),
    metavar="FOLDER",
    help="Draw the suites into FOLDER, as PNG and SVG.",
)
@click.option(
    "--page",
    "page_file",
    type=GivenPath(dir_okay=False, writable=True),
    metavar="FILE",
    help="Write a page of Markdown; with --plot, it shows the pictures.",
)
@click.option("--check", "checks", is_flag=True, help="Compare with what must hold.")
def bench(
    suites: tuple[str, ...],
    variants: tuple[str, ...],
    contestants: tuple[str, ...],
    networks: tuple[str, ...],
    all_networks: bool,
    startup: bool,
    memory: bool,
    everything: bool,
    quick: bool,
    rounds: int | None,
    threads: int | None,
    peer_python: str | None,
    added: tuple[str, ...],
    json_file: str | None,
    plot_folder: str | None,
    page_file: str | None,
    checks: bool,
) -> None:
    """Measure steps: ours, Paddle's own, other frameworks', and what the memory allows.

    Every contestant has a process of its own, and they take turns: figures are ratios in one run,
    medians over the rounds. Without options all suites are measured, but no network.

    Exit status: 0 success, 1 something that must hold does not (--check) or measuring failed, 2 bad
    arguments.
    """
    from rich.console import Console

    from radam_codegen.tools.bench.bounds import check, violated
    from radam_codegen.tools.bench.output import write_file
    from radam_codegen.tools.bench.page import page_text
    from radam_codegen.tools.bench.plots import write_plots
    from radam_codegen.tools.bench.races import Turns
    from radam_codegen.tools.bench.report import merge, report_from_text
    from radam_codegen.tools.bench.run import Request, run_bench
    from radam_codegen.tools.bench.tables import print_check, print_report

    older = [
        report_from_text(Path(each).read_text(encoding="utf-8", errors="replace"), each)
        for each in added
    ]
    asked = bool(networks or all_networks or startup or memory or added)
    default = QUICK if quick else () if asked and not everything else tuple(SUITES)
    request = Request(
        suites=[SUITES[name] for name in suites or default],
        variants=[VARIANTS[name] for name in variants or VARIANTS],
        contestants=[
            each
            for each in CONTESTANTS.values()
            if (each.name in contestants if contestants else everything or not each.on_request)
        ],
        networks=networks or (tuple(NETWORKS) if all_networks or everything else ()),
        startup=startup or everything,
        memory=memory or everything,
        turns=Turns(rounds or (_QUICK_ROUNDS if quick else _ROUNDS)),
        threads=threads,
        peer_python=peer_python,
    )
    reports = older
    if request.wants_anything or not older:
        progress = Console(stderr=True)
        with progress.status("Looking at the machine") as status:
            reports = [*older, run_bench(request, status.update)]
    report = reduce(merge, reports)
    if json_file is not None:
        write_file(Path(json_file), report.to_text())
    pictures = write_plots(report, Path(plot_folder)) if plot_folder is not None else []
    if page_file is not None:
        page = Path(page_file)
        write_file(page, page_text(report, page.absolute().parent, pictures))
    console = Console(highlight=False)
    if not console.is_terminal:
        console = Console(highlight=False, width=_WIDTH)
    print_report(console, report)
    if checks:
        findings = check(report)
        print_check(console, findings)
        if violated(findings):
            raise click.exceptions.Exit(1)
