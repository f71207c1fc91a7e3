"""The kernel alone: a generated library, launched from C over plain memory."""

from __future__ import annotations

import ctypes
from typing import Any

from .contestant import Arrays, Contestant
from .plain_memory import PlainMemory
from .workload import Workload

__all__ = ["make"]

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
        self._memory = PlainMemory(workload)
        self._tensors = library.ffi.new("radam_tensor[]", count)
        for tensor, arrays in zip(self._tensors, self._memory.arrays):
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
            len(self._memory.arrays),
            self._counts.ctypes.data,
            self._learning_rate,
            count,
            seconds,
        )
        if status != 0:
            raise RuntimeError(f"the kernel's step ended with status {status}")
        return list(seconds)

    def arrays(self) -> list[Arrays]:
        return self._memory.arrays
