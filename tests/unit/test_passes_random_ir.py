"""The passes on IR that is nothing like RAdam keep its meaning too."""

from __future__ import annotations

import numpy as np
from hypothesis import given, settings
from hypothesis import strategies as st
from support.agreement import UNIT, assert_bitwise
from support.plans import random_arrays
from support.random_ir import random_modules

from radam_codegen.ir.dtypes import DType
from radam_codegen.ir.group import Module
from radam_codegen.ir.interpret import EXACT, GroupArrays, interpret
from radam_codegen.ir.verify import verify
from radam_codegen.passes.dead import REMOVE_DEAD
from radam_codegen.passes.fold import FOLD
from radam_codegen.passes.fuse import FUSE
from radam_codegen.passes.pipeline import PASSES
from radam_codegen.passes.share import SHARE_KERNELS
from radam_codegen.passes.split import SPLIT_PHASES

LR = 1.25


def arrays_near_one(module: Module, seed: int) -> list[GroupArrays]:
    """Positive arrays, none far from 1."""
    random = np.random.default_rng(seed)
    arrays = random_arrays(module.plan, seed, step=1)
    for each in arrays:
        for column in (each.param, each.grad, each.moment1, each.moment2):
            for array in column:
                array[...] = random.uniform(0.875, 1.125, array.shape)
    return arrays


def assert_near(actual: list[GroupArrays], expected: list[GroupArrays], unit: float) -> None:
    for one, other in zip(actual, expected):
        for slot in ("param", "moment1", "moment2"):
            for a, b in zip(getattr(one, slot), getattr(other, slot)):
                # What is stored is a difference of values near 1, rounded some dozen times.
                np.testing.assert_allclose(a, b, rtol=1e4 * unit, atol=1e4 * unit)


@given(random_modules(), st.integers(0, 2**16))
@settings(deadline=None, max_examples=100)
def test_exact_passes_keep_every_bit_of_random_ir(module: Module, seed: int) -> None:
    verify(module)
    arrays = arrays_near_one(module, seed)
    meant = interpret(module, arrays, LR)
    for each in (FOLD, FUSE, REMOVE_DEAD, SPLIT_PHASES, SHARE_KERNELS):
        assert each.exact
        module = each(module)
        verify(module, after=each.name)
        assert_bitwise(module.plan, interpret(module, arrays, LR), meant)


@given(random_modules(), st.integers(0, 2**16))
@settings(deadline=None, max_examples=150)
def test_each_pass_keeps_the_meaning_of_random_ir(module: Module, seed: int) -> None:
    verify(module)
    arrays = arrays_near_one(module, seed)
    unit = UNIT[module.plan.groups[0].tensors[0].param_dtype]
    meant = interpret(module, arrays, LR, precision=EXACT)
    before = interpret(module, arrays, LR)
    for each in PASSES:
        module = each(module)
        verify(module, after=each.name)
        after = interpret(module, arrays, LR)
        assert_near(interpret(module, arrays, LR, precision=EXACT), meant, UNIT[DType.FLOAT64])
        assert_near(after, meant, unit)
        if each.exact:
            assert_bitwise(module.plan, after, before)
        before = after
