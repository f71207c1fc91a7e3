"""The machine, as a report describes it: nothing in it says whose or which one it is."""

from __future__ import annotations

import os
import platform
import re
import subprocess
from collections.abc import Mapping
from dataclasses import dataclass, field
from importlib import metadata
from pathlib import Path

from radam_codegen._version import __version__
from radam_codegen.config import Config
from radam_codegen.errors import CompilerNotFoundError
from radam_codegen.toolchain.compiler import find_c_compiler

__all__ = ["Machine", "available_bytes", "describe_machine", "physical_cores"]

_PACKAGES = ("paddlepaddle", "paddlepaddle-gpu", "numpy")
_PEERS = ("torch", "jax", "optax")
_VERSIONS = (
    "import sys\nfrom importlib import metadata\n"
    "for name in sys.argv[1:]:\n"
    "    try: print(name, metadata.version(name))\n"
    "    except metadata.PackageNotFoundError: pass\n"
)


@dataclass(frozen=True)
class Machine:
    """What figures depend on.

    Attributes:
        cpu: Model of the CPU.
        cores: Physical cores that this process may use.
        cpus: CPUs that this process may use.
        caches: Sizes by level, such as ``"L2": "1024K"``, of one core.
        memory_bytes: Memory in all.
        system: Operating system, the first two numbers of its kernel's version, architecture.
        python: Version of Python.
        compiler: Version of the C compiler; empty where there is none.
        versions: Versions of packages, by name.
    """

    cpu: str
    cores: int
    cpus: int
    caches: Mapping[str, str]
    memory_bytes: int
    system: str
    python: str
    compiler: str
    versions: Mapping[str, str] = field(default_factory=dict)


def describe_machine(config: Config, peer_python: str) -> Machine:
    """Look at this machine.

    Args:
        config: Says which compiler.
        peer_python: The interpreter that has the peers.
    """
    usable = sorted(os.sched_getaffinity(0))
    return Machine(
        cpu=_cpu_model(),
        cores=physical_cores(),
        cpus=len(usable),
        caches=_caches(usable[0]),
        memory_bytes=_meminfo("MemTotal"),
        system=f"{platform.system()} {_kernel_version()} {platform.machine()}",
        python=platform.python_version(),
        compiler=_compiler(config),
        versions={"radam-codegen": __version__, **_own_versions(), **_peer_versions(peer_python)},
    )


def physical_cores() -> int:
    """Physical cores among the CPUs that this process may use; at least 1."""
    cores = set()
    for cpu in os.sched_getaffinity(0):
        topology = Path(f"/sys/devices/system/cpu/cpu{cpu}/topology")
        try:
            package = (topology / "physical_package_id").read_text(encoding="ascii")
            cores.add((package, (topology / "core_id").read_text(encoding="ascii")))
        except OSError:
            cores.add((str(cpu), ""))
    return len(cores)


def available_bytes() -> int:
    """Memory that can be had without swapping, as the kernel estimates it."""
    return _meminfo("MemAvailable")


def _kernel_version() -> str:
    """Without what a builder has added, which says more of where the machine is from."""
    return ".".join(platform.release().split(".")[:2])


def _meminfo(name: str) -> int:
    text = Path("/proc/meminfo").read_text(encoding="ascii")
    found = re.search(rf"^{name}:\s+(\d+) kB$", text, re.M)
    return int(found[1]) << 10 if found else 0


def _cpu_model() -> str:
    try:
        text = Path("/proc/cpuinfo").read_text(encoding="utf-8", errors="replace")
    except OSError:
        return platform.machine()
    found = re.search(r"^model name\s*:\s*(.+)$", text, re.M)
    return found[1].strip() if found else platform.machine()


def _caches(cpu: int) -> dict[str, str]:
    sizes = {}
    for index in sorted(Path(f"/sys/devices/system/cpu/cpu{cpu}/cache").glob("index*")):
        try:
            level = (index / "level").read_text(encoding="ascii").strip()
            kind = (index / "type").read_text(encoding="ascii").strip()
            size = (index / "size").read_text(encoding="ascii").strip()
        except OSError:
            continue
        if kind != "Instruction":
            sizes[f"L{level}"] = size
    return sizes


def _compiler(config: Config) -> str:
    try:
        return find_c_compiler(config.cc, config.compile_timeout).version.partition("\n")[0]
    except CompilerNotFoundError:
        return ""


def _own_versions() -> dict[str, str]:
    found = {}
    for name in _PACKAGES:
        try:
            found[name] = metadata.version(name)
        except metadata.PackageNotFoundError:
            continue
    return found


def _peer_versions(python: str) -> dict[str, str]:
    try:
        done = subprocess.run(
            [python, "-c", _VERSIONS, *_PEERS],
            capture_output=True,
            text=True,
            check=False,
            timeout=60,
        )
    except (OSError, subprocess.TimeoutExpired):
        return {}
    return dict(line.split() for line in done.stdout.splitlines())
