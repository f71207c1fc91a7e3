"""From the operator's C++ source to a library that the installed Paddle can register."""

from __future__ import annotations

import platform
import re
from dataclasses import dataclass
from pathlib import Path

from radam_codegen._resources import include_dir, runtime_dir
from radam_codegen.config import Config
from radam_codegen.toolchain.abi import abi_version, header_text
from radam_codegen.toolchain.compiler import Compiler, find_cxx_compiler
from radam_codegen.toolchain.find_ahead import find_operator
from radam_codegen.toolchain.flags import OPERATOR_FLAGS
from radam_codegen.toolchain.recipe import OPERATORS, Artifact, Recipe, obtain

__all__ = ["PaddleInstallation", "build_operator", "operator_recipe", "operator_text"]

_HEADERS = ("kernel.h", "cuda_kernel.h", "launcher.h", "operator.h")

#: How the operator's files include each other; all others are included by a path of folders.
_INCLUDE = re.compile(r'^#include "(?:operator/)?(\w+\.h)"\n', re.M)


@dataclass(frozen=True)
class PaddleInstallation:
    """The Paddle to build for.

    Attributes:
        version: Its version and commit: everything that tells two builds of Paddle apart.
        include_dirs: Folders of its headers.
        libraries: Shared libraries that define what the headers declare.
        cuda: Whether it can use a GPU; the operator then can, too.
    """

    version: str
    include_dirs: tuple[Path, ...]
    libraries: tuple[Path, ...]
    cuda: bool = False


def build_operator(paddle: PaddleInstallation, config: Config) -> Artifact:
    """Find the operator in the bundle or in the cache, or compile it, in about three seconds.

    Raises:
        CompilerNotFoundError: There is no C++ compiler.
        CompileError: The compiler refused the source; its log is kept.
        ArtifactError: Nothing may be compiled, and the bundle does not have the operator.
    """
    bundled = find_operator(paddle.version, operator_text(), config, cuda=paddle.cuda)
    if bundled is not None:
        return bundled
    compiler = find_cxx_compiler(config.cxx, config.compile_timeout)
    return obtain(operator_recipe(paddle, compiler, config.cache_dir), config)


def operator_recipe(paddle: PaddleInstallation, compiler: Compiler, memo_folder: Path) -> Recipe:
    """How the operator is compiled for a Paddle.

    Args:
        paddle: For what.
        compiler: By what.
        memo_folder: Where digests of the compiler's files are remembered; the folder of the cache.
    """
    # Libraries are linked by name: the process that loads the operator has loaded them already.
    link = tuple(
        word
        for library in paddle.libraries
        for word in (f"-L{library.parent}", f"-l:{library.name}")
    )
    # Paddle's headers put the names of their files into messages: the same on every machine.
    prefixes = tuple(
        f"-ffile-prefix-map={folder}={name}"
        for name, folder in (
            ("radam_codegen/include", include_dir()),
            *(("paddle/include", folder) for folder in reversed(paddle.include_dirs)),
        )
    )
    flags = (*OPERATOR_FLAGS, *(("-DRADAM_CODEGEN_WITH_CUDA",) if paddle.cuda else ()))
    command = (
        *compiler.command,
        *flags,
        *prefixes,
        "-I",
        str(include_dir()),
        *(word for folder in paddle.include_dirs for word in ("-isystem", str(folder))),
        "operator.cc",
        "-o",
        "operator.so",
        *link,
        "-ldl",
        "-pthread",
        "-Wl,--no-undefined",
    )
    return Recipe(
        kind=OPERATORS,
        title=f"The operator for Paddle {paddle.version}",
        text=operator_text(),
        command=command,
        shape={
            "headers": [header_text(name) for name in _HEADERS],
            "paddle": paddle.version,
            "libraries": [library.name for library in paddle.libraries],
            "compiler": compiler.identity(memo_folder),
            "flags": flags,
            "machine": platform.machine(),
            "libc": platform.libc_ver(),
        },
        facts={
            "paddle": paddle.version,
            "cuda": paddle.cuda,
            "abi": abi_version(),
            "compiler": compiler.version,
            "command": command,
            "machine": platform.machine(),
        },
        advice="It wants a compiler that knows C++17; set CXX to the command of one.",
    )


def operator_text() -> str:
    """The operator's source as it is compiled: one file, with what it includes in its place."""
    folder, seen = runtime_dir(), set()

    def text_of(path: Path) -> str:
        return _INCLUDE.sub(included, path.read_text(encoding="utf-8"))

    def included(match: re.Match[str]) -> str:
        name = match.group(1)
        if name in seen:
            return ""
        seen.add(name)
        return text_of(folder / "operator" / name)

    return text_of(folder / "operator.cc")
