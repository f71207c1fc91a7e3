"""The kernel alone: a generated library, launched from C over plain memory."""

from __future__ import annotations

import ctypes
from collections.abc import Sequence
from typing import Any

from .contestant import Arrays, Contestant
from .workload import Workload

__all__ = ["make"]

#: Arrays begin where a cache line does, as Paddle's do.
_ALIGNMENT = 64
_KEY = -(1 << 62)


def make(workload: Workload, options: dict[str, Any]) -> Contestant:
    """Make one; ``options["equipment"]`` is the path of the compiled equipment."""
    return _KernelSteps(workload, options["equipment"])


class _KernelSteps(Contestant):
    def __init__(self, workload: Workload, equipment: str) -> None:
        import numpy as np

        from radam_codegen.ir.dtypes import DType
        from radam_codegen.ir.launch import LaunchSpec
        from radam_codegen.ir.plan import Clip, ClipKind, Decay, DecayKind, GroupPlan, TensorPlan
        from radam_codegen.program import kernels

        decay = Decay()
        if workload.weight_decay is not None:
            decay = Decay(DecayKind.L2, workload.weight_decay)
        clip = Clip()
        if workload.clip_norm is not None:
            clip = Clip(ClipKind.GLOBAL_NORM, workload.clip_norm)
        float32 = (DType.FLOAT32,) * 3
        group = GroupPlan(
            tuple(
                TensorPlan(f"w_{index}", shape, *float32, decay=decay)
                for index, shape in enumerate(workload.shapes)
            ),
            beta1=workload.beta1,
            beta2=workload.beta2,
            epsilon=workload.epsilon,
            clip=clip,
        )
        library = kernels.operator()
        kernels.register(_KEY, LaunchSpec.from_group(group))
        count = len(workload.shapes)
        self._held: list[Any] = []
        self._arrays = []
        self._tensors = library.ffi.new("radam_tensor[]", count)
        for index in range(count):
            values = [workload.parameter(index), workload.gradient(index)]
            values += [np.zeros_like(values[0])] * 2
            held = [_aligned(each) for each in values]
            self._held.append(held)
            arrays = _arrays(held)
            self._arrays.append(arrays)
            tensor = self._tensors[index]
            for name in ("param", "grad", "moment1", "moment2"):
                setattr(tensor, name, library.ffi.cast("void *", getattr(arrays, name)))
            tensor.numel = arrays.numel
        self._counts = np.zeros(count, np.int64)
        self._learning_rate = workload.learning_rate
        ffi = library.ffi
        self._run = int(ffi.cast("intptr_t", ffi.addressof(library.library, "radam_operator_run")))
        self._tensor_address = int(ffi.cast("intptr_t", self._tensors))
        self._steps = ctypes.CDLL(equipment).bench_kernel
        pointer, number = ctypes.c_void_p, ctypes.c_int64
        self._steps.argtypes = (
            *(pointer, number, pointer, number, pointer),
            *(ctypes.c_double, number, ctypes.POINTER(ctypes.c_double)),
        )

    def step(self) -> None:
        self.time_steps(1)

    def time_steps(self, count: int) -> list[float]:
        seconds = (ctypes.c_double * count)()
        status = self._steps(
            self._run,
            _KEY,
            self._tensor_address,
            len(self._arrays),
            self._counts.ctypes.data,
            self._learning_rate,
            count,
            seconds,
        )
        if status != 0:
            raise RuntimeError(f"the kernel's step ended with status {status}")
        return list(seconds)

    def arrays(self) -> list[Arrays]:
        return self._arrays


def _arrays(held: Sequence[Any]) -> Arrays:
    param, grad, moment1, moment2 = (each.ctypes.data for each in held)
    return Arrays(param, grad, moment1, moment2, held[0].size)


def _aligned(values: Any) -> Any:
    """A copy of an array in memory that begins where a cache line does, as a flat array."""
    import numpy as np

    memory = np.empty(values.nbytes + _ALIGNMENT, np.uint8)
    start = -memory.ctypes.data % _ALIGNMENT
    copy = memory[start : start + values.nbytes].view(np.float32)
    copy[:] = values.ravel()
    return copy
