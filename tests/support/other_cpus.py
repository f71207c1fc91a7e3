"""Compilers that take this machine for one with another CPU."""

from __future__ import annotations

import shlex
import shutil
import subprocess
from pathlib import Path

from radam_codegen.toolchain.cpu import cpu_features, march, needed_features

__all__ = ["CPUS", "LEVELS", "macros", "make_compilers", "multiplies_and_adds", "runs_here"]

#: The levels of x86-64, the plainest first.
LEVELS = ("x86-64-v1", "x86-64-v2", "x86-64-v3", "x86-64-v4")
#: The levels, and a CPU with AVX-512 that a compiler also schedules for, as for "native".
CPUS = (*LEVELS, "skylake-avx512")

_COMPILERS = ("cc", "gcc", "clang", "c++", "g++", "clang++")
_SCRIPT = """#!/bin/sh
for word do
    shift
    [ "$word" = -march=native ] && word=-march={march}
    set -- "$@" "$word"
done
exec {compiler} "$@"
"""


def make_compilers(folder: Path, cpu: str) -> Path:
    """Write scripts that run the compilers of this machine with another meaning of "native".

    Args:
        folder: Where the scripts go, each under its compiler's name: first on the path, they are
            what every test finds.
        cpu: What ``-march=native`` means to them, one of ``CPUS``.
    """
    folder.mkdir(parents=True, exist_ok=True)
    for name in _COMPILERS:
        found = shutil.which(name)
        if found is not None:
            script = folder / name
            text = _SCRIPT.format(march=march(cpu), compiler=shlex.quote(found))
            script.write_text(text, encoding="utf-8")
            script.chmod(0o755)
    return folder


def runs_here(cpu: str) -> bool:
    """Whether the CPU of this machine runs what is compiled for another, one of ``CPUS``."""
    level = cpu if cpu in LEVELS else "x86-64-v4"
    return cpu_features().issuperset(needed_features(level))


def macros(compiler: str, *flags: str) -> frozenset[str]:
    """The macros that a compiler predefines under some flags; they say what a CPU can do."""
    command = [compiler, *flags, "-dM", "-E", "-x", "c", "/dev/null"]
    done = subprocess.run(command, capture_output=True, text=True, check=True)
    return frozenset(done.stdout.splitlines())


def multiplies_and_adds(cpu: str, compiler: str = "gcc") -> bool:
    """Whether a CPU has the instruction; else each fma is a call, and no loop has vectors."""
    return "#define __FMA__ 1" in macros(compiler, f"-march={march(cpu)}")
