"""Where the CPU has no fma, kernels make it of other operations: the bits are those of libm."""

from __future__ import annotations

import ctypes
import ctypes.util
import math
import platform
import shutil
import subprocess
from collections.abc import Iterator
from fractions import Fraction
from functools import cache
from pathlib import Path

import numpy as np
import pytest
from support.agreement import assert_bitwise
from support.kernel_runner import run_kernel
from support.plans import random_arrays
from support.structures import SAMPLE

from radam_codegen._resources import include_dir
from radam_codegen.codegen import render
from radam_codegen.config import current
from radam_codegen.ir.arithmetic import Array
from radam_codegen.ir.dtypes import DType
from radam_codegen.ir.group import Module
from radam_codegen.ir.interpret import interpret
from radam_codegen.ir.plan import (
    Clip,
    ClipKind,
    Decay,
    DecayKind,
    GroupPlan,
    KernelStructure,
    TensorClass,
    TensorPlan,
    UpdatePlan,
)
from radam_codegen.passes import lower_structure
from radam_codegen.runtime import load_kernel
from radam_codegen.toolchain import find_c_compiler
from radam_codegen.toolchain.flags import KERNEL_FLAGS, kernel_flags
from radam_codegen.toolchain.kernel import kernel_recipe
from radam_codegen.toolchain.recipe import obtain

pytestmark = [
    pytest.mark.either_ir,  # there is no Paddle in this file
    pytest.mark.skipif(platform.machine() != "x86_64", reason="elsewhere every CPU has fma"),
]

_LIBM = ctypes.CDLL(ctypes.util.find_library("m"))
for _name, _type in (("fma", ctypes.c_double), ("fmaf", ctypes.c_float)):
    getattr(_LIBM, _name).restype = _type
    getattr(_LIBM, _name).argtypes = [_type] * 3

#: What is appended to a kernel, to call its function for many numbers.
_LOOP = """
__attribute__((visibility("default")))
void fma_of(const {type} *a, const {type} *b, const {type} *c, {type} *result, int64_t count)
{{
    for (int64_t i = 0; i < count; ++i) {{
        result[i] = fma_{short}(a[i], b[i], c[i]);
    }}
}}
"""


@pytest.fixture(scope="module", params=["gcc", "clang"])
def compiler(request: pytest.FixtureRequest) -> str:
    if shutil.which(request.param) is None:
        pytest.skip(f"there is no {request.param} here")
    return str(request.param)


@pytest.fixture(scope="module", params=[DType.FLOAT32, DType.FLOAT64], ids=str)
def made(
    request: pytest.FixtureRequest, compiler: str, tmp_path_factory: pytest.TempPathFactory
) -> _Made:
    return _Made(compiler, request.param, tmp_path_factory.mktemp("fma"))


class _Made:
    """A kernel's fma, compiled for the plainest CPU."""

    def __init__(self, compiler: str, dtype: DType, folder: Path) -> None:
        self.type = np.float32 if dtype is DType.FLOAT32 else np.float64
        tensor_class = TensorClass(dtype, dtype, dtype, False, DecayKind.NONE)
        structure = KernelStructure(ClipKind.NONE, False, (tensor_class,))
        name = "float" if dtype is DType.FLOAT32 else "double"
        source = folder / "kernel.c"
        text = render(lower_structure(structure)).text
        source.write_text(text + _LOOP.format(type=name, short=dtype.short), encoding="utf-8")
        library = folder / "kernel.so"
        flags = (*KERNEL_FLAGS, "-march=x86-64", "-I", str(include_dir()))
        subprocess.run([compiler, *flags, str(source), "-o", str(library), "-lm"], check=True)
        self._function = ctypes.CDLL(str(library)).fma_of
        self._function.argtypes = [ctypes.c_void_p] * 4 + [ctypes.c_int64]
        self._libm = _LIBM.fmaf if dtype is DType.FLOAT32 else _LIBM.fma

    def __call__(self, a: Array, b: Array, c: Array) -> Array:
        columns = [np.ascontiguousarray(each, self.type) for each in (a, b, c)]
        result = np.empty_like(columns[0])
        self._function(*(each.ctypes.data for each in (*columns, result)), result.size)
        return result

    def agrees(self, a: Array, b: Array, c: Array) -> None:
        columns = [each.ravel() for each in np.broadcast_arrays(a, b, c)]
        a, b, c = (np.asarray(each, self.type) for each in columns)
        actual = self(a, b, c)
        triples = zip(a.tolist(), b.tolist(), c.tolist())
        expected = np.array([self._libm(*triple) for triple in triples], self.type)
        bits = np.uint32 if self.type is np.float32 else np.uint64
        wrong = (actual.view(bits) != expected.view(bits)) & ~(
            np.isnan(actual) & np.isnan(expected)
        )
        at = np.flatnonzero(wrong)[:1]
        assert at.size == 0, (a[at], b[at], c[at], actual[at], expected[at])


