"""GPUs of this machine, and what machine code they run; no CUDA toolkit is needed to know."""

from __future__ import annotations

import re
import shutil
import subprocess
from collections.abc import Collection
from functools import cache

from radam_codegen.toolchain.compiler import ask

__all__ = ["gpus_here", "suits"]

_SECONDS = 20.0


def gpus_here() -> tuple[int, ...]:
    """Architectures of the GPUs in this machine, sorted: 90 is ``sm_90``.

    None where there is no GPU, and where there is no ``nvidia-smi``, which comes with the driver,
    to say what they are. In this process the driver is not asked: it would not work in processes
    that are forked from it later.
    """
    program = shutil.which("nvidia-smi")
    return () if program is None else _asked(program)


@cache
def _asked(program: str) -> tuple[int, ...]:
    command = [program, "--query-gpu=compute_cap", "--format=csv,noheader"]
    try:
        status, text = ask(command, _SECONDS, both=True)
    except (OSError, subprocess.TimeoutExpired):
        return ()
    found = re.findall(r"^(\d+)\.(\d)$", text, re.M) if status == 0 else ()
    return tuple(sorted({10 * int(major) + int(minor) for major, minor in found}))


def suits(architectures: Collection[int], gpu: int) -> bool:
    """Whether a GPU runs a library that has machine code for some architectures.

    A GPU runs code for its own generation, if that is not for a later GPU of it; and the driver
    compiles the PTX of the newest architecture for GPUs that are as new, or newer.
    """
    same_generation = any(each // 10 == gpu // 10 and each <= gpu for each in architectures)
    return same_generation or max(architectures, default=gpu + 1) <= gpu
