"""The numbers of a step that depend on a beta and the step count alone, without cancellation.

An exponential moving average after ``t`` steps weighs the gradient that is ``m`` steps old by
``(1 - beta) * beta^m``. Two sums of positive numbers tell all that RAdam wants to know of it::

    S = sum of beta^m,  W = sum of m * beta^m,    m = 0 ... t - 1

    1 - beta^t = (1 - beta) * S
    rho_t      = 1 + 2 * W / S                    = rho_inf - 2 t beta^t / (1 - beta^t)

The second line is what section 4 of https://arxiv.org/abs/1908.03265 derives ``rho_t`` from: the
simple moving average over ``n`` gradients has the mean age ``(n - 1) / 2``, and ``rho_t`` is the
``n`` for which that is the exponential one's, ``W / S``. The closed forms lose all digits to
cancellation as beta comes close to 1; the sums lose none.

They are computed by doubling, from the top bit of ``t`` down. Of the weights ``0 ... 2k - 1`` the
older half is the younger one times ``beta^k``, ``k`` steps older. An error of ``beta^k`` is doubled
with ``k``, so all is in double-double: at ``k = 2^53``, 2^-50 is left.
"""

from __future__ import annotations

from functools import lru_cache
from typing import NamedTuple

from radam_codegen.ir.double_double import (
    DoubleDouble,
    add,
    divide,
    exact_sum,
    multiply,
    round_to_odd,
)

__all__ = ["WeightSums", "one_minus_power", "sma_length", "weight_sums"]

#: A power of beta below that changes no digit of a sum; its own low digits would underflow.
_NEGLIGIBLE_POWER = 2.0**-300


class WeightSums(NamedTuple):
    """Sums over the weights of the last ``t`` gradients, without the factor ``1 - beta``."""

    #: ``S``, the sum of the weights.
    weights: DoubleDouble
    #: ``W``, the sum of weight times age.
    ages: DoubleDouble


@lru_cache(maxsize=4096)
def weight_sums(beta: float, t: int) -> WeightSums:
    """Return the sums for a beta in [0, 1] after ``t >= 0`` steps, each to a relative 2^-50."""
    power, weights, ages = DoubleDouble(1.0), DoubleDouble(0.0), DoubleDouble(0.0)
    bit = max(t, 0).bit_length()
    while bit > 0 and power.high >= _NEGLIGIBLE_POWER:
        k = float(t >> bit)
        ages = add(ages, multiply(power, add(ages, multiply(DoubleDouble(k), weights))))
        weights = add(weights, multiply(power, weights))
        power = multiply(power, power)
        bit -= 1
        if t >> bit & 1:
            ages = add(ages, multiply(DoubleDouble(2.0 * k), power))
            weights = add(weights, power)
            power = multiply(power, DoubleDouble(beta))
    return WeightSums(weights, ages)


def one_minus_power(beta: float, t: int) -> float:
    """Return ``1 - beta^t``, to a relative 2^-49, for a beta in [0, 1] and ``t >= 0``."""
    return multiply(exact_sum(1.0, -beta), weight_sums(beta, t).weights).high


def sma_length(beta: float, t: int) -> float:
    """Return ``rho_t``, to a relative 2^-49, for a beta in [0, 1]; not a number for ``t = 0``.

    It is rounded to odd, so that a comparison with 5.0 is decided by the digits behind float64's.
    """
    sums = weight_sums(beta, t)
    if sums.weights.high == 0.0:
        return float("nan")
    mean_age = divide(sums.ages, sums.weights)
    twice = DoubleDouble(2.0 * mean_age.high, 2.0 * mean_age.low)
    return round_to_odd(add(DoubleDouble(1.0), twice))
