"""Arithmetic with twice the digits of a float64, which agrees bit for bit with compiled C.

A number is the unevaluated sum of two float64, ``high`` and ``low``, of which ``high`` is the sum
rounded to nearest: about 106 bits. Every step is one IEEE operation on Python's floats, so the bits
are the same on every machine. Algorithms and bounds: Joldes, Muller, Popescu, "Tight and Rigorous
Error Bounds for Basic Building Blocks of Double-Word Arithmetic" (ACM TOMS 44, 2017). The bounds
hold as long as no product is below 2^-900 or above 2^900.
"""

from __future__ import annotations

import struct
from typing import NamedTuple

__all__ = [
    "DoubleDouble",
    "add",
    "divide",
    "exact_product",
    "exact_sum",
    "multiply",
    "ordered_sum",
    "round_to_odd",
]

# Veltkamp's constant for splitting a float64 into two halves of at most 26 bits.
_SPLITTER = 2.0**27 + 1.0


class DoubleDouble(NamedTuple):
    """``high + low``, with ``low`` at most half a unit in the last place of ``high``."""

    high: float
    low: float = 0.0


def ordered_sum(a: float, b: float) -> DoubleDouble:
    """Return ``a + b`` exactly, where ``a`` is 0 or not smaller than ``b`` in magnitude."""
    high = a + b
    return DoubleDouble(high, b - (high - a))


def exact_sum(a: float, b: float) -> DoubleDouble:
    """Return ``a + b`` exactly."""
    high = a + b
    part = high - a
    return DoubleDouble(high, (a - (high - part)) + (b - part))


def exact_product(a: float, b: float) -> DoubleDouble:
    """Return ``a * b`` exactly, as ``low = fma(a, b, -high)`` does."""
    high = a * b
    a_high, a_low = _halves(a)
    b_high, b_low = _halves(b)
    low = ((a_high * b_high - high) + a_high * b_low + a_low * b_high) + a_low * b_low
    return DoubleDouble(high, low)


def _halves(a: float) -> tuple[float, float]:
    scaled = _SPLITTER * a
    high = scaled - (scaled - a)
    return high, a - high


def add(a: DoubleDouble, b: DoubleDouble) -> DoubleDouble:
    """Return ``a + b``, which must have one sign, to 2^-104."""
    high, low = exact_sum(a.high, b.high)
    return ordered_sum(high, low + (a.low + b.low))


def multiply(a: DoubleDouble, b: DoubleDouble) -> DoubleDouble:
    """Return ``a * b`` to 2^-103."""
    high, low = exact_product(a.high, b.high)
    return ordered_sum(high, low + (a.high * b.low + a.low * b.high))


def divide(a: DoubleDouble, b: DoubleDouble) -> DoubleDouble:
    """Return ``a / b`` to 2^-102; ``b`` must not be 0."""
    quotient = a.high / b.high
    high, low = exact_product(quotient, b.high)
    rest = ((a.high - high) - low) + (a.low - quotient * b.low)
    return ordered_sum(quotient, rest / b.high)


def round_to_odd(a: DoubleDouble) -> float:
    """Round a positive number to a float64, and to the odd of its two neighbours if between two.

    So it stays on its side of every even float64, such as 5.0, however close it is.
    """
    (bits,) = struct.unpack("<q", struct.pack("<d", a.high))
    if a.low == 0.0 or bits & 1 != 0:
        return a.high
    bits += 1 if a.low > 0.0 else -1
    rounded: float = struct.unpack("<d", struct.pack("<q", bits))[0]
    return rounded
