"""Step counts as the native optimizer keeps them, and back.

It has no count: per element it holds ``beta1_pow`` and ``beta2_pow`` (the betas, rounded to
float32, multiplied up in the parameter's type) and ``rho``, which is
``t * beta2_pow / (1 - beta2_pow)``. So ``rho`` gives the count whatever beta2 was, to about 1e-4
of it; and multiplying up once more finds the very step at which a power had its value, exactly.

Once ``beta2_pow`` falls below the smallest normal number (after 829 steps for 0.9, 87,294 for
0.999, in float32) ``beta1_pow`` may still tell. Where both have vanished the count is lost: all
that is known is that it was at least so many steps. No later update depends on it, as all that it
enters by are those powers.

A beta that float32 rounds to 1, as it does 0.99999999, stays 1 for good, and so does its power. It
tells nothing, and here that beta's power goes on to matter: the other beta's has to tell.

Native computes ``rho`` from the powers that it has, step by step. For a beta2 that is a few units
in the last place below 1, the count by ``rho`` is off by a tenth after four million steps. So where
a power is hit exactly, ``rho`` need only agree so far that it was not, say, another beta2's.
"""

from __future__ import annotations

import math
from decimal import Decimal, localcontext
from functools import lru_cache
from typing import Any

import numpy as np

from radam_codegen.program.native_powers import (
    DIGITS,
    first_vanished,
    native_base,
    native_power,
    step_of_power,
)

__all__ = ["native_power", "native_rho", "native_state", "recover_step"]

Array = np.ndarray[Any, np.dtype[Any]]

#: After so many steps native's ``rho`` may be anything, if beta2 is near to 1 in float32.
_BEYOND_RHO = 1 << 22


@lru_cache(maxsize=256)
def recover_step(
    beta1_pow: float, beta2_pow: float, rho: float, beta1: float, beta2: float, dtype: str
) -> int:
    """Return how many steps the native optimizer had done.

    Args:
        beta1_pow: as found in the checkpoint, any element.
        beta2_pow: likewise.
        rho: likewise.
        beta1: of the optimizer that loads.
        beta2: likewise. Where the checkpoint was made with another one, ``rho`` gives the count,
            with the help of ``beta1_pow``.
        dtype: type of the three, ``float32`` or ``float64``.

    Raises:
        ValueError: no number of steps leads to the numbers, or too many do.
    """
    for name, value in (("beta1_pow", beta1_pow), ("beta2_pow", beta2_pow)):
        if not 0.0 <= value <= 1.0:
            raise ValueError(f"{name} is {value}, which is no power of a beta")
    if _tells(beta2_pow, beta2, dtype):
        by_rho = rho * (1.0 - beta2_pow) / beta2_pow  # the difference is exact, or not small
        found = step_of_power(beta2_pow, beta2, dtype)
        if found is not None and _fits(*found, by_rho):
            return found[0]
        return _by_another_beta2(beta1_pow, beta2_pow, by_rho, beta1, dtype)
    if _tells(beta1_pow, beta1, dtype):
        found = step_of_power(beta1_pow, beta1, dtype)
        if found is None:
            raise ValueError(f"a power of {beta1} is {beta1_pow}")
        return found[0]
    return _without_powers(beta1_pow, beta2_pow, rho, beta1, beta2, dtype)


def _tells(power: float, beta: float, dtype: str) -> bool:
    """Whether a power is a normal number that the next step would change."""
    kind = np.dtype(dtype).type
    base = native_base(beta)
    falls = base == 1.0 or kind(power) * kind(base) < power
    return bool(float(np.finfo(dtype).tiny) <= power < 1.0 and falls)


def _without_powers(
    beta1_pow: float, beta2_pow: float, rho: float, beta1: float, beta2: float, dtype: str
) -> int:
    """The count where each power is 1, or has vanished."""
    stays = {"beta1": native_base(beta1) == 1.0, "beta2": native_base(beta2) == 1.0}
    if beta1_pow == beta2_pow == 1.0 and (not all(stays.values()) or rho == 1.0):
        return 0
    # From a power of 1, native makes of rho an infinity in the first step, later not a number.
    if stays["beta2"] and beta2_pow == 1.0 and rho == math.inf:
        return 1
    for name, beta, power in (("beta1", beta1, beta1_pow), ("beta2", beta2, beta2_pow)):
        if stays[name]:
            raise ValueError(
                f"{name} {beta!r} is 1 in float32, as which native RAdam has it, so its power says "
                f"nothing, and nor do beta1_pow {beta1_pow}, beta2_pow {beta2_pow} and rho {rho}"
            )
        if power == 1.0:
            raise ValueError(f"beta1_pow is {beta1_pow} and beta2_pow {beta2_pow}")
    return max(first_vanished(beta1, dtype), first_vanished(beta2, dtype))


def _fits(step: int, exact: bool, by_rho: float) -> bool:
    """Whether ``rho`` allows what a power of beta2 says."""
    if not exact:
        return _about(step, by_rho)
    return step > _BEYOND_RHO or _about(step, by_rho, 0.25)


def _by_another_beta2(
    beta1_pow: float, beta2_pow: float, by_rho: float, beta1: float, dtype: str
) -> int:
    """The count where beta2 was another: by ``rho``, which the rest must not contradict."""
    if 0.5 <= by_rho < math.inf:
        if _tells(beta1_pow, beta1, dtype):
            found = step_of_power(beta1_pow, beta1, dtype)
            if found is not None and _about(found[0], by_rho, 1.0 if found[1] else 1e-2):
                return found[0]
        elif native_base(beta1) < 1.0 and by_rho >= first_vanished(beta1, dtype):
            return round(by_rho)
        off = 0.05 + 1e-4 * by_rho
        if off < 0.25 and abs(by_rho - round(by_rho)) <= off:
            return round(by_rho)
    raise ValueError(
        f"beta2_pow is {beta2_pow}, which is of {by_rho:.6g} steps by its rho, but not by beta2 "
        "or beta1_pow"
    )


def _about(step: float, by_rho: float, share: float = 1e-2) -> bool:
    return step > 0 and abs(step - by_rho) <= 0.5 + share * min(step, by_rho)


def native_rho(beta2: float, step: int) -> float:
    """Return what ``rho`` is after so many steps; 1 before the first.

    Where float32 rounds beta2 to 1, it is what native makes of that: an infinity in the first step,
    then not a number.
    """
    base = native_base(beta2)
    if step == 0:
        return 1.0
    if base == 1.0:
        return math.inf if step == 1 else math.nan
    with localcontext(DIGITS):
        power = Decimal(base) ** step
        return float(step * power / (1 - power))


def native_state(
    step: int, beta1: float, beta2: float, moment1: Array, moment2: Array
) -> dict[str, Array]:
    """Return a parameter's state as the native optimizer has it, by kind.

    Args:
        step: number of steps.
        beta1: of the parameter's group.
        beta2: of the parameter's group.
        moment1: of the parameter's shape, float32 or float64, as all that is returned.
        moment2: likewise.
    """
    dtype = moment1.dtype.name
    numbers = {
        "beta1_pow": native_power(beta1, step, dtype),
        "beta2_pow": native_power(beta2, step, dtype),
        "rho": native_rho(beta2, step),
    }
    filled = {kind: np.full(moment1.shape, value, dtype) for kind, value in numbers.items()}
    return {**filled, "moment1": moment1, "moment2": moment2}
