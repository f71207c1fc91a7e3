"""IEEE 754 arithmetic in NumPy that agrees bit for bit with compiled C.

NumPy has no fused multiply-add, no bfloat16 and no sum of a fixed order; they are made here from
exact steps. All functions take arrays or scalars, work element by element unless said otherwise,
leave their arguments alone, and raise no floating point warnings of their own: callers run them
under ``numpy.errstate(all="ignore")`` where overflow or NaN is expected.

bfloat16 has two forms: *bits*, a uint16 array as it lies in memory, and *values*, a float32 array
whose every element is representable in bfloat16.
"""

from __future__ import annotations

from fractions import Fraction
from typing import Any

import numpy as np
from numpy.typing import NDArray

__all__ = [
    "SUM_CHUNK",
    "SUM_LANES",
    "Array",
    "bfloat16_bits",
    "bfloat16_values",
    "fma",
    "maximum",
    "minimum",
    "ordered_sum",
    "round_to_bfloat16",
    "sign",
]

Array = NDArray[Any]

#: Elements of a tensor that are summed together; ``RADAM_CODEGEN_CHUNK`` of the kernel ABI.
SUM_CHUNK = 16384
#: Accumulators that the elements of a chunk are dealt out to: enough to keep the adders of a wide
#: vector unit busy while each waits for its last sum.
SUM_LANES = 32

# Veltkamp's constant for splitting a float64 into two halves of at most 26 bits.
_SPLITTER = np.float64(2**27 + 1)
# Inside these magnitudes no step of the fast float64 fma overflows or loses bits to underflow.
_SMALLEST_SAFE_PRODUCT = np.float64(2.0**-900)
_LARGEST_SAFE = np.float64(2.0**900)


def fma(a: Array, b: Array, c: Array) -> Array:
    """Return ``a * b + c``, rounded once, as C's ``fma`` and ``fmaf`` do.

    The operands have one type, float32 or float64, which the result has too.
    """
    a, b, c = np.asarray(a), np.asarray(b), np.asarray(c)
    if a.dtype == np.float32:
        return _fma_float32(a, b, c)
    return _fma_float64(a, b, c)


def _fma_float32(a: Array, b: Array, c: Array) -> Array:
    # The product of two float32 is exact in float64. Rounding its sum with c to odd in float64
    # keeps what the second rounding, to float32, needs to know.
    product = a.astype(np.float64) * b.astype(np.float64)
    total, error = _two_sum(product, c.astype(np.float64))
    return _to_odd(total, error).astype(np.float32)


def _fma_float64(a: Array, b: Array, c: Array) -> Array:
    a, b, c = np.broadcast_arrays(a, b, c)
    shape = a.shape
    a, b, c = a.ravel(), b.ravel(), c.ravel()
    product = np.abs(a * b)
    safe = (
        (product > _SMALLEST_SAFE_PRODUCT)
        & (product < _LARGEST_SAFE)
        & (np.abs(a) < _LARGEST_SAFE)
        & (np.abs(b) < _LARGEST_SAFE)
        & (np.abs(c) < _LARGEST_SAFE)
    )
    # With a zero factor, an infinity or a NaN, two roundings are as good as one; but a product of
    # finite numbers must not overflow into an infinity that meets an infinite c.
    finite = np.isfinite(a) & np.isfinite(b)
    rare = ~safe & finite & np.isfinite(c) & (a != 0) & (b != 0)
    plain = np.where(finite & np.isinf(c), c, a * b + c)
    result = np.where(safe, _fma_by_error_terms(a, b, c), plain)
    for index in np.flatnonzero(rare):
        result[index] = _fma_by_fractions(float(a[index]), float(b[index]), float(c[index]))
    return result.reshape(shape)


def _fma_by_error_terms(a: Array, b: Array, c: Array) -> Array:
    """Float64 fma after Boldo and Melquiond: exact error terms, and a sum rounded to odd."""
    product_high, product_low = _two_product(a, b)
    addend_high, addend_low = _two_sum(c, product_low)
    total_high, total_low = _two_sum(product_high, addend_high)
    low, low_error = _two_sum(total_low, addend_low)
    return np.asarray(total_high + _to_odd(low, low_error))


def _fma_by_fractions(a: float, b: float, c: float) -> float:
    """Float64 fma of finite numbers in rational arithmetic; ``a`` and ``b`` are not zero."""
    exact = Fraction(a) * Fraction(b) + Fraction(c)
    try:
        # Dividing integers rounds correctly, subnormal results and the sign of zero included.
        return exact.numerator / exact.denominator
    except OverflowError:
        return float("inf") if exact > 0 else float("-inf")


def _two_sum(a: Array, b: Array) -> tuple[Array, Array]:
    """Return ``a + b`` in float64 and its exact rounding error."""
    total = a + b
    b_part = total - a
    error = (a - (total - b_part)) + (b - b_part)
    return total, error


