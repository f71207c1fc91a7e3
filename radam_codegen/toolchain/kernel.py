"""From the source of a kernel to a shared library."""

from __future__ import annotations

import platform
from pathlib import Path

from radam_codegen._resources import include_dir
from radam_codegen.codegen.source import KernelSource
from radam_codegen.config import Config
from radam_codegen.errors import ArgumentError
from radam_codegen.toolchain.abi import abi_version, header_text
from radam_codegen.toolchain.compiler import Compiler, find_c_compiler
from radam_codegen.toolchain.cpu import NATIVE
from radam_codegen.toolchain.find_ahead import find_kernel
from radam_codegen.toolchain.flags import kernel_flags
from radam_codegen.toolchain.recipe import KERNELS, Artifact, Recipe, obtain

__all__ = ["build_kernel", "kernel_recipe"]


def build_kernel(source: KernelSource, config: Config) -> Artifact:
    """Find a kernel in the bundle or in the cache, or compile it for this machine.

    Raises:
        CompilerNotFoundError: There is no C compiler.
        CompileError: The compiler refused the source; its log is kept.
        ArtifactError: Nothing may be compiled, and the bundle does not have the kernel.
        ArgumentError: The source is not C.
    """
    bundled = find_kernel(source, config)
    if bundled is not None:
        return bundled
    compiler = find_c_compiler(config.cc, config.compile_timeout)
    return obtain(kernel_recipe(source, compiler, config.cache_dir), config)


def kernel_recipe(
    source: KernelSource, compiler: Compiler, memo_folder: Path, cpu: str = NATIVE
) -> Recipe:
    """How a kernel is compiled.

    Args:
        source: What is compiled.
        compiler: By what.
        memo_folder: Where digests of the compiler's files are remembered; the folder of the cache.
        cpu: For what: one of :func:`radam_codegen.toolchain.cpu.cpu_names`. ``"native"`` counts
            as all the features that it stands for here.

    Raises:
        ArgumentError: The source is not C.
    """
    if source.language != "c":
        raise ArgumentError(
            f"Kernel {source.name} is in {source.language!r}; this is the compiler for 'c'."
        )
    flags = kernel_flags(compiler, cpu)
    features = compiler.native_flags if cpu == NATIVE else ()
    command = (
        *compiler.command,
        *flags,
        "-I",
        str(include_dir()),
        "kernel.c",
        "-o",
        "kernel.so",
        "-lm",
    )
    return Recipe(
        kind=KERNELS,
        title=f"Kernel {source.name}",
        text=source.text,
        command=command,
        shape={
            "header": header_text("kernel.h"),
            "abi": abi_version(),
            "compiler": compiler.identity(memo_folder),
            "flags": flags,
            "machine": platform.machine(),
            "features": features,
        },
        facts={
            "name": source.name,
            "source_sha256": source.sha256,
            "abi": abi_version(),
            "compiler": compiler.version,
            "command": command,
            "machine": platform.machine(),
            "cpu": cpu,
            "features": features,
        },
        advice="Try another compiler by setting CC, and report the log: a generated source should "
        "compile.",
    )
