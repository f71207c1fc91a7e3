"""Powers of the betas as the native optimizer has them, and at which step it has one.

It rounds a beta to float32 and multiplies it up in the parameter's type, rounding every time. Near
1 that is far from the real power: in float32 ``1 - 2^-24`` goes down by one unit in the last place
per step, so it is halved after 8.4 million steps rather than after 11.6 million. So powers are
found by multiplying up, as native does: in float64 only as far as is quick, as beyond that its many
more digits make the real power as good.
"""

from __future__ import annotations

from collections.abc import Iterator
from decimal import MAX_EMAX, MIN_EMIN, Context, Decimal
from functools import lru_cache
from typing import Any, NamedTuple

import numpy as np

from radam_codegen.program.float32_powers import Float32Power

__all__ = [
    "DIGITS",
    "first_vanished",
    "native_base",
    "native_power",
    "step_of_power",
]

Array = np.ndarray[Any, np.dtype[Any]]

#: How far powers are multiplied up one by one, in steps.
_LIMIT = 1 << 24
_BLOCK = 1 << 15

#: Enough for what cancels in ``1 - power``, and the same digits on every machine, unlike libm's.
DIGITS = Context(prec=60, Emax=MAX_EMAX, Emin=MIN_EMIN)


def native_base(beta: float) -> float:
    """Return the beta that native RAdam multiplies up; 1.0 for what float32 rounds to 1."""
    return float(np.float32(beta))


def _power_blocks(base: float, dtype: str, steps: int) -> Iterator[tuple[int, Array]]:
    """Yield how many steps were done before, and the powers of the steps that follow."""
    kind = np.dtype(dtype).type
    last: Any = kind(1.0)
    for done in range(0, steps, _BLOCK):
        factors = np.full(min(_BLOCK, steps - done), base, kind)
        factors[0] = last * kind(base)
        powers = np.multiply.accumulate(factors)
        yield done, powers
        last = powers[-1]


@lru_cache(maxsize=256)
def native_power(beta: float, step: int, dtype: str) -> float:
    """Return what the native optimizer holds as ``beta1_pow`` or ``beta2_pow`` after so many steps.

    Args:
        beta: the beta in question, in [0, 1).
        step: number of steps, not negative.
        dtype: type of the parameter's state, ``float32`` or ``float64``.
    """
    base = native_base(beta)
    if base == 1.0 or step == 0:
        return 1.0
    if dtype == "float32":
        step = min(step, int(200.0 / (1.0 - base)) + 1)  # by then it has stopped falling
    if step <= _LIMIT:
        *_, (_, powers) = _power_blocks(base, dtype, step)
        return float(powers[-1])
    if dtype == "float64":
        return float(DIGITS.power(Decimal(base), step))
    power = Float32Power(base)
    while power.step < step and power.leap(step - power.step):
        pass  # until it is there, or falls no more
    return power.value


class _Place(NamedTuple):
    """Where native powers come down to a bound."""

    #: The first step whose power is not above the bound.
    step: int
    #: The power of that step, and one before it; None where only the real power was looked at.
    power: float | None = None
    before: float | None = None


def step_of_power(power: float, beta: float, dtype: str) -> tuple[int, bool] | None:
    """Return the step whose native power is nearest to ``power``, and whether it is the same.

    Args:
        power: between 0 and 1, exclusive; a number of type ``dtype``.
        beta: the beta in question.
        dtype: type of the parameter's state, ``float32`` or ``float64``.

    Returns:
        None if float32 rounds beta to 0 or 1, which have no such power.
    """
    base = native_base(beta)
    if not 0.0 < base < 1.0:
        return None
    place = _first_at_most(power, base, dtype)
    if place.power is None or place.before is None:
        return place.step, False
    above, below = place.before - power, power - place.power
    return place.step - (above < below and place.step > 1), below == 0.0


def first_vanished(beta: float, dtype: str) -> int:
    """Return the first step whose native power is no normal number, or stays as it is for good.

    There is none, and so 0 is returned, where float32 rounds beta to 1.
    """
    base = native_base(beta)
    if base == 1.0:
        return 0
    if base == 0.0:
        return 1
    kind = np.dtype(dtype).type
    tiny = np.finfo(dtype).tiny
    return _first_at_most(float(np.nextafter(tiny, kind(0.0))), base, dtype).step


@lru_cache(maxsize=256)
def _first_at_most(bound: float, base: float, dtype: str) -> _Place:
    ratio = DIGITS.divide(DIGITS.ln(Decimal(bound)), DIGITS.ln(Decimal(base)))
    if ratio < _LIMIT:
        last = 1.0
        # Rounding may have it take longer than the real power does.
        for done, powers in _power_blocks(base, dtype, 2 * _LIMIT):
            if powers[-1] <= bound:
                at = int(np.argmax(powers <= bound))
                before = last if at == 0 else float(powers[at - 1])
                return _Place(done + at + 1, float(powers[at]), before)
            last = float(powers[-1])
    elif dtype == "float32":
        power = Float32Power(base)
        before = 1.0
        while power.value > bound:
            before = power.value
            if not power.leap(1 << 62, bound):
                break  # it falls no more
        return _Place(power.step, power.value, before)
    return _Place(max(1, round(ratio)))