def _two_product(a: Array, b: Array) -> tuple[Array, Array]:
    """Return ``a * b`` in float64 and its exact rounding error, away from over- and underflow."""
    product = a * b
    a_high, a_low = _split(a)
    b_high, b_low = _split(b)
    error = ((a_high * b_high - product) + a_high * b_low + a_low * b_high) + a_low * b_low
    return product, error


def _split(a: Array) -> tuple[Array, Array]:
    scaled = _SPLITTER * a
    high = scaled - (scaled - a)
    return high, a - high


def _to_odd(total: Array, error: Array) -> Array:
    """Turn a sum rounded to nearest, and its error, into the sum rounded to odd.

    Works for float64 sums; non-finite ones are kept.
    """
    total, error = np.asarray(total), np.asarray(error)
    bits = total.view(np.int64)
    nudge = np.isfinite(total) & (error != 0) & (bits & 1 == 0) & (total != 0)
    step = np.where((error > 0) == (total > 0), 1, -1)
    return np.where(nudge, bits + step, bits).view(np.float64)


def maximum(a: Array, b: Array) -> Array:
    """Return ``a < b ? b : a``: a NaN in ``a`` is kept, a NaN in ``b`` is not seen."""
    return np.where(a < b, b, a)


def minimum(a: Array, b: Array) -> Array:
    """Return ``a > b ? b : a``: a NaN in ``a`` is kept, a NaN in ``b`` is not seen."""
    return np.where(a > b, b, a)


def sign(a: Array) -> Array:
    """Return -1, 0 or 1 in the type of ``a``; 0 for both zeros and for NaN."""
    a = np.asarray(a)
    return np.asarray((a > 0).astype(a.dtype) - (a < 0).astype(a.dtype))


def ordered_sum(values: Array) -> np.float64:
    """Return the sum of a float64 array of any shape, in the order that every kernel uses.

    The elements, in memory order, are cut in chunks of :data:`SUM_CHUNK`. Element ``i`` of a chunk
    is added, one after the other, to lane ``i % SUM_LANES`` of lanes that start from 0. The upper
    half of the lanes is added to the lower until one is left, the chunk's sum; chunks are added in
    order, from 0.
    """
    flat = np.ascontiguousarray(values, dtype=np.float64).ravel()
    total = np.float64(0.0)
    for begin in range(0, flat.size, SUM_CHUNK):
        chunk = flat[begin : begin + SUM_CHUNK]
        rows = -(-chunk.size // SUM_LANES)
        # One row of zeros to start from; zeros behind the last element change no lane, as a lane
        # is never -0.
        padded = np.zeros(((rows + 1) * SUM_LANES,), np.float64)
        padded[SUM_LANES : SUM_LANES + chunk.size] = chunk
        # accumulate, unlike sum, promises to add one row after the other.
        lanes = np.add.accumulate(padded.reshape(rows + 1, SUM_LANES), axis=0)[-1]
        while lanes.size > 1:
            half = lanes.size // 2
            lanes = lanes[:half] + lanes[half:]
        total = total + lanes[0]
    return np.float64(total)


def bfloat16_values(bits: Array) -> Array:
    """Return the float32 values of bfloat16 ``bits`` (uint16)."""
    wide = np.asarray(bits).astype(np.uint32) << np.uint32(16)
    values: Array = wide.view(np.float32)
    return values


def bfloat16_bits(values: Array) -> Array:
    """Round float32 ``values`` to bfloat16, to nearest even; return the bits (uint16)."""
    bits = np.ascontiguousarray(values, dtype=np.float32).view(np.uint32)
    rounded = (bits + np.uint32(0x7FFF) + ((bits >> np.uint32(16)) & np.uint32(1))) >> np.uint32(16)
    # Rounding could carry a NaN into infinity; quiet it instead.
    quiet_nan = (bits >> np.uint32(16)) | np.uint32(0x40)
    return np.where(np.isnan(values), quiet_nan, rounded).astype(np.uint16)


def round_to_bfloat16(values: Array) -> Array:
    """Round float32 or float64 ``values`` to bfloat16, once, to nearest even; return float32."""
    values = np.asarray(values)
    if values.dtype == np.float64:
        values = _float64_to_float32_odd(values)
    return bfloat16_values(bfloat16_bits(values)).reshape(values.shape)


def _float64_to_float32_odd(values: Array) -> Array:
    """Round float64 to float32 to odd, so that rounding again to fewer bits is right."""
    nearest = values.astype(np.float32)
    error = values - nearest.astype(np.float64)
    bits = nearest.view(np.int32)
    nudge = np.isfinite(nearest) & (error != 0) & (bits & 1 == 0) & (nearest != 0)
    step = np.where((error > 0) == (nearest > 0), 1, -1).astype(np.int32)
    return np.where(nudge, bits + step, bits).view(np.float32)
