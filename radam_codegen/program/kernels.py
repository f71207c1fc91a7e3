"""Kernels in this process: from the launch text of an operator to a registered group."""

from __future__ import annotations

from dataclasses import dataclass, replace
from functools import cache
from pathlib import Path
from typing import Callable, Union

from radam_codegen.codegen import C_TARGET, CUDA_TARGET, KernelSource, render
from radam_codegen.config import Config, current
from radam_codegen.errors import PlanError
from radam_codegen.ir.launch import LaunchSpec
from radam_codegen.ir.plan import ClipKind, KernelStructure
from radam_codegen.passes import lower_structure
from radam_codegen.program.gpu import check_gpu
from radam_codegen.program.operator import ensure_operator
from radam_codegen.runtime import (
    LoadedCudaKernel,
    LoadedKernel,
    OperatorLibrary,
    load_cuda_kernel,
    load_kernel,
)
from radam_codegen.toolchain import Artifact, build_kernel
from radam_codegen.toolchain.cuda import build_cuda_kernel
from radam_codegen.toolchain.forks import KeyedLocks
from radam_codegen.toolchain.vanishing import again_if_gone

__all__ = ["operator", "register", "source_of"]

_Build = Callable[[KernelSource, Config], Artifact]
_Load = Callable[[Path], Union[LoadedKernel, LoadedCudaKernel]]

#: By target, what compiles a kernel, and what loads it.
_MAKERS: dict[str, tuple[_Build, _Load]] = {
    "c": (build_kernel, load_kernel),
    "cuda": (build_cuda_kernel, load_cuda_kernel),
}


@dataclass(frozen=True)
class _Ready:
    """A kernel that is loaded, with the source that it was compiled from."""

    kernel: LoadedKernel | LoadedCudaKernel
    source: KernelSource


_locks = KeyedLocks()
_ready: dict[tuple[KernelStructure, str], _Ready] = {}


def operator() -> OperatorLibrary:
    """Return the operator library, registered with Paddle and able to have kernels built."""
    return ensure_operator(_build_group)


def source_of(structure: KernelStructure, target: str = "c") -> KernelSource:
    """Return the source of a kernel; its ``path`` is None until it has been compiled here.

    Args:
        structure: which kernel.
        target: ``"c"`` or ``"cuda"``.
    """
    ready = _ready.get((structure, target))
    return _rendered(structure, target) if ready is None else ready.source


@cache
def _rendered(structure: KernelStructure, target: str = "c") -> KernelSource:
    # Kept, so that what is rendered while a program is built need not be when it starts.
    return render(lower_structure(structure), CUDA_TARGET if target == "cuda" else C_TARGET)


def _build_group(key: int, launch: str) -> None:
    """Build, load and register the group of an operator; called when a program runs."""
    spec = LaunchSpec.from_text(launch)
    if spec.key != key:
        raise PlanError(
            "the 'launch' attribute of a radam_codegen operator does not belong to its 'key'; the "
            "program was damaged: build it again"
        )
    register(key, spec)


def register(key: int, spec: LaunchSpec) -> None:
    """Have the operator library know a launch under a key, its kernel built and loaded.

    Raises:
        ToolchainError: the kernel cannot be built or loaded.
        NoGpuError: the kernel is for a GPU, and there is none.
    """
    if spec.target == "cuda":
        check_gpu()
    kernel = _kernel(spec.structure, spec.target)
    operator().register(
        key,
        kernel,
        spec.numbers,
        spec.tensors,
        spec.structure.classes,
        spec.moments,
        spec.drops_results,
        spec.structure.clip is not ClipKind.NONE,
    )


def _kernel(structure: KernelStructure, target: str) -> LoadedKernel | LoadedCudaKernel:
    """Return the loaded kernel for a structure; threads that want the same one wait for one."""
    wanted = (structure, target)
    with _locks.of(wanted):
        if wanted not in _ready:
            source = _rendered(structure, target)
            build, load = _MAKERS[target]
            built, kernel = again_if_gone(
                lambda: build(source, current()), lambda found: load(found.library)
            )
            _ready[wanted] = _Ready(kernel, replace(source, path=built.source))
        return _ready[wanted].kernel
