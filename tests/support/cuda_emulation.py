"""Compiling generated CUDA kernels with g++, and running their steps on the CPU.

The files are compiled as they are; ``tests/cuda/emulation`` stands in for nvcc and a GPU.
Steps run in a process of their own, which a faulty kernel may end.
"""

from __future__ import annotations

import os
import re
import struct
import subprocess
from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, field
from enum import Enum
from pathlib import Path
from typing import Any

import numpy as np
from filelock import FileLock

from radam_codegen._resources import include_dir
from radam_codegen.ir.dtypes import DType
from radam_codegen.ir.group import slot_dtype
from radam_codegen.ir.interpret import GroupArrays, storage_dtype
from radam_codegen.ir.ops import Slot
from radam_codegen.ir.plan import GroupPlan, KernelStructure
from support.plans import encode

__all__ = [
    "SANITIZED",
    "WATCHED",
    "Case",
    "EmulationError",
    "Emulator",
    "Flavour",
    "Number",
    "Order",
    "Result",
    "build_emulator",
]

Array = np.ndarray[Any, np.dtype[Any]]

_SOURCES = Path(__file__).resolve().parents[1] / "cuda" / "emulation"
_HEADER = "cuda_emulation.h"
_SLOTS = (Slot.PARAM, Slot.GRAD, Slot.MOMENT1, Slot.MOMENT2, Slot.MASTER)
#: The ``radam_cuda_dtype`` of a number in device memory.
_NUMBER_TYPES = (DType.FLOAT64, DType.FLOAT32, DType.BFLOAT16, DType.FLOAT16)
_SECONDS = 120


@dataclass(frozen=True)
class Flavour:
    """How emulated kernels are compiled, and what is found in them."""

    name: str
    #: Of kernels, and of the process that runs them.
    kernel_flags: tuple[str, ...]
    driver_flags: tuple[str, ...]
    #: The version of CUDA decides how many tensors one launch takes.
    cuda_version: int


#: Every access is watched: see ``memory.h``. 48 tensors per launch.
WATCHED = Flavour(
    "watched",
    ("-fsanitize=thread", "--param=tsan-instrument-func-entry-exit=0"),
    ("-O1",),
    12000,
)
_SANITIZERS = (
    "-fsanitize=address,undefined",
    "-fno-sanitize-recover=all",
    "-fsanitize-sections=emulated_shared",
)
#: Under AddressSanitizer and UndefinedBehaviorSanitizer. 400 tensors per launch.
SANITIZED = Flavour("sanitized", _SANITIZERS, _SANITIZERS, 13000)

_COMMON = ("-std=c++17", "-g1", "-ffp-contract=off", "-fPIC")


class Order(Enum):
    """In which order blocks and threads run."""

    ASCENDING = 0
    DESCENDING = 1
    SHUFFLED = 2
    INTERLEAVED = 3


class EmulationError(Exception):
    """A kernel did what it must not, or could not be run; the message says what."""


@dataclass(frozen=True)
class Number:
    """A number in device memory: a value for each step, and its type."""

    values: tuple[float, ...]
    dtype: DType = DType.FLOAT32

    @property
    def rounded(self) -> tuple[float, ...]:
        """The values as a kernel reads them."""
        if self.dtype is DType.BFLOAT16:
            bits = encode(np.array(self.values), self.dtype).astype(np.uint32) << 16
            return tuple(map(float, bits.view(np.float32)))
        return tuple(map(float, np.array(self.values, storage_dtype(self.dtype))))


@dataclass(frozen=True)
class Case:
    """A launch of one or more steps: everything that a kernel is given."""

    library: Path
    structure: KernelStructure
    group: GroupPlan
    arrays: GroupArrays
    lr: Number
    found_inf: tuple[bool, ...] | None = None
    #: Stands in for the decay of the tensors in ``at_run_time``, by index.
    weight_decay: Number | None = None
    at_run_time: tuple[int, ...] = ()
    #: Per tensor and array, how many elements its address lies behind a multiple of 64 bytes.
    offsets: Sequence[Sequence[int]] = ()
    order: Order = Order.ASCENDING
    seed: int = 0
    #: At most so many blocks per launch and threads per block, whatever the kernel asks for.
    most_blocks: int = 0
    most_threads: int = 0
    #: This launch is refused.
    failing_launch: int = -1
    #: Bytes that the workspace is said to lack.
    less_workspace: int = 0


