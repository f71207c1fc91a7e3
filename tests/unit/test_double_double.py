"""Double-double arithmetic against rational numbers."""

from __future__ import annotations

import math
from fractions import Fraction

from hypothesis import example, given
from hypothesis import strategies as st

from radam_codegen.ir.double_double import (
    DoubleDouble,
    add,
    divide,
    exact_product,
    exact_sum,
    multiply,
    ordered_sum,
    round_to_odd,
)

#: Far from what overflows, and from what has too few digits left to be exact.
_FLOATS = st.floats(2.0**-300, 2.0**300) | st.just(0.0)
_SIGNED = st.floats(-(2.0**300), 2.0**300).filter(lambda x: x == 0.0 or abs(x) > 2.0**-300)


def exact(number: DoubleDouble) -> Fraction:
    return Fraction(number.high) + Fraction(number.low)


def is_normal(number: DoubleDouble) -> bool:
    return number.high + number.low == number.high


def error(actual: DoubleDouble, expected: Fraction) -> float:
    assert is_normal(actual)
    if expected == 0:
        return float(exact(actual) != 0)
    return float(abs(exact(actual) / expected - 1))


@st.composite
def positive(draw: st.DrawFn) -> DoubleDouble:
    high = draw(_FLOATS)
    return DoubleDouble(high, draw(st.floats(-0.5, 0.5)) * math.ulp(high) if high else 0.0)


@given(st.floats(allow_nan=False, allow_infinity=False, width=64).map(lambda x: x / 2), _SIGNED)
@example(1.0, -5e-324)
@example(1.0, -(1.0 - 2.0**-53))
def test_sums_are_exact(a: float, b: float) -> None:
    for one, other in ((a, b), (b, a)):
        assert exact(exact_sum(one, other)) == Fraction(a) + Fraction(b)
    larger, smaller = (a, b) if abs(a) >= abs(b) else (b, a)
    assert ordered_sum(larger, smaller) == exact_sum(a, b)


@given(_SIGNED, _SIGNED)
@example(1.0, 5e-324)  # the first power of a tiny beta
def test_products_are_exact(a: float, b: float) -> None:
    product = exact_product(a, b)
    assert exact(product) == Fraction(a) * Fraction(b)
    assert is_normal(product)


@given(positive(), positive())
@example(DoubleDouble(1.0, -(2.0**-54)), DoubleDouble(1.0, -(2.0**-54)))
def test_results_have_a_hundred_digits_of_two(a: DoubleDouble, b: DoubleDouble) -> None:
    assert error(add(a, b), exact(a) + exact(b)) <= 2.0**-104
    assert error(multiply(a, b), exact(a) * exact(b)) <= 2.0**-103
    if b.high:
        assert error(divide(a, b), exact(a) / exact(b)) <= 2.0**-102


@given(positive())
@example(DoubleDouble(5.0, 1e-40))
@example(DoubleDouble(5.0, -1e-40))
@example(DoubleDouble(5.0, 2.0**-51))  # half way to the next one
@example(DoubleDouble(1.0, -(2.0**-54)))  # the neighbour below is only half as far away
@example(DoubleDouble(2.0**300))
def test_rounding_to_odd(a: DoubleDouble) -> None:
    rounded = round_to_odd(a)
    if Fraction(rounded) != exact(a):
        assert math.frexp(rounded)[0] * 2**53 % 2 == 1
        below, above = math.nextafter(rounded, 0.0), math.nextafter(rounded, math.inf)
        assert below < exact(a) < above
