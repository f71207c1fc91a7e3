"""The interpreter's arithmetic against libm, rational numbers and plain loops."""

from __future__ import annotations

import ctypes
import ctypes.util
import math
from fractions import Fraction

import numpy as np
import pytest
from hypothesis import example, given
from hypothesis import strategies as st

from radam_codegen.ir import arithmetic
from radam_codegen.ir.arithmetic import Array

_LIBM = ctypes.CDLL(ctypes.util.find_library("m"))
for _name, _type in (("fma", ctypes.c_double), ("fmaf", ctypes.c_float)):
    getattr(_LIBM, _name).restype = _type
    getattr(_LIBM, _name).argtypes = [_type] * 3

_FLOAT32 = st.floats(width=32)
_FLOAT64 = st.floats()


def same_bits(actual: Array, expected: Array) -> bool:
    """Whether two arrays are equal bit for bit, any NaN being as good as another."""
    actual, expected = np.asarray(actual), np.asarray(expected)
    assert actual.dtype == expected.dtype
    if actual.dtype.kind != "f":
        return bool(np.array_equal(actual, expected))
    bits = f"u{actual.dtype.itemsize}"
    both_nan = np.isnan(actual) & np.isnan(expected)
    return bool(np.all((actual.view(bits) == expected.view(bits)) | both_nan))


def c_fma(a: Array, b: Array, c: Array) -> Array:
    function = _LIBM.fmaf if a.dtype == np.float32 else _LIBM.fma
    triples = zip(a.tolist(), b.tolist(), c.tolist())
    return np.array([function(*triple) for triple in triples], a.dtype)


def arrays(dtype: type, *columns: list[float]) -> list[Array]:
    return [np.array(column, dtype) for column in columns]


@given(st.lists(st.tuples(_FLOAT32, _FLOAT32, _FLOAT32), min_size=1))
# The sum is just below the middle between two float32, which float64 cannot tell from the middle.
@example([(2.0**-12 * (1 + 2.0**-20), 2.0**-12 * (1 - 2.0**-20), 1 + 2.0**-23)])
@example([(-0.0, 1.0, -0.0), (1.0, -1.0, 1.0), (2.0**-75, 2.0**-75, 0.0)])
def test_fma_float32_equals_libm(triples: list[tuple[float, float, float]]) -> None:
    a, b, c = arrays(np.float32, *map(list, zip(*triples)))
    with np.errstate(all="ignore"):
        assert same_bits(arithmetic.fma(a, b, c), c_fma(a, b, c))


@given(st.lists(st.tuples(_FLOAT64, _FLOAT64, _FLOAT64), min_size=1))
@example([(1e200, 1e200, -1e308), (1e300, 1e10, -math.inf), (math.inf, 0.0, 1.0)])
@example([(2.0**-600, 2.0**-600, -0.0), (-(2.0**-600), 2.0**-600, 0.0), (5e-324, 0.5, 5e-324)])
@example([(2.0**1000, 2.0**24, -(2.0**1023)), (2.0**1000, -(2.0**24), 1.0), (0.0, 5.0, -0.0)])
def test_fma_float64_equals_libm(triples: list[tuple[float, float, float]]) -> None:
    a, b, c = arrays(np.float64, *map(list, zip(*triples)))
    with np.errstate(all="ignore"):
        assert same_bits(arithmetic.fma(a, b, c), c_fma(a, b, c))


@pytest.mark.parametrize("dtype", [np.float32, np.float64])
@pytest.mark.parametrize("seed", range(4))
def test_fma_where_the_sum_cancels(dtype: type, seed: int) -> None:
    random = np.random.default_rng(seed)
    a = random.standard_normal(4000).astype(dtype)
    b = np.ldexp(random.standard_normal(4000), random.integers(-40, 40)).astype(dtype)
    # From no cancellation at all to the product's own rounding error.
    distance = np.ldexp(random.standard_normal(4000), random.integers(-60, 60, 4000))
    c = (-(a * b) * (1.0 + distance)).astype(dtype)
    c[::7] = -(a * b)[::7]
    assert same_bits(arithmetic.fma(a, b, c), c_fma(a, b, c))


@pytest.mark.parametrize("dtype", [np.float32, np.float64])
def test_fma_over_all_exponents(dtype: type) -> None:
    random = np.random.default_rng(5)
    bits = random.integers(0, 2**63, (3, 20000), np.int64)
    a, b, c = (row.astype(np.uint32).view(np.float32) for row in bits)
    if dtype is np.float64:
        a, b, c = bits.view(np.float64)
    with np.errstate(all="ignore"):
        assert same_bits(arithmetic.fma(a, b, c), c_fma(a, b, c))


