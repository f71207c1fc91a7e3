"""Arrays in plain memory, for what is called from C."""

from __future__ import annotations

from typing import Any

from .contestant import Arrays
from .workload import Workload

__all__ = ["PlainMemory"]

#: Arrays begin where a cache line does, as Paddle's do.
_ALIGNMENT = 64


class PlainMemory:
    """Parameters, gradients and moments of a workload, held for as long as this is.

    Attributes:
        arrays: where they are.
    """

    def __init__(self, workload: Workload) -> None:
        import numpy as np

        self._held: list[list[Any]] = []
        self.arrays: list[Arrays] = []
        for index in range(len(workload.shapes)):
            values = [workload.parameter(index), workload.gradient(index)]
            values += [np.zeros_like(values[0])] * 2
            held = [_aligned(each) for each in values]
            self._held.append(held)
            param, grad, moment1, moment2 = (each.ctypes.data for each in held)
            self.arrays.append(Arrays(param, grad, moment1, moment2, held[0].size))


def _aligned(values: Any) -> Any:
    """A copy of an array in memory that begins where a cache line does, as a flat array."""
    import numpy as np

    memory = np.empty(values.nbytes + _ALIGNMENT, np.uint8)
    start = -memory.ctypes.data % _ALIGNMENT
    copy = memory[start : start + values.nbytes].view(np.float32)
    copy[:] = values.ravel()
    return copy