@dataclass(frozen=True)
class Result:
    """What a case leaves behind."""

    #: What ``step()`` returned.
    status: int
    #: Launches of one step.
    launches: int
    #: Accesses to device memory of 16 bytes and of less, over all steps; 0 where none are watched.
    packets: int
    singles: int
    arrays: GroupArrays
    workspace: bytes = field(repr=False)


class Emulator:
    """One flavour.

    Args:
        flavour: Which one.
        folder: A folder of its own, for kernels and what they are given.
        shared: A folder that all emulators of a run share.
    """

    def __init__(self, flavour: Flavour, folder: Path, shared: Path) -> None:
        self.flavour = flavour
        self._folder, self._shared = folder, shared / f"emulator-{flavour.name}"
        self._driver = self._shared / "driver"
        # This folder comes first, as it has the header of all kernels compiled beforehand.
        folders = (self._shared, _SOURCES, include_dir())
        self._flags = (
            *_COMMON,
            *(f"-I{path}" for path in folders),
            f"-DCUDART_VERSION={flavour.cuda_version}",
        )

    def build_driver(self) -> None:
        """Compile the process that runs cases, and what stands before every kernel, once."""
        self._shared.mkdir(parents=True, exist_ok=True)
        with FileLock(self._shared / "lock"):
            if not self._driver.exists():
                self._build_driver()

    def _build_driver(self) -> None:
        header = _SOURCES / _HEADER
        compiled = self._shared / f"{_HEADER}.gch"
        self._compile(*self.flavour.kernel_flags, "-x", "c++-header", "-o", compiled, header)
        sources = sorted(map(str, _SOURCES.glob("*.cc")))
        flags = ("-Wall", "-Wextra", "-Werror", *self.flavour.driver_flags, "-rdynamic")
        self._compile(*flags, "-o", self._driver, *sources, "-ldl")

    def build(self, name: str, text: str, *flags: str) -> Path:
        """Compile a generated file, byte for byte, and return the library."""
        source = self._folder / f"{name}.cu"
        source.write_text(text, encoding="utf-8")
        unlinked, library = source.with_suffix(".o"), source.with_suffix(".so")
        self._compile(
            *(*self.flavour.kernel_flags, *flags),
            *("-include", _HEADER, "-c", "-o", unlinked, "-x", "c++", source),
        )
        # Linked with the flags of the driver, which has what watched kernels call.
        self._compile(*self.flavour.driver_flags, "-shared", "-o", library, unlinked)
        return library

    def build_all(self, texts: dict[str, str]) -> dict[str, Path]:
        """Compile several files at once."""
        with ThreadPoolExecutor(2) as pool:
            return dict(zip(texts, pool.map(self.build, texts, texts.values())))

    def run(self, *cases: Case) -> list[Result]:
        """Run cases, all in one process.

        Raises:
            EmulationError: One of them ended it.
        """
        given, found = self._folder / "cases", self._folder / "results"
        given.write_bytes(b"".join(map(_encoded, cases)))
        options = {"ASAN_OPTIONS": "detect_leaks=0", "UBSAN_OPTIONS": "print_stacktrace=0"}
        done = subprocess.run(
            [self._driver, given, found],
            capture_output=True,
            text=True,
            errors="replace",
            check=False,
            timeout=_SECONDS,
            env={**os.environ, **options},
        )
        if done.returncode:
            raise EmulationError(f"status {done.returncode}\n{done.stderr}{_line(done.stderr)}")
        results = memoryview(found.read_bytes())
        return [_decoded(case, reader) for reader in [_Reader(results)] for case in cases]

    def _compile(self, *arguments: object) -> None:
        command = ["g++", *self._flags, *map(str, arguments)]
        done = subprocess.run(command, capture_output=True, text=True, check=False)
        if done.returncode:
            raise EmulationError(f"{' '.join(command)}\n{done.stderr}")