def test_fma_broadcasts_and_keeps_the_shape() -> None:
    for dtype in (np.float32, np.float64):
        a = np.arange(6, dtype=dtype).reshape(2, 3)
        result = arithmetic.fma(a, np.asarray(2, dtype), np.asarray(1, dtype))
        assert result.dtype == dtype
        assert result.tolist() == (a * 2 + 1).tolist()
        assert arithmetic.fma(*(np.asarray(2, dtype),) * 3).shape == ()


def test_all_bfloat16_bits_survive_a_round_trip() -> None:
    bits = np.arange(2**16, dtype=np.uint32).astype(np.uint16)
    values = arithmetic.bfloat16_values(bits)
    back = arithmetic.bfloat16_bits(values)
    assert np.array_equal(back[~np.isnan(values)], bits[~np.isnan(values)])
    assert np.all(np.isnan(arithmetic.bfloat16_values(back[np.isnan(values)])))


@given(_FLOAT64.filter(math.isfinite))
@example(1.0 + 2.0**-8)
@example(1.0 + 3 * 2.0**-8)
@example(1.0 + 2.0**-8 + 2.0**-50)  # rounding to float32 first would make a tie of it
@example(-1.0 - 2.0**-8 - 2.0**-50)
@example(1.0 + 3 * 2.0**-8 - 2.0**-50)
@example(3.3961775292304957e38)
@example(1e-320)
def test_bfloat16_is_the_nearest_with_ties_to_even(value: float) -> None:
    with np.errstate(all="ignore"):
        rounded = arithmetic.round_to_bfloat16(np.array([value]))
    assert arithmetic.bfloat16_values(arithmetic.bfloat16_bits(rounded)) == rounded
    assert float(rounded[0]) == nearest_bfloat16(value)
    assert math.copysign(1.0, rounded[0]) == math.copysign(1.0, value)


def nearest_bfloat16(value: float) -> float:
    """Round by rational arithmetic: 8 significant bits, exponents of float32."""
    if value == 0.0:
        return value
    _, exponent = math.frexp(value)
    unit = Fraction(2) ** (max(exponent, -125) - 8)
    rounded = round(Fraction(value) / unit) * unit  # Python rounds ties to even
    largest = Fraction(2) ** 128
    return math.copysign(math.inf, value) if abs(rounded) >= largest else float(rounded)


def lanes_sum(values: list[float]) -> float:
    """The documented order of summation as a plain loop."""
    total = 0.0
    for begin in range(0, len(values), 16384):
        lanes = [0.0] * 32
        for index, value in enumerate(values[begin : begin + 16384]):
            lanes[index % 32] += value
        for width in (16, 8, 4, 2, 1):
            for k in range(width):
                lanes[k] += lanes[k + width]
        total += lanes[0]
    return total


@pytest.mark.parametrize(
    "numel", [0, 1, 2, 7, 8, 9, 15, 17, 4097, 16383, 16384, 16385, 16393, 50001]
)
def test_sums_are_added_in_the_documented_order(numel: int) -> None:
    values = np.random.default_rng(numel).standard_normal(numel) * 1e3
    assert float(arithmetic.ordered_sum(values)) == lanes_sum(values.tolist())


@given(st.lists(_FLOAT64, max_size=40))
@example([-0.0])
def test_sums_of_any_numbers(values: list[float]) -> None:
    with np.errstate(all="ignore"):
        actual = arithmetic.ordered_sum(np.array(values, np.float64))
    assert same_bits(actual, np.float64(lanes_sum(values)))


def test_comparisons_with_nan_and_zeros() -> None:
    nan = np.float32("nan")
    a = np.array([nan, 1.0, 0.0, -0.0, 2.0, nan], np.float32)
    b = np.array([1.0, nan, -0.0, 0.0, 3.0, nan], np.float32)
    assert same_bits(arithmetic.maximum(a, b), np.array([nan, 1, 0.0, -0.0, 3, nan], np.float32))
    assert same_bits(arithmetic.minimum(a, b), np.array([nan, 1, 0.0, -0.0, 2, nan], np.float32))
    signs = arithmetic.sign(np.array([nan, -3, -0.0, 0.0, 1e-45, np.inf], np.float32))
    assert same_bits(signs, np.array([0, -1, 0, 0, 1, 1], np.float32))
