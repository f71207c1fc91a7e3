"""The conversions in generated code, over all there is to convert."""

from __future__ import annotations

import hashlib
from typing import Any

import numpy as np
import pytest
from cffi import FFI
from support.structures import CLASSES

from radam_codegen.codegen import KernelSource, render
from radam_codegen.config import current
from radam_codegen.ir.arithmetic import bfloat16_bits, bfloat16_values
from radam_codegen.ir.plan import ClipKind, KernelStructure
from radam_codegen.passes import lower_structure
from radam_codegen.toolchain import build_kernel

pytestmark = pytest.mark.either_ir  # there is no Paddle in this file

Array = np.ndarray[Any, np.dtype[Any]]

#: Loops that vectorize, as those of a kernel do, around the functions of the generated source.
HARNESS = """
#define EXPORT __attribute__((visibility("default")))
EXPORT void widen_bf16(const uint16_t *restrict from, float *restrict to, int64_t n)
{
    for (int64_t i = 0; i < n; ++i) to[i] = f32_of_bf16(from[i]);
}
EXPORT void narrow_bf16(const float *restrict from, uint16_t *restrict to, int64_t n)
{
    for (int64_t i = 0; i < n; ++i) to[i] = bf16_of_f32(from[i]);
}
EXPORT void widen_f16(const uint16_t *restrict from, float *restrict to, int64_t n)
{
    for (int64_t i = 0; i < n; ++i) to[i] = f32_of_f16(from[i]);
}
EXPORT void narrow_f16(const float *restrict from, uint16_t *restrict to, int64_t n)
{
    for (int64_t i = 0; i < n; ++i) to[i] = f16_of_f32(from[i]);
}
"""

DECLARATIONS = """
void widen_bf16(const uint16_t *, float *, int64_t);
void narrow_bf16(const float *, uint16_t *, int64_t);
void widen_f16(const uint16_t *, float *, int64_t);
void narrow_f16(const float *, uint16_t *, int64_t);
"""

HALVES = tuple(each for each in CLASSES if each.name in ("bf16_no_decay", "f16_no_decay"))

EVERY_HALF = np.arange(2**16, dtype=np.uint16)


class Conversions:
    """The functions of a rendered kernel, over arrays."""

    def __init__(self) -> None:
        source = render(lower_structure(KernelStructure(ClipKind.NONE, False, HALVES)))
        text = source.text + HARNESS
        sha256 = hashlib.sha256(text.encode()).hexdigest()
        built = build_kernel(KernelSource("conversions", "c", text, sha256), current())
        self._ffi = FFI()
        self._ffi.cdef(DECLARATIONS)
        self._library = self._ffi.dlopen(str(built.library))

    def __call__(self, name: str, values: Array) -> Array:
        widens = name.startswith("widen")
        result = np.empty(values.shape, np.float32 if widens else np.uint16)
        kinds = ("uint16_t *", "float *") if widens else ("float *", "uint16_t *")
        buffers = (
            self._ffi.from_buffer(kind.replace(" *", "[]"), each)
            for kind, each in zip(kinds, (values, result))
        )
        getattr(self._library, name)(*buffers, values.size)
        return result


@pytest.fixture(scope="module")
def convert() -> Conversions:
    return Conversions()


def floats_around(grid: Array) -> Array:
    """Every value of a grid, every middle between two neighbours, and float32 beside each."""
    points = np.unique(grid[np.isfinite(grid)].astype(np.float64))
    last = points[-1] - points[-2]
    beyond = np.array([points[-1] + last / 2, points[-1] + last])  # where infinity begins
    middles = np.concatenate([(points[1:] + points[:-1]) / 2, beyond, -beyond])
    exact = np.concatenate([points, middles]).astype(np.float32)
    below, above = np.nextafter(exact, np.float32(-np.inf)), np.nextafter(exact, np.float32(np.inf))
    random = np.random.default_rng(0).integers(0, 2**32, 2**20, dtype=np.uint32).view(np.float32)
    special = np.array([0.0, -0.0, np.inf, -np.inf, np.nan, 1e-45, -1e-45, 3.4e38, -3.4e38], "f4")
    return np.concatenate([exact, below, above, random, special])


def nearest_bfloat16(values: Array) -> Array:
    """Bits of the nearest bfloat16, the even one of two, found by comparing distances."""
    bits = values.view(np.uint32)
    low = (bits >> 16).astype(np.uint32)  # towards zero
    magnitude, sign = low & 0x7FFF, low & 0x8000

    def size(half: Array) -> Array:
        # What follows the largest finite value counts as 2^128.
        value = (half.astype(np.uint32) << 16).view(np.float32).astype(np.float64)
        return np.where(half == 0x7F80, 2.0**128, value)

    exact = np.abs(values.astype(np.float64))
    with np.errstate(invalid="ignore"):
        down, up = exact - size(magnitude), size(magnitude + 1) - exact
    rounds_up = (up < down) | ((up == down) & (magnitude & 1 == 1))
    rounded = magnitude + (rounds_up & np.isfinite(values))
    return (sign | rounded).astype(np.uint16)


def test_every_bfloat16_widens_to_its_value(convert: Conversions) -> None:
    wide = convert("widen_bf16", EVERY_HALF)
    np.testing.assert_array_equal(wide.view(np.uint32), EVERY_HALF.astype(np.uint32) << 16)
    np.testing.assert_array_equal(wide.view(np.uint32), bfloat16_values(EVERY_HALF).view(np.uint32))


def test_every_float16_widens_to_its_value(convert: Conversions) -> None:
    wide = convert("widen_f16", EVERY_HALF)
    expected = EVERY_HALF.view(np.float16).astype(np.float32)
    same = wide.view(np.uint32) == expected.view(np.uint32)
    assert np.all(same | (np.isnan(wide) & np.isnan(expected)))


@pytest.mark.parametrize("kind", ["bf16", "f16"])
def test_every_half_comes_back_from_float32(convert: Conversions, kind: str) -> None:
    wide = convert(f"widen_{kind}", EVERY_HALF)
    back = convert(f"narrow_{kind}", wide)
    number = ~np.isnan(wide)
    np.testing.assert_array_equal(back[number], EVERY_HALF[number])
    # A NaN stays one, whatever its payload, and keeps its sign.
    assert np.all(np.isnan(convert(f"widen_{kind}", back[~number])))
    np.testing.assert_array_equal(back[~number] >> 15, EVERY_HALF[~number] >> 15)


def test_float32_rounds_to_the_nearest_bfloat16(convert: Conversions) -> None:
    values = floats_around(bfloat16_values(EVERY_HALF))
    actual = convert("narrow_bf16", values)
    number = ~np.isnan(values)
    np.testing.assert_array_equal(actual[number], nearest_bfloat16(values)[number])
    np.testing.assert_array_equal(actual, bfloat16_bits(values))
    assert np.all(np.isnan(convert("widen_bf16", actual[~number])))


def test_float32_rounds_to_the_nearest_float16(convert: Conversions) -> None:
    values = floats_around(EVERY_HALF.view(np.float16).astype(np.float32))
    actual = convert("narrow_f16", values)
    with np.errstate(over="ignore"):
        expected = values.astype(np.float16).view(np.uint16)
    number = ~np.isnan(values)
    np.testing.assert_array_equal(actual[number], expected[number])
    assert np.all(np.isnan(actual[~number].view(np.float16)))
