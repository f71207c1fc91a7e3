"""``radam-codegen aot``."""

from __future__ import annotations

import json
import os
import warnings

import click

__all__ = ["aot"]


@click.command()
@click.option("--plan", "plans", multiple=True, metavar="FILE", help="A plan's JSON; repeatable.")
@click.option(
    "--kernel", "kernels", multiple=True, metavar="NAME", help="A kernel's name; repeatable."
)
@click.option(
    "--program",
    "programs",
    multiple=True,
    metavar="PREFIX",
    help="A static program, as it was saved; repeatable.",
)
@click.option(
    "--all",
    "everything",
    is_flag=True,
    help="Every kernel with one class of tensors, and those with and without a decay at once.",
)
@click.option(
    "--cpu",
    "cpus",
    multiple=True,
    metavar="NAME",
    help="A CPU to compile for: x86-64-v1 (any), -v2, -v3 or -v4, or native (this one); "
    "repeatable. The best that a machine can run is chosen there.  [default: v1, v3 and v4]",
)
@click.option(
    "--target",
    "targets",
    type=click.Choice(["c", "cuda"]),
    multiple=True,
    default=["c"],
    show_default=True,
    help="For CPUs or for NVIDIA GPUs; repeatable.",
)
@click.option(
    "--arch",
    "architectures",
    type=int,
    multiple=True,
    metavar="NUMBER",
    help="A GPU to compile CUDA for: 90 is sm_90; repeatable. Newer GPUs are served, too.  "
    "[default: 75, 80, 90, 100 and 120, as nvcc knows them]",
)
@click.option("--out", required=True, metavar="DIR", help="The bundle: made, or added to.")
@click.option(
    "--operator/--no-operator",
    default=None,
    help="Whether to compile the operator for the Paddle that is installed here.  "
    "[default: if one is]",
)
@click.option(
    "--standalone",
    is_flag=True,
    help="Write plain C sources (and, with --target cuda, CUDA sources) with a CMakeLists.txt "
    "instead, and compile nothing.",
)
@click.option(
    "--jobs",
    type=click.IntRange(min=1),
    help="How many compilers run at once.  [default: the CPUs there are]",
)
@click.option("--json", "as_json", is_flag=True, help="Print the result as JSON.")
def aot(
    plans: tuple[str, ...],
    kernels: tuple[str, ...],
    programs: tuple[str, ...],
    everything: bool,
    cpus: tuple[str, ...],
    targets: tuple[str, ...],
    architectures: tuple[int, ...],
    out: str,
    operator: bool | None,
    standalone: bool,
    jobs: int | None,
    as_json: bool,
) -> None:
    """Compile kernels ahead of time, for machines without a compiler.

    On them, set RADAM_CODEGEN_AOT to the folder. With RADAM_CODEGEN_MODE=aot-only nothing is ever
    compiled there.

    What the bundle has already is kept, and not compiled again.

    Exit status: 0 all is there, 1 something could not be compiled, 2 bad arguments.
    """
    # Paddle's advice on Paddle's internals, in the middle of a progress bar.
    warnings.filterwarnings("ignore", module=r"paddle\.")
    os.environ.setdefault("GLOG_minloglevel", "2")  # read when Paddle is imported

    from rich.console import Console

    from radam_codegen.tools.aot.report import progress, summary
    from radam_codegen.tools.aot.run import aot as run

    # Standard output stays clean for a program that reads the JSON from it.
    console = Console(stderr=True) if as_json else Console()
    with progress(console) as on_progress:
        result = run(
            out,
            plans=plans,
            kernels=kernels,
            programs=programs,
            everything=everything,
            cpus=cpus,
            target=targets,
            architectures=architectures,
            operator=operator,
            standalone=standalone,
            jobs=jobs,
            on_progress=on_progress,
        )
    for failure in result.failures:
        click.echo(f"{failure.message}\n", err=True)
    if as_json:
        click.echo(json.dumps(result.to_json(), indent=2))
    else:
        click.echo(summary(result))
    if not result.good:
        raise click.exceptions.Exit(1)
