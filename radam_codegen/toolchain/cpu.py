"""CPUs that kernels are compiled for, and what the CPU at hand can do.

Features have the names that Linux gives them in ``/proc/cpuinfo``. It lists a feature only where
the operating system lets programs use it, too.
"""

from __future__ import annotations

import platform
from collections.abc import Iterable
from functools import cache
from pathlib import Path

from radam_codegen.errors import ArgumentError

__all__ = [
    "BASELINE",
    "NATIVE",
    "check_cpu",
    "cpu_features",
    "cpu_names",
    "default_cpus",
    "march",
    "needed_features",
    "ways_to_name_this_cpu",
]

#: The CPU of this machine, as the name of a CPU.
NATIVE = "native"
#: What every CPU of a machine's kind can do, on machines other than x86-64.
BASELINE = "baseline"

_CPUINFO = Path("/proc/cpuinfo")

# The levels of the x86-64 psABI (https://gitlab.com/x86-psABIs/x86-64-ABI): what each adds.
_LEVELS: dict[str, tuple[str, ...]] = {
    "x86-64-v1": (),
    "x86-64-v2": ("cx16", "lahf_lm", "pni", "popcnt", "sse4_1", "sse4_2", "ssse3"),
    "x86-64-v3": ("abm", "avx", "avx2", "bmi1", "bmi2", "f16c", "fma", "movbe", "xsave"),
    "x86-64-v4": ("avx512bw", "avx512cd", "avx512dq", "avx512f", "avx512vl"),
}


def cpu_names(machine: str | None = None) -> tuple[str, ...]:
    """Names that kernels can be compiled for, the plainest first.

    Args:
        machine: What ``platform.machine()`` calls it; this one when None.
    """
    levels = tuple(_LEVELS) if _kind(machine) == "x86_64" else (BASELINE,)
    return (*levels, NATIVE)


def default_cpus(machine: str | None = None) -> tuple[str, ...]:
    """For what a bundle is made unless told: something for every CPU, and what pays off."""
    if _kind(machine) == "x86_64":
        return ("x86-64-v1", "x86-64-v3", "x86-64-v4")
    return (BASELINE,)


def check_cpu(name: str) -> str:
    """Return a name that kernels can be compiled for on this machine.

    Raises:
        ArgumentError: There is no such name.
    """
    if name not in cpu_names():
        raise ArgumentError(
            f"There is no CPU {name!r} among those that kernels are compiled for on "
            f"{platform.machine()}; there are {', '.join(cpu_names())}."
        )
    if name == NATIVE and not cpu_features():
        raise ArgumentError(
            f"{_CPUINFO} does not say what this CPU can do, so nobody could tell where a kernel "
            f"for {NATIVE} runs; there are {', '.join(cpu_names()[:-1])}."
        )
    return name


def march(name: str) -> str | None:
    """What ``-march`` calls a CPU; None: nothing is said, and the compiler knows the least."""
    return {"x86-64-v1": "x86-64", BASELINE: None}.get(name, name)


def needed_features(name: str) -> tuple[str, ...]:
    """Features that a CPU must have to run what is compiled for a name, sorted.

    ``"native"`` needs all that this machine has: which of it the compiler used, nobody says.
    """
    if name == NATIVE:
        return tuple(sorted(cpu_features()))
    needed: set[str] = set()
    for level, added in _LEVELS.items() if name in _LEVELS else ():
        needed.update(added)
        if level == name:
            break
    return tuple(sorted(needed))


@cache
def cpu_features(cpuinfo: Path = _CPUINFO) -> frozenset[str]:
    """Features that all CPUs of this machine have; none where the file cannot be read."""
    try:
        text = cpuinfo.read_text(encoding="ascii", errors="replace")
    except OSError:
        return frozenset()
    return _common(
        line.partition(":")[2].split()
        for line in text.splitlines()
        if line.partition(":")[0].strip() in ("flags", "Features")
    )


def ways_to_name_this_cpu(
    features: frozenset[str] | None = None, machine: str | None = None
) -> tuple[tuple[str, ...], ...]:
    """Flags that tell a compiler of the CPU at hand, the best first.

    A compiler that refuses ``-march=native`` may know the levels of x86-64, and one that is too old
    for them knows the instructions that make the most of a difference. Without any of these, a
    kernel would be many times slower than it can be.

    Args:
        features: What the CPU can do; that of this machine when None.
        machine: As for :func:`cpu_names`.
    """
    has = cpu_features() if features is None else features
    ways: list[tuple[str, ...]] = [("-march=native",)]
    if _kind(machine) == "x86_64" and has:
        levels = [name for name in _LEVELS if has.issuperset(needed_features(name))]
        ways += [(f"-march={march(name)}",) for name in reversed(levels[1:])]
        ways.append(tuple(f"-m{name}" for name in ("avx2", "fma", "f16c") if name in has))
    return tuple(way for way in ways if way)


def _common(lists: Iterable[list[str]]) -> frozenset[str]:
    sets = [frozenset(each) for each in lists]
    return frozenset.intersection(*sets) if sets else frozenset()


def _kind(machine: str | None) -> str:
    return platform.machine() if machine is None else machine
