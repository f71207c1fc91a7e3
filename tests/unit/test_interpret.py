"""The interpreter: its results against the documented formula, and how it treats its arguments."""

from __future__ import annotations

import copy
from dataclasses import replace
from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from support.agreement import assert_bitwise, wide
from support.plans import encode, random_arrays, update_plans
from support.reference import ReferenceState, reference_rho, reference_step

from radam_codegen.errors import ArgumentError
from radam_codegen.ir.arithmetic import ordered_sum
from radam_codegen.ir.build import build_module
from radam_codegen.ir.dtypes import DType, Rate
from radam_codegen.ir.group import Body, GroupIR, Module
from radam_codegen.ir.interpret import EXACT, GroupArrays, interpret, storage_dtype
from radam_codegen.ir.ops import Op, OpKind, Value
from radam_codegen.ir.plan import (
    Clip,
    ClipKind,
    GroupPlan,
    KernelStructure,
    TensorPlan,
    UpdatePlan,
)
from radam_codegen.passes.pipeline import lower_plan

F64, F32, BF16, F16 = DType.FLOAT64, DType.FLOAT32, DType.BFLOAT16, DType.FLOAT16
LR = 0.01
STEPS = 12


def new_gradients(
    arrays: GroupArrays, group: GroupPlan, random: np.random.Generator
) -> GroupArrays:
    grads = [
        encode(np.asarray(random.standard_normal(tensor.shape)), tensor.grad_dtype)
        for tensor in group.tensors
    ]
    return replace(arrays, grad=grads)


@given(update_plans(max_groups=2), st.integers(0, 2**32 - 1), st.booleans())
@settings(deadline=None, max_examples=60)
def test_twelve_steps_follow_the_documented_formula(
    plan: UpdatePlan, seed: int, lowered: bool
) -> None:
    module = lower_plan(plan) if lowered else build_module(plan)
    arrays = random_arrays(plan, seed, step=0)
    random = np.random.default_rng(seed)
    states = [
        [
            ReferenceState(wide(master if tensor.master else param), wide(m), wide(v))
            for tensor, param, master, m, v in zip(
                group.tensors, each.param, each.master, each.moment1, each.moment2
            )
        ]
        for group, each in zip(plan.groups, arrays)
    ]
    scales = [[np.abs(state.param) for state in group] for group in states]
    for _ in range(STEPS):
        arrays = [new_gradients(*pair, random) for pair in zip(arrays, plan.groups)]
        arrays = interpret(module, arrays, LR, precision=EXACT)
        for index, (group, each) in enumerate(zip(plan.groups, arrays)):
            reference_step(group, states[index], [wide(grad) for grad in each.grad], LR)
            for place, state in enumerate(states[index]):
                at = f"group {index}, {group.tensors[place].name!r}, step {state.step}"
                # Later steps see earlier roundings through decay, hence the largest value so far.
                scale = np.maximum(scales[index][place], np.abs(state.param))
                scales[index][place] = scale
                error = np.abs(each.param[place] - state.param)
                fine = (error <= 1e-12 * np.maximum(scale, 1.0)) | ~np.isfinite(state.param)
                assert np.all(fine), f"{at}: {each.param[place]} instead of {state.param}"
                assert np.array_equal(np.isnan(each.param[place]), np.isnan(state.param)), at
                assert int(each.step[place]) == state.step, at


def one_tensor(dtype: DType = F32, numel: int = 5, **changes: Any) -> UpdatePlan:
    moment = F64 if dtype is F64 else F32
    tensor = TensorPlan("w", (numel,), dtype, dtype, moment, dtype in (BF16, F16))
    return UpdatePlan((GroupPlan((tensor,), **changes),))


