"""Every pass keeps what a plan means: the interpreter computes the same before and after it."""

from __future__ import annotations

import functools
from collections.abc import Iterator

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from support.agreement import assert_bitwise, assert_close
from support.mutants import mutants
from support.plans import random_arrays, update_plans

from radam_codegen.errors import VerifyError
from radam_codegen.ir.build import build_module
from radam_codegen.ir.dtypes import DType
from radam_codegen.ir.group import Module
from radam_codegen.ir.interpret import EXACT, GroupArrays, interpret
from radam_codegen.ir.plan import (
    Clip,
    ClipKind,
    Decay,
    DecayKind,
    GroupPlan,
    TensorPlan,
    UpdatePlan,
)
from radam_codegen.ir.verify import verify
from radam_codegen.passes.base import Pass
from radam_codegen.passes.pipeline import PASSES, lower_plan

LR = 0.0123

#: Before scalars are in float64, a beta is rounded to float32, and ``1 - beta2`` has only a few
#: digits, so there is nothing to compare closely.
FIRST_ACCURATE = next(index for index, each in enumerate(PASSES) if each.name == "hoist_scalars")

ARGUMENTS = (update_plans(), st.integers(0, 2**32 - 1), st.sampled_from((0, 1, 5, 6, None)))


class Result:
    """What a module makes of some arrays."""

    def __init__(self, module: Module, arrays: list[GroupArrays]) -> None:
        self.plan = module.plan
        self.arrays = arrays
        self._module = module

    @functools.cached_property
    def exact(self) -> list[GroupArrays]:
        return interpret(self._module, self.arrays, LR, precision=EXACT)

    @functools.cached_property
    def typed(self) -> list[GroupArrays]:
        return interpret(self._module, self.arrays, LR)

    def check(self, meant: Result, bitwise: bool, accurate: bool) -> None:
        """Fail unless this result means the same as another.

        ``bitwise`` demands equal bits; ``accurate`` that what was computed in the plan's own types
        is right too.
        """
        assert_close(self.plan, self.arrays, self.exact, meant.exact, typed=False)
        if bitwise:
            assert_bitwise(self.plan, self.typed, meant.typed)
        if accurate:
            assert_close(self.plan, self.arrays, self.typed, meant.exact, typed=True)


def steps(plan: UpdatePlan) -> Iterator[tuple[int, Pass, Module]]:
    """Each pass with the verified module that it makes."""
    module = build_module(plan)
    verify(module, after="build")
    for index, each in enumerate(PASSES):
        module = each(module)
        verify(module, after=each.name)
        yield index, each, module


@given(*ARGUMENTS)
@settings(deadline=None, max_examples=40)
def test_each_pass_keeps_the_meaning(plan: UpdatePlan, seed: int, step: int | None) -> None:
    arrays = random_arrays(plan, seed, step)
    first = before = Result(build_module(plan), arrays)
    for index, each, module in steps(plan):
        after = Result(module, arrays)
        after.check(before, each.exact, accurate=index >= FIRST_ACCURATE)
        before = after
    before.check(first, bitwise=False, accurate=True)


@given(*ARGUMENTS)
@settings(deadline=None, max_examples=25)
def test_exact_passes_keep_infinities_and_nan(
    plan: UpdatePlan, seed: int, step: int | None
) -> None:
    arrays = random_arrays(plan, seed, step, special=True)
    before = interpret(plan, arrays, LR)
    for _, each, module in steps(plan):
        after = interpret(module, arrays, LR)
        if each.exact:
            assert_bitwise(plan, after, before)
        before = after


def test_groups_of_equal_structure_share_a_kernel() -> None:
    f32 = (DType.FLOAT32,) * 3
    groups = tuple(
        GroupPlan((TensorPlan(f"w{index}", (3,), *f32, need_clip=bool(index)),), beta1=beta1)
        for index, beta1 in enumerate((0.5, 0.6, 0.7))
    )
    other = GroupPlan((TensorPlan("v", (2,), *f32),), clip=Clip(ClipKind.NORM, 1.0))
    plan = UpdatePlan((groups[0], other, *groups[1:]))
    module = lower_plan(plan)
    assert module.kernel_of == (0, 1, 0, 0)
    arrays = random_arrays(plan, seed=1)
    Result(module, arrays).check(Result(build_module(plan), arrays), False, True)


#: The one with most operations first.
CLIPS = (
    Clip(ClipKind.GLOBAL_NORM, 0.8),
    Clip(ClipKind.NORM, 0.8),
    Clip(ClipKind.VALUE, 0.7, -0.3),
    Clip(),
)


@functools.cache
def varied_plan(clip: Clip) -> UpdatePlan:
    """A small plan in which every number matters."""
    f32 = (DType.FLOAT32,) * 3
    kinds = (
        (*f32, False, Decay(DecayKind.L2, 0.3)),
        (*f32, False, Decay()),
        (*(DType.FLOAT64,) * 3, False, Decay(DecayKind.L1, 0.3)),
        (DType.BFLOAT16, DType.FLOAT32, DType.FLOAT32, True, Decay(DecayKind.L2, 0.2)),
    )
    tensors = [
        TensorPlan(
            f"w{index}{need_clip}", (7,), param, grad, moment, master, lr_scale, decay, need_clip
        )
        for index, (param, grad, moment, master, decay) in enumerate(kinds)
        for need_clip, lr_scale in ((True, 0.6), (False, 1.7))
    ]
    return UpdatePlan((GroupPlan(tuple(tensors), 0.85, 0.97, 1e-3, clip),))


@pytest.mark.parametrize("stage", ["built", "lowered"])
def test_any_single_fault_is_found(stage: str) -> None:
    tried: set[str] = set()
    for clip in CLIPS:
        plan = varied_plan(clip)
        module = build_module(plan) if stage == "built" else lower_plan(plan)
        # Before the first step, on both sides of the threshold, just below it, and far beyond it.
        cases = [random_arrays(plan, seed, step) for seed, step in enumerate((0, 4, 5, 20))]
        for arrays in cases:
            for param in arrays[0].param:
                param[0] = 0
        results = [Result(module, arrays) for arrays in cases]
        # A fault in an operation that another clip's kernel has, too, is planted in one of them.
        new = {text: mutant for text, mutant in mutants(module) if text not in tried}
        tried.update(new)
        for text, mutant in new.items():
            try:
                verify(mutant)
                for arrays, meant in zip(cases, results):
                    result = Result(mutant, arrays)
                    result.check(meant, bitwise=False, accurate=stage == "lowered")
            except (AssertionError, VerifyError):
                continue
            pytest.fail(f"not found: {text}")
    assert len(tried) > 150
