"""Compilers, each tried on a small file."""

from __future__ import annotations

import shlex
import shutil
import subprocess
import sys
import sysconfig
import tempfile
from collections.abc import Callable
from pathlib import Path
from typing import TYPE_CHECKING

from radam_codegen.config import Config
from radam_codegen.errors import CompilerNotFoundError
from radam_codegen.tools.doctor.findings import (
    FAILURE,
    NOTE,
    OK,
    WARNING,
    Finding,
    Fix,
)

if TYPE_CHECKING:
    from radam_codegen.toolchain import Compiler

__all__ = ["check_c_compiler", "check_cxx_compiler", "check_nvcc", "check_python_headers"]

_C_SOURCE = """\
#include <math.h>
int radam_codegen_doctor(void) { return (int)fma(20.0, 2.0, 2.0); }
"""

_CXX_SOURCE = """\
#include <cmath>
#include <memory>
#include <optional>
template <class T> int rounded(T value) {
  if constexpr (sizeof(T) > 1) { return static_cast<int>(std::lround(value)); }
  return 0;
}
extern "C" int radam_codegen_doctor(void) {
  const std::optional<double> value = 41.6;
  return rounded(*std::make_unique<double>(*value));
}
"""

#: In a process of its own: a file that is no library can do anything to who loads it.
_LOAD = """
import ctypes, sys
answer = ctypes.CDLL(sys.argv[1]).radam_codegen_doctor()
sys.exit(0 if answer == 42 else f"it answers {answer} where 42 is right")
"""
_LOAD_SECONDS = 60.0
_NVCC_SECONDS = 30.0


def check_c_compiler(config: Config) -> list[Finding]:
    """The C compiler, which makes the kernels."""
    from radam_codegen.toolchain import find_c_compiler

    fixes = (
        Fix("Install one.", "apt-get install gcc  # Debian, Ubuntu"),
        Fix("Or name one that works.", "export CC=/path/to/gcc"),
    )
    flags = ("-O2", "-shared", "-fPIC")
    return [
        _try(config, "C compiler", find_c_compiler, config.cc, "small.c", _C_SOURCE, flags, fixes)
    ]


def check_cxx_compiler(config: Config) -> list[Finding]:
    """The C++ compiler, which makes the operator, once per version of Paddle."""
    from radam_codegen.toolchain import find_cxx_compiler

    fixes = (
        Fix("Install one that knows C++17.", "apt-get install g++  # Debian, Ubuntu"),
        Fix("Or name one that works.", "export CXX=/path/to/g++"),
    )
    flags = ("-std=c++17", "-O2", "-shared", "-fPIC")
    find = find_cxx_compiler
    return [_try(config, "C++ compiler", find, config.cxx, "small.cc", _CXX_SOURCE, flags, fixes)]


_BUNDLE = Fix(
    "Or use a bundle that was made on a machine with compilers.",
    "export RADAM_CODEGEN_AOT=/path/to/bundle",
)


def _try(
    config: Config,
    check: str,
    find: Callable[[str | None, float], Compiler],
    spec: str | None,
    name: str,
    source: str,
    flags: tuple[str, ...],
    fixes: tuple[Fix, ...],
) -> Finding:
    try:
        compiler = find(spec, config.compile_timeout)
    except CompilerNotFoundError as error:
        found, _, rest = str(error).partition("\n")
        needed = "Kernels" if check == "C compiler" else "The operator"
        return _lacking(config, check, found, f"{needed} cannot be compiled. {rest}", fixes)
    version = next(iter(compiler.version.splitlines()), "")[:120] or "it does not say its version"
    found = f"{compiler.command[0]}: {version}"
    problem = _compile_and_load(config, compiler.command, name, source, flags)
    if problem:
        return _lacking(config, check, found, f"It does not compile: {problem}", fixes)
    if check == "C compiler" and "-march=native" not in compiler.for_this_cpu:
        return _without_native(found, compiler)
    return Finding(check, OK, found)


def _without_native(found: str, compiler: Compiler) -> Finding:
    """What is said of a compiler that cannot be told to use all that the CPU has."""
    told = " ".join(compiler.for_this_cpu)
    if told:
        cause = f"It does not know -march=native; kernels are compiled with {told}."
        return Finding("C compiler", OK, f"{found} {cause}")
    cause = (
        "It knows neither -march=native nor any other name for this CPU. Kernels are compiled for "
        "CPUs that can do the least, and may be many times slower than they need be."
    )
    fix = Fix("Name another one.", "export CC=/path/to/gcc")
    return Finding("C compiler", WARNING, found, cause, (fix,))