@pytest.mark.parametrize("beta2", [0.9, 0.95, 0.999])
def test_float32_stays_near_the_reference_across_the_threshold(beta2: float) -> None:
    plan = one_tensor(beta2=beta2)
    module = lower_plan(plan)
    random = np.random.default_rng(3)
    arrays = random_arrays(plan, 7, step=0)
    state = ReferenceState(wide(arrays[0].param[0]), np.zeros(5), np.zeros(5))
    branches = set()
    for _ in range(STEPS):
        arrays = [new_gradients(arrays[0], plan.groups[0], random)]
        arrays = interpret(module, arrays, LR)
        reference_step(plan.groups[0], [state], [wide(arrays[0].grad[0])], LR)
        np.testing.assert_allclose(arrays[0].param[0], state.param, rtol=2e-5, atol=2e-6)
        branches.add(reference_rho(beta2, state.step)[1] > 5.0)
    assert branches == {True, False}


@given(update_plans(), st.integers(0, 2**32 - 1), st.booleans())
@settings(deadline=None, max_examples=30)
def test_nothing_given_is_changed(plan: UpdatePlan, seed: int, exact: bool) -> None:
    arrays = random_arrays(plan, seed)
    kept = copy.deepcopy(arrays)
    results = interpret(plan, arrays, LR, precision=EXACT if exact else "typed")
    assert_bitwise(plan, arrays, kept)
    for given_group, result, group in zip(arrays, results, plan.groups):
        assert np.array_equal(result.step, given_group.step + 1)
        for place, tensor in enumerate(group.tensors):
            for slot, dtype in (("param", tensor.param_dtype), ("moment1", tensor.moment_dtype)):
                array = getattr(result, slot)[place]
                assert array.shape == tensor.shape
                assert array.dtype == (np.float64 if exact else storage_dtype(dtype))
                assert not np.shares_memory(array, getattr(given_group, slot)[place])


def test_a_plan_stands_for_its_unfused_ir() -> None:
    plan = one_tensor(clip=Clip(ClipKind.GLOBAL_NORM, 0.5))
    arrays = random_arrays(plan, 1)
    assert_bitwise(plan, interpret(plan, arrays, LR), interpret(build_module(plan), arrays, LR))


@pytest.mark.parametrize("skip", [False, True])
@pytest.mark.parametrize("found_inf", [False, True])
def test_found_inf_skips_groups_with_the_flag(skip: bool, found_inf: bool) -> None:
    plan = one_tensor(skip=skip)
    arrays = random_arrays(plan, 1, step=3)
    (result,) = interpret(plan, arrays, LR, found_inf=found_inf)
    skipped = skip and found_inf
    assert result.step.tolist() == [3 if skipped else 4]
    assert np.array_equal(result.param[0], arrays[0].param[0]) == skipped
    assert np.array_equal(result.moment2[0], arrays[0].moment2[0]) == skipped


def test_each_group_clips_by_its_own_norm_over_tensors_that_need_it() -> None:
    def tensor(name: str, need_clip: bool) -> TensorPlan:
        return TensorPlan(name, (4,), F32, F32, F32, need_clip=need_clip)

    clip = Clip(ClipKind.GLOBAL_NORM, 1.0)
    first = GroupPlan((tensor("a", True), tensor("b", False), tensor("c", True)), clip=clip)
    second = GroupPlan((tensor("d", True),), clip=clip)
    plan = UpdatePlan((first, second))
    arrays = random_arrays(plan, 1, step=0)
    for place, value in enumerate((3.0, 100.0, 4.0)):
        arrays[0].grad[place][:] = value
    arrays[1].grad[0][:] = 0.25
    for module in (build_module(plan), lower_plan(plan)):
        result = interpret(module, arrays, LR, precision=EXACT)
        # The norm is sqrt(4 * 3^2 + 4 * 4^2) = 10; the second group's is 0.5, within the bound.
        m = [float(moment[0]) for moment in (*result[0].moment1, *result[1].moment1)]
        assert m == pytest.approx([0.03, 10.0, 0.04, 0.025], rel=1e-14)


