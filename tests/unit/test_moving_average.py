"""What a step takes from the betas and the step count alone, against exact arithmetic."""

from __future__ import annotations

import math
from collections.abc import Callable
from decimal import Decimal
from fractions import Fraction

import pytest
from hypothesis import example, given, settings
from hypothesis import strategies as st
from support.reference import step_numbers

from radam_codegen.ir.moving_average import one_minus_power, sma_length

LARGEST = 1.0 - 2.0**-53
#: The largest float64 for which ``rho_inf`` is not above 5; the exact bound is 2/3.
TWO_THIRDS = 2.0 / 3.0
COUNTS = st.integers(1, 2**53) | st.integers(1, 400) | st.integers(0, 53).map(lambda bit: 2**bit)
BETAS = (
    st.floats(0.0, LARGEST)
    | st.floats(1.0, 53.0).map(lambda bits: 1.0 - 2.0**-bits)
    | st.integers(1, 1074).map(lambda bits: 2.0**-bits)
    | st.sampled_from((0.0, 5e-324, 2.0**-300, 0.5, 0.999, 1 - 1e-8, 1 - 1e-10, LARGEST))
)


def relative(actual: float, expected: Decimal) -> float:
    return abs(float(Decimal(actual) / expected - 1))


@given(BETAS, COUNTS)
@settings(max_examples=1000, deadline=None)
@example(LARGEST, 1)
@example(LARGEST, 5)
@example(LARGEST, 2**53)
@example(1 - 2.0**-40, 2**53)
@example(1 - 1e-8, 6)  # by the closed form, 5 % off
@example(1 - 1e-10, 5)  # by the closed form, above 5
@example(5e-324, 2)
@example(0.0, 2**53)
@example(2.0**-300, 1)  # where the doubling ends early
def test_within_the_last_digits_of_exact_arithmetic(beta: float, t: int) -> None:
    exact = step_numbers(beta, beta, t)
    assert relative(one_minus_power(beta, t), exact.bias_correction1) <= 2.0**-52
    assert relative(sma_length(beta, t), exact.rho_t) <= 2.0**-51
    assert (sma_length(beta, t) > 5.0) == (exact.rho_t > 5)


def is_above_five(beta: float, t: int) -> bool:
    """Decide ``rho_t > 5`` in integers: sum of (m - 2) beta^m > 0, with beta = n / d."""
    n, d = beta.as_integer_ratio()
    total, denominators = 0, 1
    for m in reversed(range(t)):
        total = total * n + (m - 2) * denominators
        denominators *= d
    return total > 0


def first_above(t: int, decide: Callable[[float, int], bool]) -> float:
    """The smallest float64 for which ``rho_t > 5``, by halving."""
    below, above = 0.5, LARGEST
    while math.nextafter(below, 1.0) < above:
        middle = below + (above - below) / 2
        below, above = (below, middle) if decide(middle, t) else (middle, above)
    return above


def test_the_integers_decide_as_the_formula_does() -> None:
    for t in range(1, 12):
        for beta in (0.25, 0.5, 0.75, 0.875, 0.9375, 1 - 2.0**-20):
            x = Fraction(beta)
            rho_t = 2 / (1 - x) - 1 - 2 * t * x**t / (1 - x**t)
            assert is_above_five(beta, t) == (rho_t > 5)


@pytest.mark.parametrize("counts", [range(6, 90), range(90, 140), range(140, 201)], ids=str)
def test_the_branch_at_the_two_betas_around_each_root(counts: range) -> None:
    for t in counts:
        root = first_above(t, lambda beta, t: sma_length(beta, t) > 5.0)
        beta = root - 3 * 2.0**-53
        for _ in range(6):
            assert (sma_length(beta, t) > 5.0) == is_above_five(beta, t), (beta, t)
            beta = math.nextafter(beta, 1.0)
        # So these are the root's own neighbours, and nothing changes back farther away.
        assert is_above_five(root, t)
        assert not is_above_five(math.nextafter(root, 0.0), t)


@pytest.mark.parametrize("t", [1, 2, 3, 4, 5])
@pytest.mark.parametrize("bits", [1, 2, 10, 24, 30, 40, 50, 51, 52, 53])
def test_the_first_five_steps_are_never_rectified(t: int, bits: int) -> None:
    beta = 1.0 - 2.0**-bits
    assert not is_above_five(beta, t)
    assert sma_length(beta, t) < 5.0


@pytest.mark.parametrize("t", [1000, 10**6, 2**53])
def test_the_branch_for_good(t: int) -> None:
    assert not sma_length(TWO_THIRDS, t) > 5.0
    assert sma_length(math.nextafter(TWO_THIRDS, 1.0), t) > 5.0
    assert Fraction(TWO_THIRDS) < Fraction(2, 3) < Fraction(math.nextafter(TWO_THIRDS, 1.0))


def test_before_the_first_step_and_for_a_beta_that_was_rounded_to_one() -> None:
    assert one_minus_power(0.9, 0) == 0.0
    assert math.isnan(sma_length(0.9, 0))
    for t in (1, 5, 6, 2**53):
        assert one_minus_power(1.0, t) == 0.0
        assert sma_length(1.0, t) == t  # all weights are equal: it is a simple moving average
