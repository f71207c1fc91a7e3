"""From the source of a kernel to a shared library."""

from __future__ import annotations

import platform
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from radam_codegen._resources import include_dir
from radam_codegen.codegen.source import KernelSource
from radam_codegen.config import Config
from radam_codegen.errors import ArgumentError, CompileError
from radam_codegen.toolchain.abi import abi_version, header_text
from radam_codegen.toolchain.cache import BuildFailedError, content_key, get_or_build
from radam_codegen.toolchain.compiler import find_c_compiler
from radam_codegen.toolchain.diagnosis import describe_failure
from radam_codegen.toolchain.flags import kernel_flags
from radam_codegen.toolchain.process import run_logged

__all__ = ["BuiltKernel", "build_kernel"]

_SOURCE = "kernel.c"
_LIBRARY = "kernel.so"
_LOG = "compiler.log"


@dataclass(frozen=True)
class BuiltKernel:
    """A compiled kernel in the cache.

    Attributes:
        key: Hash of everything that shaped it.
        library: The shared library.
        source: The source it was compiled from.
        log: What the compiler said, with its command.
        compiled: Whether this call compiled it, rather than finding it.
    """

    key: str
    library: Path
    source: Path
    log: Path
    compiled: bool


def build_kernel(source: KernelSource, config: Config) -> BuiltKernel:
    """Compile a kernel, unless the cache has it.

    Raises:
        CompilerNotFoundError: There is no C compiler.
        CompileError: The compiler refused the source; its log is kept.
        ArgumentError: The source is not C.
    """
    if source.language != "c":
        raise ArgumentError(
            f"Kernel {source.name} is in {source.language!r}; this is the compiler for 'c'."
        )
    compiler = find_c_compiler(config.cc)
    flags = kernel_flags(compiler)
    key = content_key(
        {
            "kind": "kernel",
            "source": source.text,
            "header": header_text("kernel.h"),
            "abi": abi_version(),
            "compiler": compiler.identity,
            "flags": flags,
            "machine": platform.machine(),
            "native": compiler.native_flags,
        }
    )
    command = (
        *compiler.command,
        *flags,
        "-I",
        str(include_dir()),
        _SOURCE,
        "-o",
        _LIBRARY,
        "-lm",
    )

    def build(folder: Path) -> Mapping[str, Any]:
        (folder / _SOURCE).write_text(source.text, encoding="utf-8")
        if run_logged(command, cwd=folder, log=folder / _LOG) != 0:
            raise BuildFailedError(command)
        return {
            "name": source.name,
            "source_sha256": source.sha256,
            "abi": abi_version(),
            "compiler": compiler.identity,
            "command": command,
            "native": compiler.native_flags,
        }

    try:
        entry = get_or_build(config.cache_dir, "kernels", key, build)
    except BuildFailedError as failure:
        raise CompileError(
            describe_failure(
                f"Kernel {source.name}",
                failure.command,
                failure.folder / _LOG,
                failure.folder / _SOURCE,
                "Try another compiler by setting CC, and report the log: a generated source "
                "should compile.",
            )
        ) from None
    folder = entry.folder
    return BuiltKernel(key, folder / _LIBRARY, folder / _SOURCE, folder / _LOG, entry.built)