def _lacking(config: Config, check: str, found: str, cause: str, fixes: tuple[Fix, ...]) -> Finding:
    if config.mode != "auto":
        return Finding(check, NOTE, f"{found} Mode {config.mode} needs none.")
    if config.aot is not None:  # which makes up for a compiler, as far as it goes
        cause = f"{cause.strip()} What the bundle lacks will be missing."
        return Finding(check, WARNING, found, cause, fixes)
    return Finding(check, FAILURE, found, cause.strip(), (*fixes, _BUNDLE))


def _compile_and_load(
    config: Config, command: tuple[str, ...], name: str, source: str, flags: tuple[str, ...]
) -> str:
    """Compile a file and load the library; return what went wrong."""
    from radam_codegen.toolchain.cache import BuildFailedError
    from radam_codegen.toolchain.process import run_logged

    with tempfile.TemporaryDirectory(prefix="radam_doctor_") as folder:
        place = Path(folder)
        library, log = place / "small.so", place / "compiler.log"
        (place / name).write_text(source, encoding="utf-8")
        try:
            status = run_logged(
                (*command, *flags, name, "-o", library.name, "-lm"),
                cwd=place,
                log=log,
                timeout=config.compile_timeout,
            )
        except BuildFailedError as failure:
            return failure.reason or "it was ended"
        said = log.read_text(encoding="utf-8", errors="replace")
        said = "\n".join(said.splitlines()[1:-1])[-2000:].strip()  # between command and status
        if status != 0:
            return f"it ends with status {status} and says: {said or 'nothing'}"
        if not library.is_file():
            return f"it says that it did, but made no library; it says: {said or 'nothing'}"
        return _load(library)


def _load(library: Path) -> str:
    try:
        done = subprocess.run(
            [sys.executable, "-I", "-c", _LOAD, str(library)],
            capture_output=True,
            text=True,
            errors="replace",
            timeout=_LOAD_SECONDS,
            check=False,
        )
    except subprocess.TimeoutExpired:
        return "what it makes hangs when it is loaded"
    if done.returncode == 0:
        return ""
    last = (done.stderr.strip().splitlines() or [f"status {done.returncode}"])[-1]
    return f"what it makes cannot be used: {last}"


def check_nvcc(config: Config) -> list[Finding]:
    """The CUDA compiler, which nothing needs on a CPU."""
    words = shlex.split(config.nvcc or "nvcc")
    path = shutil.which(words[0])
    if path is None:
        if config.nvcc is None:
            return [Finding("nvcc", NOTE, "not found; kernels for the CPU do not need it")]
        found, status = f"{words[0]!r}, which NVCC names, was not found or is no program", None
    else:
        found, status = _nvcc_version([path, *words[1:]])
    if status == 0:
        return [Finding("nvcc", OK, f"{path}: {found}")]
    return [
        Finding(
            "nvcc",
            WARNING,
            found,
            "CUDA kernels cannot be compiled; kernels for the CPU do not need it.",
            (Fix("Leave it unset, or name one that works.", "unset NVCC"),),
        )
    ]


def _nvcc_version(command: list[str]) -> tuple[str, int | None]:
    try:
        done = subprocess.run(
            [*command, "--version"],
            stdin=subprocess.DEVNULL,
            capture_output=True,
            text=True,
            errors="replace",
            timeout=_NVCC_SECONDS,
            check=False,
        )
    except (OSError, subprocess.TimeoutExpired) as error:
        return f"{command[0]} does not run: {error}", None
    lines = [line for line in done.stdout.splitlines() if "release" in line]
    if done.returncode != 0 or not lines:
        return f"{command[0]} does not say its version; it ends with status {done.returncode}", None
    return lines[0].strip(), 0


def check_python_headers(config: Config) -> list[Finding]:
    """Python's headers, which people expect to be needed."""
    header = Path(sysconfig.get_paths()["include"]) / "Python.h"
    there = "are there" if header.is_file() else "are not there"
    why = "kernels are plain C libraries, so nothing here needs them"
    return [Finding("Python headers", NOTE, f"{there} ({header}); {why}")]
