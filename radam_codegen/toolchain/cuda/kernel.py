"""From the source of a CUDA kernel to a shared library."""

from __future__ import annotations

import platform
from collections.abc import Collection
from pathlib import Path

from radam_codegen._resources import include_dir
from radam_codegen.codegen.source import KernelSource
from radam_codegen.codegen.targets import CUDA_TARGET
from radam_codegen.config import Config
from radam_codegen.errors import ArgumentError
from radam_codegen.toolchain.abi import cuda_abi_version, header_text
from radam_codegen.toolchain.cuda.architectures import architectures_for, code_flags
from radam_codegen.toolchain.cuda.compiler import CudaCompiler, find_cuda_compiler
from radam_codegen.toolchain.find_ahead import find_cuda_kernel
from radam_codegen.toolchain.recipe import CUDA_KERNELS, Artifact, Recipe, obtain

__all__ = ["CUDA_KERNEL_FLAGS", "build_cuda_kernel", "cuda_kernel_recipe"]

#: Nothing that the target's own flags say is changed here. The library brings CUDA's runtime along
#: and hides it, as Paddle has one of its own; it is stripped, as nvcc names temporary files in its
#: symbols. ptxas says where registers were spilled; left at its usual level of 5, it spills some to
#: have more blocks at once.
CUDA_KERNEL_FLAGS = (
    *CUDA_TARGET.flags,
    "-shared",
    "-cudart=static",
    "-Xcompiler=-fPIC,-fvisibility=hidden,-g0,-frandom-seed=radam_codegen",
    "-Xlinker=--build-id=none,--exclude-libs=ALL,--as-needed,-s",
    "-Xptxas=--register-usage-level=3",
    "-Xptxas=-warn-spills,-warn-lmem-usage",
)


def build_cuda_kernel(
    source: KernelSource, config: Config, architectures: Collection[int] | None = None
) -> Artifact:
    """Find a CUDA kernel in the bundle or in the cache, or compile it.

    Neither a GPU nor a driver is needed, and where the bundle has the kernel, no nvcc.

    Args:
        source: What is compiled.
        config: Names the bundle, and nvcc and the C++ compiler, where they are not the usual ones.
        architectures: What for; None: for the GPUs here, else for a list of the usual ones. What
            the bundle has is for those that it was made for.

    Raises:
        CompilerNotFoundError: There is no nvcc, or no C++ compiler.
        CompileError: The compiler refused the source; its log is kept.
        ArtifactError: Nothing may be compiled, and the bundle does not have the kernel.
        ConfigError: Nothing may be compiled, and no bundle is named.
        ArgumentError: The source is not CUDA, or nvcc does not know an architecture.
    """
    bundled = find_cuda_kernel(source, config)
    if bundled is not None:
        return bundled
    compiler = find_cuda_compiler(config.nvcc, config.cxx, config.compile_timeout)
    chosen = architectures_for(compiler, architectures, config.compile_timeout)
    return obtain(cuda_kernel_recipe(source, compiler, config.cache_dir, chosen), config)


def cuda_kernel_recipe(
    source: KernelSource,
    compiler: CudaCompiler,
    memo_folder: Path,
    architectures: Collection[int],
) -> Recipe:
    """How a CUDA kernel is compiled.

    Args:
        source: What is compiled.
        compiler: By what.
        memo_folder: Where digests of the compiler's files are remembered; the folder of the cache.
        architectures: For what.

    Raises:
        ArgumentError: The source is not CUDA.
    """
    if source.language != "cuda":
        raise ArgumentError(
            f"Kernel {source.name} is in {source.language!r}; this is the compiler for 'cuda'."
        )
    host_flags = tuple(f"-Xcompiler={flag}" for flag in compiler.host_flags)
    flags = (*CUDA_KERNEL_FLAGS, *host_flags, *code_flags(architectures))
    command = (
        *compiler.command,
        *flags,
        # One architecture after the other: with --threads, nvcc 13.0 fails in a folder whose name
        # has a space.
        f"-ccbin={compiler.host.command[0]}",
        f"-I{include_dir()}",
        *(f"-L{folder}" for folder in compiler.libraries),
        "-o",
        "kernel.so",
        "kernel.cu",
    )
    return Recipe(
        kind=CUDA_KERNELS,
        title=f"CUDA kernel {source.name}",
        text=source.text,
        command=command,
        shape={
            "header": header_text("kernel.h") + header_text("cuda_kernel.h"),
            "compiler": compiler.identity(memo_folder),
            "flags": flags,
            "machine": platform.machine(),
        },
        facts={
            "name": source.name,
            "source_sha256": source.sha256,
            "abi": cuda_abi_version(),
            "compiler": compiler.version,
            "host_compiler": compiler.host.version,
            "command": command,
            "machine": platform.machine(),
            "architectures": sorted(architectures),
        },
        advice="If nvcc refuses the C++ compiler, set CXX to an older one; else try another nvcc "
        "by setting NVCC, and report the log: a generated source should compile.",
    )
