"""Step counts as the native optimizer keeps them, and back.

It has no count: per element it holds ``beta1_pow`` and ``beta2_pow`` (the betas, rounded to
float32, multiplied up in the parameter's type) and ``rho``, which is
``t * beta2_pow / (1 - beta2_pow)``. So ``rho`` gives the count whatever beta2 was, to about 1e-4
of it; and multiplying up once more finds the very step at which a power had its value, exactly.

Once ``beta2_pow`` falls below the smallest normal number (after 829 steps for 0.9, 87,294 for
0.999, in float32) ``beta1_pow`` may still tell. Where both have vanished the count is lost: all
that is known is that it was at least so many steps. No later update depends on it, as all that it
enters by are those powers.
"""

from __future__ import annotations

import math
from functools import lru_cache
from typing import Any

import numpy as np

__all__ = ["native_power", "native_rho", "native_state", "recover_step"]

Array = np.ndarray[Any, np.dtype[Any]]

#: How far powers are multiplied up, in steps; beyond, logarithms have to do.
_LIMIT = 1 << 24
_BLOCK = 1 << 15


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
        ValueError: the numbers are none that any number of steps leads to.
    """
    for name, value in (("beta1_pow", beta1_pow), ("beta2_pow", beta2_pow)):
        if not 0.0 <= value <= 1.0:
            raise ValueError(f"{name} is {value}, which is no power of a beta")
    tiny = float(np.finfo(dtype).tiny)
    if tiny <= beta2_pow < 1.0:
        by_rho = rho * (1.0 - beta2_pow) / beta2_pow
        step = _by_power(beta2_pow, beta2, dtype) if beta2 > 0.0 else -1
        if _about(step, by_rho):
            return step
        return _by_another_beta2(beta1_pow, beta2_pow, by_rho, beta1, dtype)
    if tiny <= beta1_pow < 1.0:
        return _by_power(beta1_pow, beta1, dtype)
    if beta1_pow == 1.0 and beta2_pow == 1.0:
        return 0
    if beta1_pow == 1.0 or beta2_pow == 1.0:
        raise ValueError(f"beta1_pow is {beta1_pow} and beta2_pow {beta2_pow}")
    return max(_vanished(beta1, tiny), _vanished(beta2, tiny))


def _by_another_beta2(
    beta1_pow: float, beta2_pow: float, by_rho: float, beta1: float, dtype: str
) -> int:
    """The count where beta2 was another: by ``rho``, which the rest must not contradict."""
    if 0.5 <= by_rho < math.inf:
        if float(np.finfo(dtype).tiny) <= beta1_pow < 1.0:
            step = _by_power(beta1_pow, beta1, dtype) if beta1 > 0.0 else -1
            if _about(step, by_rho):
                return step
        elif by_rho >= _vanished(beta1, float(np.finfo(dtype).tiny)):
            return round(by_rho)
        off = 0.05 + 1e-4 * by_rho
        if off < 0.25 and abs(by_rho - round(by_rho)) <= off:
            return round(by_rho)
    raise ValueError(
        f"beta2_pow is {beta2_pow}, which is of {by_rho:.6g} steps by its rho, but not by beta2 "
        "or beta1_pow"
    )


def _about(step: int, by_rho: float) -> bool:
    return step > 0 and abs(step - by_rho) <= 0.5 + 1e-2 * step


def _by_power(power: float, beta: float, dtype: str) -> int:
    """The step at which the native optimizer has this power, or the one nearest to it."""
    base = float(np.float32(beta))
    if not 0.0 < base < 1.0:
        raise ValueError(f"a power of {beta} is {power}")
    estimate = math.log(power) / math.log(base)
    if estimate < _LIMIT:
        exact = _multiplied_up(power, base, dtype)
        if exact is not None:
            return exact
    return max(1, round(estimate))


def _multiplied_up(power: float, base: float, dtype: str) -> int | None:
    kind = np.dtype(dtype).type
    last: Any = kind(1.0)
    for done in range(0, _LIMIT + _BLOCK, _BLOCK):
        factors = np.full(_BLOCK, base, kind)
        factors[0] = last * kind(base)
        powers = np.multiply.accumulate(factors)
        if powers[-1] <= power:
            place = int(np.argmax(powers <= power))
            return done + place + 1 if powers[place] == power else None
        last = powers[-1]
    return None


def _vanished(beta: float, tiny: float) -> int:
    """The first step after which a power of beta is no normal number."""
    base = float(np.float32(beta))
    if not 0.0 < base < 1.0:
        return 1
    return math.floor(math.log(tiny) / math.log(base)) + 1


@lru_cache(maxsize=256)
def native_power(beta: float, step: int, dtype: str) -> float:
    """Return what the native optimizer holds as ``beta1_pow`` or ``beta2_pow`` after so many steps.

    Args:
        beta: the beta in question.
        step: number of steps, not negative.
        dtype: type of the parameter's state, ``float32`` or ``float64``.
    """
    base = float(np.float32(beta))
    kind = np.dtype(dtype).type
    if step > _LIMIT:
        return float(kind(base**step))
    last: Any = kind(1.0)
    for done in range(0, step, _BLOCK):
        factors = np.full(min(_BLOCK, step - done), base, kind)
        factors[0] = last * kind(base)
        last = np.multiply.accumulate(factors)[-1]
    return float(last)


def native_rho(beta2: float, step: int) -> float:
    """Return what the native optimizer holds as ``rho`` after so many steps; 1 before the first."""
    power = float(np.float32(beta2)) ** step
    return 1.0 if step == 0 or power == 1.0 else step * power / (1.0 - power)


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
