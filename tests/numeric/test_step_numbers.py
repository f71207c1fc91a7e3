"""What kernels compute once per step, against 60 digits, for betas and step counts of all kinds."""

from __future__ import annotations

import random
from decimal import Decimal
from functools import cache

import numpy as np
import pytest
from support.agreement import assert_bitwise
from support.kernel_runner import run_kernel
from support.reference import step_numbers

from radam_codegen.codegen import render
from radam_codegen.config import current
from radam_codegen.ir.dtypes import DType
from radam_codegen.ir.group import GroupIR, Module
from radam_codegen.ir.interpret import GroupArrays, interpret
from radam_codegen.ir.plan import GroupPlan, TensorPlan, UpdatePlan
from radam_codegen.passes import lower_structure
from radam_codegen.runtime import LoadedKernel, load_kernel
from radam_codegen.toolchain import build_kernel

pytestmark = pytest.mark.either_ir  # there is no Paddle in this file

LARGEST = 1.0 - 2.0**-53
#: At t = 6 the closed form in float64 is off by 2.8e-8, 5.4 % and 107 % for three of these.
BETAS2 = (0.0, 2 / 3, 0.7, 0.9, 0.999, 0.99999, 1 - 1e-7, 1 - 1e-8, 1 - 1e-10, LARGEST)
BETAS1 = (0.0, 0.9, 1 - 1e-9, LARGEST)
EARLY = (*range(1, 13), 50, 105, 1000)
COUNTS = (*EARLY, 10**5, 2**24 + 1, 10**9, 2**40 - 1, 2**53 - 1)
EPSILON = 1e-8


def group_of(count: int, beta1: float, beta2: float) -> GroupPlan:
    kinds = (DType.FLOAT64,) * 3
    tensors = tuple(TensorPlan(f"w{index}", (1,), *kinds) for index in range(count))
    return GroupPlan(tensors, beta1, beta2, EPSILON)


STRUCTURE = group_of(1, 0.9, 0.999).structure


@cache
def lowered() -> GroupIR:
    return lower_structure(STRUCTURE)


@pytest.fixture(scope="module")
def kernel() -> LoadedKernel:
    return load_kernel(build_kernel(render(lowered()), current()).library)


def exact_update(beta1: float, beta2: float, t: int) -> Decimal:
    """What the formula subtracts at step ``t`` for a gradient of 1, moments of 0, a rate of 1."""
    numbers = step_numbers(beta1, beta2, t)
    update = (1 - Decimal(beta1)) / numbers.bias_correction1
    if numbers.rectification is not None:
        root = numbers.bias_correction2.sqrt()
        root_of_moment2 = (1 - Decimal(beta2)).sqrt()
        update *= numbers.rectification * root / (root_of_moment2 + Decimal(EPSILON))
    return update


def check(kernel: LoadedKernel, beta1: float, beta2: float, counts: tuple[int, ...]) -> None:
    group = group_of(len(counts), beta1, beta2)
    zeros = [np.zeros(1) for _ in counts]
    ones = [np.ones(1) for _ in counts]
    steps = np.array(counts, np.int64) - 1
    arrays = GroupArrays(zeros, ones, zeros, zeros, [None] * len(counts), steps)
    result = run_kernel(kernel, STRUCTURE, group, arrays, 1.0)
    for t, param in zip(counts, result.param):
        off = abs(Decimal(-float(param[0])) / exact_update(beta1, beta2, t) - 1)
        assert off <= 1e-14, f"beta1 {beta1!r}, beta2 {beta2!r}, t {t}: off by {off:.2e}"
    plan = UpdatePlan((group,))
    expected = interpret(Module(plan, (lowered(),), (0,)), [arrays], 1.0)
    assert_bitwise(plan, [result], expected)


@pytest.mark.parametrize("beta1", BETAS1)
@pytest.mark.parametrize("beta2", BETAS2)
def test_a_step_has_fourteen_digits(kernel: LoadedKernel, beta1: float, beta2: float) -> None:
    check(kernel, beta1, beta2, COUNTS)


def test_random_betas_and_counts(kernel: LoadedKernel) -> None:
    draw = random.Random(1)
    for _ in range(60):
        betas = [
            draw.choice((draw.random(), 1.0 - 2.0 ** -draw.uniform(1, 53), 2.0**-1074))
            for _ in range(2)
        ]
        counts = tuple(int(2.0 ** draw.uniform(0, 53)) for _ in range(10))
        check(kernel, betas[0], betas[1], counts)


@pytest.mark.parametrize("distinct", [2, 16, 17, 64])
def test_tensors_whose_step_counts_alternate(kernel: LoadedKernel, distinct: int) -> None:
    # As many as a kernel keeps the numbers of, and more; and counts that differ in high bits only.
    for stride in (1, 16):
        counts = tuple(1 + stride * (index % distinct) for index in range(3 * distinct))
        check(kernel, 0.9, 0.999, counts)
