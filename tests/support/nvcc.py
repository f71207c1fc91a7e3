"""nvcc, for tests that need it."""

from __future__ import annotations

from collections.abc import Collection
from functools import cache

import pytest

from radam_codegen.codegen import CUDA_TARGET, KernelSource, render
from radam_codegen.config import current
from radam_codegen.errors import CompilerNotFoundError
from radam_codegen.ir.plan import KernelStructure
from radam_codegen.passes import lower_structure
from radam_codegen.toolchain.cuda.compiler import CudaCompiler, find_cuda_compiler
from radam_codegen.toolchain.cuda.kernel import CUDA_KERNEL_FLAGS

__all__ = ["cuda_compiler", "cuda_source", "strict_flags"]


@cache
def _found() -> CudaCompiler | CompilerNotFoundError:
    try:
        return find_cuda_compiler(current().nvcc, current().cxx)
    except CompilerNotFoundError as error:
        return error


def cuda_compiler() -> CudaCompiler:
    """The nvcc of this machine; where there is none, the test is skipped and says why."""
    found = _found()
    if isinstance(found, CompilerNotFoundError):
        pytest.skip(str(found))
    return found


def cuda_source(structure: KernelStructure) -> KernelSource:
    return render(lower_structure(structure), CUDA_TARGET)


def strict_flags(architectures: Collection[int]) -> tuple[str, ...]:
    """What makes nvcc and ptxas refuse whatever they warn of, for machine code only."""
    return (
        *CUDA_TARGET.flags,
        *(flag for flag in CUDA_KERNEL_FLAGS if flag.startswith("-Xptxas=")),
        "-Werror=all-warnings",
        *(f"-gencode=arch=compute_{each},code=sm_{each}" for each in architectures),
    )
