"""A training that PyTorch's RAdam and ours both go through, step by step the same.

Everything here is exact in float64 up to single roundings, whichever library computes it.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np

__all__ = ["GROUPS", "LEARNING_RATE", "RECORDED", "STEPS", "VARIANTS", "gradients", "start"]

Array = np.ndarray[Any, np.dtype[Any]]

STEPS = 2000
LEARNING_RATE = 0.01
#: Steps after which parameters are written down.
RECORDED = (*range(1, 11), 25, *range(50, STEPS + 1, 50))
#: Whether the decay is decoupled, by name of the variant.
VARIANTS = {"coupled": False, "decoupled": True}
#: Per group: shapes of its parameters and its own options; ``learning_rate`` is a factor.
GROUPS: tuple[dict[str, Any], ...] = (
    {
        "shapes": ((), (3,)),
        "beta1": 0.9,
        "beta2": 0.999,
        "epsilon": 1e-8,
        "weight_decay": 0.05,
        "learning_rate": 1.0,
    },
    {
        "shapes": ((2, 2),),
        "beta1": 0.8,
        "beta2": 0.95,
        "epsilon": 1e-3,
        "weight_decay": 0.3,
        "learning_rate": 0.5,
    },
)
_SHAPES = tuple(shape for group in GROUPS for shape in group["shapes"])


def start() -> list[Array]:
    """The parameters before the first step."""
    return [np.asarray(1.0 + _pattern(shape, 3 * place)) for place, shape in enumerate(_SHAPES)]


def gradients(params: Sequence[Array], step: int) -> list[Array]:
    """Gradients at the parameters: pulled towards a target, pushed by what looks like noise."""
    found = []
    for place, param in enumerate(params):
        target = _pattern(param.shape, seed=100 + place)
        noise = _pattern(param.shape, seed=1000 * step + place)
        found.append(np.asarray(0.5 * (param - target) + 2.0 * noise))
    return found


def _pattern(shape: tuple[int, ...], seed: int) -> Array:
    """Numbers in [-0.5, 0.5) that no generator of random numbers is needed for."""
    count = int(np.prod(shape, dtype=np.int64))
    index = np.arange(count, dtype=np.int64)
    scattered = (index * 104729 + seed * 7919 + (index + seed) ** 2 * 31) % 65537
    return np.asarray(scattered / 65537.0 - 0.5).reshape(shape)
