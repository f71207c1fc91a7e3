"""The machine: CPU, threads, GPU."""

from __future__ import annotations

import os
import platform
import shutil
import subprocess
from pathlib import Path

from radam_codegen.config import Config
from radam_codegen.tools.doctor.findings import NOTE, OK, WARNING, Finding, Fix, unless_off

__all__ = ["check_cpu", "check_gpu", "check_platform"]

#: Features that decide how fast a kernel is.
_FEATURES = ("sse4_2", "avx", "avx2", "fma", "avx512f")
_SMI_SECONDS = 20.0


def check_platform(config: Config) -> list[Finding]:
    """Whether this is a platform that the package is tested on."""
    found = f"{platform.platform()}, Python {platform.python_version()}"
    if platform.system() == "Linux" and platform.machine() == "x86_64":
        return [Finding("platform", OK, found)]
    cause = "The package is tested on Linux, x86-64 only; training may work all the same."
    return [Finding("platform", WARNING, found, cause, (Fix("See whether the steps below work."),))]


def check_cpu(config: Config) -> list[Finding]:
    """What the CPU can do, and how many threads a step uses."""
    model, flags = _cpu()
    has = [name for name in _FEATURES if name in flags]
    found = f"{model or platform.machine()}; {', '.join(has) or 'no vector extensions known'}"
    cpus = len(os.sched_getaffinity(0))
    threads = f"{config.num_threads} for {cpus} CPUs of this process"
    if config.num_threads <= cpus:
        return [Finding("CPU", OK, found), Finding("threads", OK, threads)]
    cause = "More threads than CPUs wait for one another."
    fix = Fix("Use as many as there are CPUs.", "unset RADAM_CODEGEN_NUM_THREADS")
    status = unless_off(config, WARNING)
    return [Finding("CPU", OK, found), Finding("threads", status, threads, cause, (fix,))]


def check_gpu(config: Config) -> list[Finding]:
    """Which GPUs there are; nothing needs one."""
    smi = shutil.which("nvidia-smi")
    names = "none found"
    if smi is not None:
        try:
            done = subprocess.run(
                [smi, "--query-gpu=name,driver_version", "--format=csv,noheader"],
                stdin=subprocess.DEVNULL,
                capture_output=True,
                text=True,
                errors="replace",
                timeout=_SMI_SECONDS,
                check=False,
            )
            names = "; ".join(done.stdout.split("\n")).strip("; ") if not done.returncode else names
        except (OSError, subprocess.TimeoutExpired) as error:
            names = f"nvidia-smi does not answer ({error})"
    return [Finding("GPU", NOTE, names or "none found")]


def _cpu() -> tuple[str, frozenset[str]]:
    try:
        lines = Path("/proc/cpuinfo").read_text(encoding="utf-8", errors="replace").splitlines()
    except OSError:
        return "", frozenset()
    first: dict[str, str] = {}
    for line in lines:
        name, _, value = line.partition(":")
        first.setdefault(name.strip(), value.strip())
    return first.get("model name", ""), frozenset(first.get("flags", "").split())
