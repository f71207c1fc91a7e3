"""A table of what CUDA kernels cost: ``python -m radam_codegen.tools.cuda.table``.

Everything in it is measured or read from the compiled files, so that it can be made again; no GPU
is needed.
"""

from __future__ import annotations

import re
import resource
import subprocess
import tempfile
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import click

from radam_codegen._resources import include_dir
from radam_codegen.codegen import CUDA_TARGET, render
from radam_codegen.codegen.source import KernelSource
from radam_codegen.config import Config, current
from radam_codegen.errors import RadamCodegenError, ToolchainError
from radam_codegen.ir.structure_name import structure_from_name
from radam_codegen.passes import lower_structure
from radam_codegen.toolchain.cuda import CudaCompiler, cuda_kernel_recipe, find_cuda_compiler
from radam_codegen.toolchain.cuda.architectures import DEFAULT_ARCHITECTURES, architectures_for
from radam_codegen.toolchain.process import compiler_environment
from radam_codegen.tools.cuda.cuobjdump import find_cuobjdump
from radam_codegen.tools.cuda.resources import LIMITS, Resources, occupancy, read_resources

__all__ = ["KERNELS", "Cost", "costs_of", "table"]

#: Ordinary ones: single precision, mixed precision, the same with a clip, double precision.
KERNELS = (
    "radam_no_clip__f32_l2",
    "radam_clip_global_norm__f32_decoupled",
    "radam_clip_global_norm_skip__bf16_master_decoupled",
    "radam_clip_global_norm_skip__f16_master_decoupled",
    "radam_no_clip__f64_l2",
)
_PHASES = ("reduce", "sums", "scalar", "each")


@dataclass(frozen=True)
class Cost:
    """What one kernel costs on one architecture, or, where that is 0, on all of them at once.

    Attributes:
        kernel: Its name.
        architecture: 90 is ``sm_90``.
        seconds: Of a CPU, that nvcc and all that it starts take.
        size: Bytes of the machine code's file, or of the library.
        phases: By name of the phase: what it needs, and threads per block.
    """

    kernel: str
    architecture: int
    seconds: float
    size: int
    phases: dict[str, tuple[Resources, int]]


def costs_of(
    name: str, compiler: CudaCompiler, architectures: Sequence[int], config: Config
) -> list[Cost]:
    """Compile a kernel for each architecture by itself, and for all at once.

    Raises:
        PlanError: No structure has this name.
        ToolchainError: The compiler refuses the kernel.
    """
    source = render(lower_structure(structure_from_name(name)), CUDA_TARGET)
    with tempfile.TemporaryDirectory(prefix="radam_codegen_table_") as temporary:
        folder = Path(temporary)
        (folder / "kernel.cu").write_text(source.text, encoding="utf-8")
        costs = [_alone(source, compiler, each, folder) for each in architectures]
        recipe = cuda_kernel_recipe(source, compiler, config.cache_dir, architectures)
        seconds = _timed(recipe.command, folder)
        size = (folder / "kernel.so").stat().st_size
    return [*costs, Cost(name, 0, seconds, size, {})]


def _alone(source: KernelSource, compiler: CudaCompiler, architecture: int, folder: Path) -> Cost:
    flags = [*CUDA_TARGET.flags, "-cubin", f"-arch=sm_{architecture}", f"-I{include_dir()}"]
    seconds = _timed([*compiler.command, *flags, "-o", "kernel.cubin", "kernel.cu"], folder)
    output = folder / "kernel.cubin"
    text = find_cuobjdump().read("--dump-resource-usage", output)
    phases = {}
    for found in read_resources(f"arch = sm_{architecture}\n{text}"):
        phase = found.name.rpartition("_")[2]
        phases[phase] = (found, _threads(source.text, phase))
    return Cost(source.name, architecture, seconds, output.stat().st_size, phases)


def _threads(text: str, phase: str) -> int:
    name = "SCALAR_THREADS" if phase == "scalar" else "BLOCK_THREADS"
    found = re.search(rf"^#define {name} (\d+)$", text, re.M)
    assert found is not None, "a generated source defines it"
    return int(found[1])


def _timed(command: Sequence[str], folder: Path) -> float:
    before = resource.getrusage(resource.RUSAGE_CHILDREN)
    done = subprocess.run(
        command,
        cwd=folder,
        env=compiler_environment(),
        stdin=subprocess.DEVNULL,
        capture_output=True,
        text=True,
        errors="replace",
        check=False,
    )
    if done.returncode != 0:
        raise ToolchainError(f"nvcc refuses the kernel: {(done.stderr or done.stdout)[-1000:]}")
    after = resource.getrusage(resource.RUSAGE_CHILDREN)
    return after.ru_utime + after.ru_stime - before.ru_utime - before.ru_stime


def _rows(costs: Sequence[Cost]) -> list[str]:
    rows = []
    for cost in costs:
        cells = [f"`{cost.kernel}`"]
        cells.append(f"sm_{cost.architecture}" if cost.architecture else "all, as a library")
        cells += [f"{cost.seconds:.1f} s", f"{cost.size / 1024:,.0f} KiB"]
        cells += [_cell(cost, phase) for phase in _PHASES]
        rows.append(f"| {' | '.join(cells)} |")
    return rows


def _cell(cost: Cost, phase: str) -> str:
    if phase not in cost.phases:
        return ""
    needs, threads = cost.phases[phase]
    if needs.architecture not in LIMITS:
        return f"{needs.registers}"
    return f"{needs.registers}, {occupancy(needs, threads):.0%}"


@click.command()
@click.option(
    "--kernel", "kernels", multiple=True, metavar="NAME", help="A kernel's name; repeatable."
)
@click.option(
    "--arch", "architectures", multiple=True, type=int, metavar="NUMBER", help="90 for sm_90."
)
def table(kernels: tuple[str, ...], architectures: tuple[int, ...]) -> None:
    """Compile CUDA kernels and print what they cost, as a table in Markdown.

    Of each phase: registers per thread, and the share of a multiprocessor's threads that can run
    at once. Times are those of a CPU, of all processes together.
    """
    config = current()
    try:
        compiler = find_cuda_compiler(config.nvcc, config.cxx, config.compile_timeout)
        wanted = architectures or tuple(
            each for each in DEFAULT_ARCHITECTURES if each in compiler.architectures
        )
        chosen = architectures_for(compiler, wanted)
        for name in kernels:
            structure_from_name(name)
        click.echo(f"nvcc: {compiler.version.splitlines()[-2].strip()}\n")
        click.echo(f"| kernel | for | compile | size | {' | '.join(_PHASES)} |")
        click.echo(f"|---|---|{'---:|' * (2 + len(_PHASES))}")
        for name in kernels or KERNELS:
            for row in _rows(costs_of(name, compiler, chosen, config)):
                click.echo(row)
    except RadamCodegenError as error:
        raise click.ClickException(str(error)) from error


if __name__ == "__main__":
    table()