def _line(message: str) -> str:
    """The line of the source in which the code lies that a fault's message names."""
    found = re.search(r"^at (.+) (0x[0-9a-f]+)$", message, re.MULTILINE)
    if found is None:
        return ""
    command = ["addr2line", "-e", *found.groups()]
    return subprocess.run(command, capture_output=True, text=True, check=False).stdout


def build_emulator(flavour: Flavour, folder: Path, shared: Path) -> Emulator:
    """Return an emulator that is ready to run cases."""
    emulator = Emulator(flavour, folder, shared)
    emulator.build_driver()
    return emulator


def _integers(*numbers: int) -> bytes:
    return struct.pack(f"<{len(numbers)}q", *numbers)


def _reals(*numbers: float) -> bytes:
    return struct.pack(f"<{len(numbers)}d", *numbers)


def _encoded(case: Case) -> bytes:
    """A case as ``driver.cc`` reads it."""
    group, name = case.group, os.fsencode(case.library)
    decay = case.weight_decay
    parts = [
        *(_integers(len(name)), name),
        _integers(case.order.value, case.seed, case.most_blocks, case.most_threads),
        _integers(case.failing_launch, case.less_workspace),
        _reals(group.beta1, group.beta2, group.epsilon, group.clip.bound, group.clip.lower),
        _integers(_NUMBER_TYPES.index(case.lr.dtype), case.lr.dtype.size),
        _integers(*((_NUMBER_TYPES.index(decay.dtype), decay.dtype.size) if decay else (0, 0))),
        _integers(0 if case.found_inf is None else 1),
        _integers(len(group.tensors), len(case.at_run_time)),
    ]
    raw = [case.arrays.step.tobytes()]
    for index, tensor in enumerate(group.tensors):
        body = case.structure.classes.index(tensor.tensor_class)
        parts.append(_integers(tensor.numel))
        parts.append(_reals(tensor.lr_scale, tensor.decay.coefficient))
        parts.append(_integers(tensor.need_clip, body, index in case.at_run_time))
        for place, slot in enumerate(_SLOTS):
            array = getattr(case.arrays, slot.value)[index]
            if array is None:
                parts.append(_integers(0, 0))
                continue
            assert array.dtype == storage_dtype(slot_dtype(tensor.tensor_class, slot))
            offset = case.offsets[index][place] if case.offsets else 0
            parts.append(_integers(array.itemsize, offset * array.itemsize))
            raw.append(array.tobytes())
    parts.extend([*raw, _integers(len(case.lr.values))])
    for step in range(len(case.lr.values)):
        for number in (case.lr, decay):
            if number is not None:
                parts.append(encode(np.array(number.values[step]), number.dtype).tobytes())
        if case.found_inf is not None:
            parts.append(bytes([case.found_inf[step]]))
    return b"".join(parts)


class _Reader:
    def __init__(self, memory: memoryview) -> None:
        self._memory = memory

    def read(self, size: int) -> bytes:
        found, self._memory = bytes(self._memory[:size]), self._memory[size:]
        return found

    def integers(self, count: int) -> tuple[int, ...]:
        return struct.unpack(f"<{count}q", self.read(8 * count))

    def like(self, array: Array) -> Array:
        return np.frombuffer(self.read(array.nbytes), array.dtype).reshape(array.shape).copy()


def _decoded(case: Case, reader: _Reader) -> Result:
    status, launches, packets, singles = reader.integers(4)
    step = reader.like(case.arrays.step)
    columns: dict[str, list[Any]] = {slot.value: [] for slot in _SLOTS}
    for index in range(len(case.group.tensors)):
        for slot in _SLOTS:
            array = getattr(case.arrays, slot.value)[index]
            kept = array is None or slot is Slot.GRAD
            columns[slot.value].append(array if kept else reader.like(array))
    (size,) = reader.integers(1)
    arrays = GroupArrays(**columns, step=step)
    return Result(status, launches, packets, singles, arrays, reader.read(size))