# ---- One fma ------------------------------------------------------------------------------------


@pytest.mark.parametrize("seed", range(4))
def test_any_bits(made: _Made, seed: int) -> None:
    bits = np.random.default_rng(seed).integers(0, 2**63, (3, 50000), np.int64) * 2
    if made.type is np.float32:
        made.agrees(*(row.astype(np.uint64).view(np.uint32)[::2].view(np.float32) for row in bits))
    else:
        made.agrees(*bits.view(np.float64))


def test_special_numbers(made: _Made) -> None:
    info = np.finfo(made.type)
    plain = [0.0, 1.0, 1.5, 3.0, math.inf, math.nan, float(info.max), float(info.tiny)]
    plain += [float(info.smallest_subnormal), float(info.eps), 1 + float(info.eps)]
    plain += [float(info.tiny) - float(info.smallest_subnormal), math.sqrt(float(info.max))]
    signed = np.array([*plain, *(-each for each in plain)], made.type)
    made.agrees(signed[:, None, None], signed[:, None], signed)


@pytest.mark.parametrize("seed", range(2))
@pytest.mark.parametrize("distance", [1, 8, 26, 60])
def test_sums_that_cancel(made: _Made, seed: int, distance: int) -> None:
    random = np.random.default_rng(seed)
    a, b = random.standard_normal((2, 30000)).astype(made.type)
    off = np.ldexp(random.standard_normal(30000), -random.integers(0, distance + 1, 30000))
    made.agrees(a, b, -(a * b) * (1 + off).astype(made.type))


