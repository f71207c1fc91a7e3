"""Numbers as they were written."""

from __future__ import annotations

import numpy as np

__all__ = ["as_written"]


def as_written(number: float) -> float:
    """Return the shortest decimal number that an attribute may have been.

    Paddle keeps most numbers as float32, so 0.9 reads 0.8999999761581421.
    """
    number = float(number)
    with np.errstate(over="ignore"):
        rounded = np.float32(number)
    return float(str(rounded)) if float(rounded) == number else number
