"""From the operator's C++ source to a library that the installed Paddle can register."""

from __future__ import annotations

import platform
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from radam_codegen._resources import include_dir, runtime_dir
from radam_codegen.config import Config
from radam_codegen.errors import CompileError
from radam_codegen.toolchain.abi import header_text
from radam_codegen.toolchain.cache import BuildFailedError, content_key, get_or_build
from radam_codegen.toolchain.compiler import find_cxx_compiler
from radam_codegen.toolchain.diagnosis import describe_failure
from radam_codegen.toolchain.flags import OPERATOR_FLAGS
from radam_codegen.toolchain.process import run_logged

__all__ = ["BuiltOperator", "PaddleInstallation", "build_operator"]

_SOURCE = "operator.cc"
_LIBRARY = "operator.so"
_LOG = "compiler.log"
_HEADERS = ("kernel.h", "launcher.h", "operator.h")


@dataclass(frozen=True)
class PaddleInstallation:
    """The Paddle to build for.

    Attributes:
        version: Its version and commit: everything that tells two builds of Paddle apart.
        include_dirs: Folders of its headers.
        libraries: Shared libraries that define what the headers declare.
    """

    version: str
    include_dirs: tuple[Path, ...]
    libraries: tuple[Path, ...]


@dataclass(frozen=True)
class BuiltOperator:
    """The compiled operator in the cache; attributes as in ``BuiltKernel``."""

    key: str
    library: Path
    source: Path
    log: Path
    compiled: bool


def build_operator(paddle: PaddleInstallation, config: Config) -> BuiltOperator:
    """Compile the operator for a Paddle, unless the cache has it. Takes about three seconds.

    Raises:
        CompilerNotFoundError: There is no C++ compiler.
        CompileError: The compiler refused the source; its log is kept.
    """
    compiler = find_cxx_compiler(config.cxx)
    text = (runtime_dir() / _SOURCE).read_text(encoding="utf-8")
    # Libraries are linked by name: the process that loads the operator has loaded them already.
    link = tuple(
        word
        for library in paddle.libraries
        for word in (f"-L{library.parent}", f"-l:{library.name}")
    )
    key = content_key(
        {
            "kind": "operator",
            "source": text,
            "headers": [header_text(name) for name in _HEADERS],
            "paddle": paddle.version,
            "libraries": [library.name for library in paddle.libraries],
            "compiler": compiler.identity,
            "flags": OPERATOR_FLAGS,
            "machine": platform.machine(),
        }
    )
    command = (
        *compiler.command,
        *OPERATOR_FLAGS,
        "-I",
        str(include_dir()),
        *(word for folder in paddle.include_dirs for word in ("-isystem", str(folder))),
        _SOURCE,
        "-o",
        _LIBRARY,
        *link,
        "-ldl",
        "-pthread",
        "-Wl,--no-undefined",
    )

    def build(folder: Path) -> Mapping[str, Any]:
        (folder / _SOURCE).write_text(text, encoding="utf-8")
        if run_logged(command, cwd=folder, log=folder / _LOG) != 0:
            raise BuildFailedError(command)
        return {"paddle": paddle.version, "compiler": compiler.identity, "command": command}

    try:
        entry = get_or_build(config.cache_dir, "operators", key, build)
    except BuildFailedError as failure:
        raise CompileError(
            describe_failure(
                f"The operator for Paddle {paddle.version}",
                failure.command,
                failure.folder / _LOG,
                failure.folder / _SOURCE,
                "It wants a compiler that knows C++17; set CXX to the command of one.",
            )
        ) from None
    folder = entry.folder
    return BuiltOperator(key, folder / _LIBRARY, folder / _SOURCE, folder / _LOG, entry.built)