@pytest.mark.parametrize("seed", range(2))
def test_results_that_are_subnormal(made: _Made, seed: int) -> None:
    random = np.random.default_rng(seed)
    lowest = int(np.finfo(made.type).minexp)
    digits = int(np.finfo(made.type).nmant)

    def numbers(middle: int, spread: int) -> Array:
        exponents = middle + random.integers(-spread, spread + 1, 30000)
        return np.ldexp(random.standard_normal(30000), exponents).astype(made.type)

    half = lowest // 2
    made.agrees(numbers(half, digits), numbers(half, digits), numbers(lowest, digits))
    made.agrees(numbers(0, 3), numbers(lowest, 3), numbers(lowest - digits // 2, digits))


def _near_the_middle(random: np.random.Generator, digits: int) -> tuple[list[float], ...]:
    """Factors whose product is next to an odd number of half units of c, to either side or not.

    With powers of two, (1 + x) (1 - x) is 1 - x^2; and (1 - y + y^2) (1 + y) is 1 + y^3.
    """
    columns: tuple[list[float], ...] = ([], [], [])
    for _ in range(4000):
        c = float(random.integers(2**digits, 2 ** (digits + 1)))
        odd = float(2 * random.integers(0, 2 ** int(random.integers(0, 6))) + 1)
        x = 2.0 ** -int(random.integers(digits // 2, digits - 6))
        y = 2.0 ** -int(random.integers(digits // 3, digits // 2 + 1))
        pairs = [(1.0, 1.0), (1 + x, 1 - x), (1 - y + y * y, 1 + y)]
        one, other = pairs[int(random.integers(0, 3))]
        if other == 1 + y:
            odd = 1.0  # whatever else takes too many digits
        scale = int(random.integers(-20, 20))
        sign, opposite = random.choice((-1.0, 1.0), 2)
        columns[0].append(math.ldexp(odd * one * sign, scale))
        columns[1].append(math.ldexp(other, -1 - scale))
        columns[2].append(c * opposite)
    return columns


@pytest.mark.parametrize("power", [0, 30, -60, "subnormal"])
def test_sums_in_the_middle_of_two_numbers_and_next_to_it(made: _Made, power: int | str) -> None:
    digits = int(np.finfo(made.type).nmant)
    a, b, c = map(np.array, _near_the_middle(np.random.default_rng(3), digits))
    down = (int(np.finfo(made.type).minexp) - digits) if power == "subnormal" else int(power)
    if power == "subnormal":
        c = np.floor(np.ldexp(c, -np.arange(c.size) % (digits - 1) - 1))
    a, b, c = np.ldexp(a, down // 2), np.ldexp(b, down - down // 2), np.ldexp(c, down)
    assert np.array_equal(a.astype(made.type), a)
    assert np.array_equal(b.astype(made.type), b)
    assert np.array_equal(c.astype(made.type), c)
    made.agrees(a, b, c)


def test_what_is_not_odd_would_be_wrong_there() -> None:
    a, b, c = map(np.array, _near_the_middle(np.random.default_rng(3), 23))
    twice = (a * b + c).astype(np.float32)
    once = np.array([_rounded(*each) for each in zip(a.tolist(), b.tolist(), c.tolist())])
    assert np.count_nonzero(twice != once.astype(np.float32)) > 100
    expected = [_LIBM.fmaf(*each) for each in zip(a.tolist(), b.tolist(), c.tolist())]
    assert once.tolist() == expected


def _rounded(a: float, b: float, c: float) -> float:
    """Round ``a * b + c``, which has an exponent like that of ``c``, to float32 by rationals."""
    exact = Fraction(a) * Fraction(b) + Fraction(c)
    unit = Fraction(2) ** (math.frexp(float(exact))[1] - 24)
    return float(round(exact / unit) * unit)  # round() is to even


@pytest.mark.parametrize("exponent", [880, 899, 900, 901, 960, 1000, 1023])
def test_the_ends_of_the_safe_range(exponent: int, compiler: str, tmp_path: Path) -> None:
    made = _Made(compiler, DType.FLOAT64, tmp_path)
    random = np.random.default_rng(exponent)
    large, one, any_size = random.uniform(1, 2, (3, 8000))
    large = np.ldexp(large, exponent)
    any_size = np.ldexp(any_size, random.integers(-1022, 1023, 8000)) * random.choice((-1, 1), 8000)
    made.agrees(large, one, any_size)
    made.agrees(large, np.ldexp(one, -exponent), any_size)
    made.agrees(1 / large, one, any_size)
    made.agrees(1 / large, one, -1 / large * one * (1 + np.ldexp(any_size, -1060)))
    made.agrees(np.sqrt(large), -np.sqrt(large) * one, large)
    made.agrees(one, any_size, large)


# ---- Kernels ------------------------------------------------------------------------------------


def _groups(structure: KernelStructure) -> Iterator[tuple[GroupPlan, float]]:
    bounds = {ClipKind.NONE: Clip(), ClipKind.VALUE: Clip(ClipKind.VALUE, 0.5, -0.25)}
    clip = bounds.get(structure.clip, Clip(structure.clip, 0.5))
    tensors = []
    for number, each in enumerate(structure.classes):
        decay = Decay() if each.decay is DecayKind.NONE else Decay(each.decay, 0.1)
        dtypes = (each.param_dtype, each.grad_dtype, each.moment_dtype, each.master)
        tensors.append(TensorPlan(f"p{number}", (1031 - 7 * number,), *dtypes, 1.5, decay))
    for beta1, beta2, epsilon in ((0.9, 0.999, 1e-8), (0.5, 0.75, 0.0), (0.0, 0.0, 1e30)):
        yield GroupPlan(tuple(tensors), beta1, beta2, epsilon, clip, structure.skip), 0.01


@cache
def _compiled(structure: KernelStructure, cpu: str) -> Path:
    source = render(lower_structure(structure))
    recipe = kernel_recipe(source, find_c_compiler(), current().cache_dir, cpu)
    return obtain(recipe, current()).library


def _without(structure: KernelStructure, cpu: str, folder: Path) -> Path:
    """A kernel that does not ask whether the CPU has the instruction."""
    source, library = folder / "kernel.c", folder / "kernel.so"
    source.write_text(render(lower_structure(structure)).text, encoding="utf-8")
    compiler = find_c_compiler()
    flags = (*kernel_flags(compiler, cpu), "-DRADAM_CODEGEN_NO_FMA", "-I", str(include_dir()))
    command = [*compiler.command, *flags, str(source), "-o", str(library), "-lm"]
    subprocess.run(command, check=True)
    return library


@pytest.mark.parametrize("asks", [True, False], ids=["asks", "without"])
@pytest.mark.parametrize(
    ("structure", "cpu"),
    [*((each, "x86-64-v1") for each in SAMPLE), (SAMPLE[0], "x86-64-v2"), (SAMPLE[1], "x86-64-v2")],
    ids=lambda each: each if isinstance(each, str) else f"{each.clip}-{len(each.classes)}",
)
def test_kernels_agree_with_the_interpreter(
    structure: KernelStructure, cpu: str, asks: bool, tmp_path: Path
) -> None:
    """Also where the instruction is used after all, as the CPU at hand has it."""
    library = _compiled(structure, cpu) if asks else _without(structure, cpu, tmp_path)
    kernel = load_kernel(library)
    for seed, (group, lr) in enumerate(_groups(structure)):
        plan = UpdatePlan((group,))
        module = Module(plan, (lower_structure(structure),), (0,))
        for special in (False, True):
            (arrays,) = random_arrays(plan, seed, None, special)
            for _ in range(2):
                expected = interpret(module, [arrays], lr, False)
                arrays = run_kernel(kernel, structure, group, arrays, lr, seed=seed)
                assert_bitwise(plan, [arrays], expected)
