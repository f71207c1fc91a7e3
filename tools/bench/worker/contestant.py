"""What a contestant is."""

from __future__ import annotations

import time
from typing import Any, NamedTuple

__all__ = ["Arrays", "Contestant"]


class Arrays(NamedTuple):
    """Addresses of the float32 arrays of one parameter, and how many elements each has."""

    param: int
    grad: int
    moment1: int
    moment2: int
    numel: int


class Contestant:
    """Something that takes steps. Once made, it is ready: what is slow the first time is done."""

    def step(self) -> None:
        """Take one step, and return when it is done."""
        raise NotImplementedError

    def time_steps(self, count: int) -> list[float]:
        """Take steps; return the seconds of each."""
        seconds = []
        for _ in range(count):
            begin = time.perf_counter()
            self.step()
            seconds.append(time.perf_counter() - begin)
        return seconds

    def arrays(self) -> list[Arrays]:
        """Where the arrays are, for the ceiling over the very same memory; empty: not known."""
        return []

    def state_bytes(self) -> int:
        """Bytes that the optimizer keeps from step to step, the learning rate left out."""
        raise NotImplementedError

    def facts(self) -> dict[str, Any]:
        """What else a report may say."""
        return {}
