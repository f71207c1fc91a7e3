"""What the processes do that :mod:`support.fork_server` forks."""

from __future__ import annotations

import shutil
import time
import warnings
from pathlib import Path
from typing import Any

import numpy as np

from radam_codegen.config import Config
from radam_codegen.runtime import LoadedKernel, load_kernel
from radam_codegen.runtime.interface import ffi
from radam_codegen.toolchain import Artifact, build_kernel, digests
from radam_codegen.toolchain.cache import get_or_build, store
from support.hand_written import source_of
from support.recording_compiler import make_recording_compiler

_SMALLEST = Path(__file__).with_name("smallest_kernel.c")
#: By the names that tests give them; :func:`warm_up` adds ``"recording"``.
_COMPILERS = {"gcc": "gcc"}


def warm_up(folder: Path) -> None:
    """Import all that is imported late, and ask the compilers what they are; load nothing."""
    ffi()
    _COMPILERS["recording"] = make_recording_compiler(folder / "recording", "gcc")
    for compiler in _COMPILERS:
        _build(folder, compiler)


def train(cache: str, compiler: str = "gcc", forget_digests: bool = False) -> Any:
    """Build or find the smallest kernel, load it, and run a step.

    Args:
        cache: The folder.
        compiler: ``"gcc"``, or ``"recording"`` for one that compiles nothing any more.
        forget_digests: Whether the compiler's files are read anew.
    """
    if forget_digests:
        digests._known.clear()
    built = _build(Path(cache), compiler)
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


def find_damaged(
    cache: str, kind: str, key: str, good: str, damages: list[tuple[str, int, int]]
) -> list[int]:
    """Damage an entry in one way after the other; which of them were not noticed.

    Args:
        cache: The folder.
        kind: The entry's.
        key: The entry's.
        good: Folder with a copy of the entry as it was built.
        damages: The name of a file, how many of its bytes are left, and which bit is flipped; -1:
            none.
    """
    entry, unnoticed = Path(cache, kind, key), []
    for number, (name, size, bit) in enumerate(damages):
        content = bytearray(Path(good, name).read_bytes()[:size])
        if bit >= 0:
            content[bit // 8] ^= 1 << bit % 8
        (entry / name).write_bytes(content)
        store._warned.clear()  # a process warns once of what is the matter with an entry
        with warnings.catch_warnings(record=True) as caught:
            warnings.simplefilter("always")
            found = find(cache, kind, key)
        said = [str(each.message) for each in caught]
        if found or not any("is damaged and will be built again" in text for text in said):
            unnoticed.append(number)
        shutil.rmtree(entry, ignore_errors=True)
        shutil.copytree(good, entry)
    return unnoticed


def now() -> float:
    """What the clock says, in seconds since 1970."""
    return time.time()


class _NotFoundError(Exception):
    pass


def _build(cache: Path, compiler: str) -> Artifact:
    source = source_of(_SMALLEST.read_text(encoding="utf-8"))
    return build_kernel(source, Config(cache_dir=cache, num_threads=1, cc=_COMPILERS[compiler]))


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
