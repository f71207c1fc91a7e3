"""The ceiling: the traffic of a step over a contestant's own memory."""

from __future__ import annotations

import ctypes
from collections.abc import Sequence

from .contestant import Arrays

__all__ = ["Ceiling"]


class _Arrays(ctypes.Structure):
    _fields_ = (
        ("param", ctypes.c_void_p),
        ("grad", ctypes.c_void_p),
        ("moment1", ctypes.c_void_p),
        ("moment2", ctypes.c_void_p),
        ("numel", ctypes.c_int64),
    )


class Ceiling:
    """Moves what a step moves, with next to no arithmetic, and leaves all values as they are.

    Args:
        equipment: Path of the compiled equipment.
        arrays: What to move.
        threads: On how many threads.
        with_norm: Whether the gradients are read once more before.
        with_root: Whether each element is divided by a root, too, as a step does.
    """

    def __init__(
        self,
        equipment: str,
        arrays: Sequence[Arrays],
        threads: int,
        with_norm: bool,
        with_root: bool = False,
    ) -> None:
        self._move = ctypes.CDLL(equipment).bench_ceiling
        self._move.argtypes = (
            ctypes.POINTER(_Arrays),
            ctypes.c_int64,
            ctypes.c_int32,
            ctypes.c_int32,
            ctypes.c_int32,
            ctypes.c_float,
            ctypes.c_int64,
            ctypes.POINTER(ctypes.c_double),
        )
        self._arrays = (_Arrays * len(arrays))(*(_Arrays(*each) for each in arrays))
        self._threads = threads
        self._with = int(with_norm), int(with_root)

    def time_steps(self, count: int) -> list[float]:
        """Move everything ``count`` times; return the seconds of each.

        Raises:
            MemoryError: There are no threads or no memory to be had.
        """
        seconds = (ctypes.c_double * count)()
        status = self._move(
            self._arrays, len(self._arrays), self._threads, *self._with, 0.0, count, seconds
        )
        if status != 0:
            raise MemoryError("the ceiling could not be measured: no threads or no memory")
        return list(seconds)
