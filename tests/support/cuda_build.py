"""Compiling generated CUDA kernels with nvcc, for every architecture and with every warning."""

from __future__ import annotations

import dataclasses
import re
import subprocess
from functools import cache
from pathlib import Path

import pytest

from radam_codegen._resources import include_dir
from radam_codegen.codegen import CUDA_TARGET, render
from radam_codegen.config import current
from radam_codegen.errors import ToolchainError
from radam_codegen.ir.group import GroupIR
from radam_codegen.ir.plan import KernelStructure
from radam_codegen.passes import structure_stages
from radam_codegen.toolchain.cuda import CudaCompiler, cuda_kernel_recipe, find_cuda_compiler
from radam_codegen.toolchain.recipe import obtain
from radam_codegen.tools.cuda.cuobjdump import Cuobjdump, find_cuobjdump

__all__ = ["ARCHITECTURES", "build_for_all", "lowered", "need_tools", "ptx_for", "ptx_in"]

#: What a fat binary is for where nothing else is asked for.
ARCHITECTURES = (75, 80, 90, 100, 120)

#: PTX of all architectures, beside their machine code; and no warning is let pass, not even that
#: registers are spilled.
_EXTRA_FLAGS = (
    *(f"-gencode=arch=compute_{each},code=compute_{each}" for each in ARCHITECTURES[:-1]),
    "-Werror=all-warnings",
    "-Xptxas=-Werror",
)


@cache
def need_tools() -> tuple[CudaCompiler, Cuobjdump]:
    """nvcc and cuobjdump; where one is missing, the test is skipped and says which."""
    config = current()
    try:
        return find_cuda_compiler(config.nvcc, config.cxx, config.compile_timeout), find_cuobjdump()
    except ToolchainError as error:
        pytest.skip(f"needs nvcc and cuobjdump: {error}")


def lowered(structure: KernelStructure) -> GroupIR:
    """The IR that the kernel's source is made from."""
    *_, (_, ir) = structure_stages(structure)
    return ir


@cache
def build_for_all(structure: KernelStructure) -> Path:
    """The library of a kernel, compiled once per run of the tests."""
    config = current()
    compiler, _ = need_tools()
    source = render(lowered(structure), CUDA_TARGET)
    recipe = cuda_kernel_recipe(source, compiler, config.cache_dir, ARCHITECTURES)
    flags = (*recipe.shape["flags"], *_EXTRA_FLAGS)
    recipe = dataclasses.replace(
        recipe,
        command=(*recipe.command[:1], *_EXTRA_FLAGS, *recipe.command[1:]),
        shape={**recipe.shape, "flags": flags},
    )
    return obtain(recipe, config).library


def ptx_in(library: Path) -> dict[int, str]:
    """The PTX that a library holds, by architecture."""
    _, cuobjdump = need_tools()
    # Each module begins with the version of PTX; what stands before the first says who made it.
    modules = re.split(r"^(?=\.version )", cuobjdump.read("--dump-ptx", library), flags=re.M)[1:]
    found = {}
    for module in modules:
        text = module.partition("\nFatbin ")[0]
        target = re.search(r"^\.target sm_(\d+)", text, re.M)
        assert target is not None
        found[int(target[1])] = text
    return found


def ptx_for(structure: KernelStructure, architecture: int, folder: Path) -> str:
    """The PTX of a kernel, and nothing else of it."""
    compiler, _ = need_tools()
    source, output = folder / "kernel.cu", folder / "kernel.ptx"
    source.write_text(render(lowered(structure), CUDA_TARGET).text, encoding="utf-8")
    flags = [*CUDA_TARGET.flags, "-ptx", f"-arch=compute_{architecture}", f"-I{include_dir()}"]
    subprocess.run([*compiler.command, *flags, "-o", output, source], check=True)
    return output.read_text(encoding="utf-8")
