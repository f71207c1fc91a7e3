"""What every contestant is given: the same parameters, gradients and numbers."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

__all__ = ["Workload"]

#: Gradients and parameters lie within this distance of 0.
_SCALE = 0.01


@dataclass(frozen=True)
class Workload:
    """One suite in one variant.

    Attributes:
        shapes: The shape of each parameter.
        threads: How many threads a step may use.
        clip_norm: Bound of the gradients' global norm; None: no clip.
        weight_decay: Coefficient of the L2 term; None: no decay.
    """

    shapes: tuple[tuple[int, ...], ...]
    threads: int
    clip_norm: float | None = None
    weight_decay: float | None = None

    learning_rate = 1e-3
    beta1 = 0.9
    beta2 = 0.999
    epsilon = 1e-8

    def parameter(self, index: int) -> Any:
        """Initial value of a parameter, a float32 array; the same whenever it is asked for."""
        return self._random(index, 0)

    def gradient(self, index: int) -> Any:
        """The gradient of a parameter, a float32 array; the same whenever it is asked for."""
        return self._random(index, 1)

    def _random(self, index: int, role: int) -> Any:
        import numpy as np

        random = np.random.default_rng([index, role])
        values = random.random(self.shapes[index], np.float32)
        values -= np.float32(0.5)
        values *= np.float32(2 * _SCALE)
        return values
