"""The ceiling with a division and a square root per element: what IEEE results cost at least."""

from __future__ import annotations

from typing import Any

from .ceiling import Ceiling
from .contestant import Contestant
from .plain_memory import PlainMemory
from .workload import Workload

__all__ = ["make"]


def make(workload: Workload, options: dict[str, Any]) -> Contestant:
    """Make one; ``options["equipment"]`` is the path of the compiled equipment."""
    return _IeeeCeiling(workload, options["equipment"])


class _IeeeCeiling(Contestant):
    def __init__(self, workload: Workload, equipment: str) -> None:
        self._memory = PlainMemory(workload)
        with_norm = workload.clip_norm is not None
        self._ceiling = Ceiling(
            equipment, self._memory.arrays, workload.threads, with_norm, with_root=True
        )

    def step(self) -> None:
        self.time_steps(1)

    def time_steps(self, count: int) -> list[float]:
        return self._ceiling.time_steps(count)
