"""What the processes do that :mod:`support.fork_server` forks."""

from __future__ import annotations

import time
from pathlib import Path
from typing import Any

import numpy as np

from radam_codegen.config import Config
from radam_codegen.runtime import LoadedKernel, load_kernel
from radam_codegen.runtime.interface import ffi
from radam_codegen.toolchain import Artifact, build_kernel, digests
from radam_codegen.toolchain.cache import get_or_build
from support.hand_written import source_of

_SMALLEST = Path(__file__).with_name("smallest_kernel.c")


def warm_up(folder: Path) -> None:
    """Import all that is imported late, and ask the compiler what it is; load nothing."""
    ffi()
    _build(folder)


def train(cache: str, forget_digests: bool = False) -> Any:
    """Build or find the smallest kernel, load it, and run a step.

    Args:
        cache: The folder.
        forget_digests: Whether the compiler's files are read anew.
    """
    if forget_digests:
        digests._known.clear()
    built = _build(Path(cache))
    return {
        "values": _step(load_kernel(built.library)),
        "compiled": built.compiled,
        "library": str(built.library),
    }


def find(cache: str, kind: str, key: str) -> bool:
    """Whether an entry is there and would be loaded; what is damaged is not built again."""

    def build(folder: Path) -> Any:
        raise _NotFoundError

    try:
        get_or_build(Path(cache), kind, key, build)
    except _NotFoundError:
        return False
    return True


def now() -> float:
    """What the clock says, in seconds since 1970."""
    return time.time()


class _NotFoundError(Exception):
    pass


def _build(cache: Path) -> Artifact:
    source = source_of(_SMALLEST.read_text(encoding="utf-8"))
    return build_kernel(source, Config(cache_dir=cache, num_threads=1, cc="gcc"))


def _step(kernel: LoadedKernel) -> list[float]:
    """Parameters after one step of the smallest kernel: 0.5, 1.5, 2.5 and so on."""
    param = np.arange(1, 41, dtype=np.float32)
    step = np.zeros(1, np.int64)
    tensors = ffi().new("radam_tensor[1]")
    tensors[0].param = ffi().cast("void *", param.ctypes.data)
    tensors[0].numel = param.size
    call = ffi().new("radam_group *")
    call.tensors, call.tensor_count = tensors, 1
    call.step = ffi().cast("int64_t *", step.ctypes.data)
    chunks = ffi().new("radam_chunk[1]", [(0, 0, param.size)])
    call.chunks, call.chunk_count = chunks, 1
    call.lr = 0.5
    assert kernel.kernel.scalar(call) == 1
    kernel.kernel.each(call, 0, 1)
    assert step[0] == 1
    values: list[float] = param.tolist()
    return values