def test_sums_over_a_group_are_in_tensor_order() -> None:
    # 1e16 + 1 + 1 is 1e16 from the left, and 1e16 + 2 from the right.
    plan = UpdatePlan((GroupPlan(tuple(TensorPlan(name, (1,), F64, F64, F64) for name in "abc")),))
    tensor_class = plan.groups[0].tensors[0].tensor_class
    ops = (
        Op(OpKind.LOAD, Value("grad", F64, Rate.ELEMENT), (), "grad"),
        Op(OpKind.SUM_TENSOR, Value("total", F64, Rate.TENSOR), ("grad",)),
        Op(OpKind.SUM_GROUP, Value("all_total", F64, Rate.GROUP), ("total",)),
        Op(OpKind.STORE, None, ("all_total",), "param"),
    )
    structure = KernelStructure(ClipKind.NONE, False, (tensor_class,))
    module = Module(plan, (GroupIR(structure, False, (Body(tensor_class, (), (), ops),)),), (0,))
    for grads, total in (((1e16, 1.0, 1.0), 1e16), ((1.0, 1.0, 1e16), 1e16 + 2)):
        arrays = random_arrays(plan, 0)
        for place, grad in enumerate(grads):
            arrays[0].grad[place][:] = grad
        (result,) = interpret(module, arrays, LR)
        assert [float(param[0]) for param in result.param] == [total] * 3


def test_norms_of_long_tensors_use_the_documented_order() -> None:
    plan = one_tensor(F64, numel=40_000, clip=Clip(ClipKind.NORM, 0.5))
    arrays = random_arrays(plan, 2, step=0)
    grad = arrays[0].grad[0]
    (result,) = interpret(lower_plan(plan), arrays, LR)
    scale = 0.5 / np.sqrt(ordered_sum(grad * grad))
    moment1 = np.float64(1 - 0.9) * (scale * grad)
    assert np.array_equal(result.moment1[0], moment1)


def test_bfloat16_is_held_as_bits_and_follows_its_master() -> None:
    plan = one_tensor(BF16)
    arrays = random_arrays(plan, 4, step=0)
    assert arrays[0].param[0].dtype == np.uint16
    (result,) = interpret(lower_plan(plan), arrays, LR)
    master = result.master[0]
    assert master is not None
    assert master.dtype == np.float32
    assert np.array_equal(result.param[0], encode(master, BF16))


def test_exact_results_can_be_given_again() -> None:
    plan = UpdatePlan((*one_tensor(BF16).groups,))
    arrays = random_arrays(plan, 4, step=0)
    once = interpret(plan, arrays, LR, precision=EXACT)
    again = interpret(plan, once, LR, precision=EXACT)
    assert again[0].step.tolist() == [2]
    assert again[0].param[0].dtype == np.float64


def arrays_of(plan: UpdatePlan, **changes: Any) -> list[GroupArrays]:
    return [replace(random_arrays(plan, 0)[0], **changes)]


FIVE = np.zeros(5, np.float32)


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"param": []}, "group 0: 1 tensors, but 0 arrays for slot param"),
        ({"grad": [None]}, "group 0, parameter 'w', slot grad: there is no array"),
        ({"param": [FIVE.astype(np.float64)]}, "slot param: the array is float64, but must be"),
        ({"moment1": [FIVE[:4]]}, r"slot moment1: the shape is \(4,\), but must be \(5,\)"),
        ({"master": [FIVE]}, "slot master: must be None"),
        ({"step": np.zeros(2, np.int64)}, r"step must be an int64 array of shape \(1,\)"),
        ({"step": np.zeros(1, np.int32)}, r"step must be an int64 array of shape \(1,\)"),
    ],
)
def test_arrays_that_do_not_fit_are_named(changes: dict[str, Any], message: str) -> None:
    plan = one_tensor()
    with pytest.raises(ArgumentError, match=message):
        interpret(plan, arrays_of(plan, **changes), LR)


def test_other_bad_arguments() -> None:
    plan = one_tensor()
    with pytest.raises(ArgumentError, match="the plan has 1 groups, but there are 0"):
        interpret(plan, [], LR)
    with pytest.raises(ArgumentError, match="precision is 'double'"):
        interpret(plan, random_arrays(plan, 0), LR, precision="double")
    half = one_tensor(BF16)
    with pytest.raises(ArgumentError, match="slot master: there is no array"):
        interpret(half, arrays_of(half, master=[None]), LR)
