"""Compiled kernels and the interpreter of the IR agree to the last bit."""

from __future__ import annotations

from concurrent.futures import ThreadPoolExecutor
from dataclasses import replace
from functools import cache

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from support.agreement import assert_bitwise
from support.kernel_runner import run_kernel
from support.plans import clips, random_arrays
from support.structures import CLASSES, SAMPLE

from radam_codegen.codegen import render
from radam_codegen.config import current
from radam_codegen.ir.group import GroupIR, Module
from radam_codegen.ir.interpret import GroupArrays, interpret
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
from radam_codegen.runtime import LoadedKernel, load_kernel
from radam_codegen.toolchain import build_kernel

pytestmark = pytest.mark.either_ir  # there is no Paddle in this file

BETAS = (
    st.sampled_from((0.0, 0.5, 0.9, 0.95, 0.999, 0.9999, 1 - 1e-8, 1 - 1e-10))
    | st.floats(0.0, 1.0, exclude_max=True)
    | st.floats(1.0, 53.0).map(lambda bits: 1.0 - 2.0**-bits)
)
NUMBERS = st.sampled_from((0.0, 1e-8, 1e-3, 1.0, 1e30)) | st.floats(0.0, 10.0)
SIZES = st.integers(0, 70) | st.sampled_from((127, 1023, 4097)) | st.sampled_from((16385, 40000))


@cache
def lowered(structure: KernelStructure) -> GroupIR:
    return lower_structure(structure)


@cache
def loaded(structure: KernelStructure) -> LoadedKernel:
    return load_kernel(build_kernel(render(lowered(structure)), current()).library)


@pytest.fixture(scope="module", autouse=True)
def _kernels() -> None:
    with ThreadPoolExecutor(2) as pool:
        list(pool.map(loaded, SAMPLE))


def tensor(index: int, each: TensorClass, numel: int, **special: object) -> TensorPlan:
    plan = TensorPlan(
        f"p{index}", (numel,), each.param_dtype, each.grad_dtype, each.moment_dtype, each.master
    )
    return replace(plan, **special)


def decay_of(each: TensorClass, coefficient: float) -> Decay:
    return Decay() if each.decay is DecayKind.NONE else Decay(each.decay, coefficient)


@st.composite
def tensors(draw: st.DrawFn, index: int, classes: tuple[TensorClass, ...]) -> TensorPlan:
    each = draw(st.sampled_from(classes))
    return tensor(
        index,
        each,
        draw(SIZES),
        decay=decay_of(each, draw(NUMBERS)),
        lr_scale=draw(NUMBERS),
        need_clip=draw(st.booleans()),
    )


@st.composite
def groups(draw: st.DrawFn) -> tuple[KernelStructure, GroupPlan]:
    structure = draw(st.sampled_from(SAMPLE))
    count = draw(st.integers(1, 5))
    plan = GroupPlan(
        tuple(draw(tensors(index, structure.classes)) for index in range(count)),
        beta1=draw(BETAS),
        beta2=draw(BETAS),
        epsilon=draw(NUMBERS),
        clip=draw(clips().filter(lambda clip: clip.kind is structure.clip)),
        skip=structure.skip,
    )
    return structure, plan


def check(
    structure: KernelStructure,
    group: GroupPlan,
    arrays: GroupArrays,
    lr: float,
    found_inf: bool = False,
    seed: int = 0,
) -> GroupArrays:
    """Run a step both ways, compare, and return its result."""
    plan = UpdatePlan((group,))
    module = Module(plan, (lowered(structure),), (0,))
    expected = interpret(module, [arrays], lr, found_inf)
    actual = run_kernel(loaded(structure), structure, group, arrays, lr, found_inf, seed)
    assert_bitwise(plan, [actual], expected)
    return actual


#: Numbers that a plan may have, and that nobody gives an optimizer in earnest.
EDGES = (0.0, 5e-324, 2.3e-308, 1e-45, 1e-30, 0.5, 1.0, 3.5e38, 1e300, 1.7976931348623157e308)


@st.composite
def extreme_groups(draw: st.DrawFn) -> tuple[KernelStructure, GroupPlan]:
    structure, group = draw(groups())
    edge = st.sampled_from(EDGES)
    beta = st.sampled_from((0.0, 5e-324, 1e-30, 0.5, 1 - 2**-53))
    bound = draw(edge.filter(bool))
    clip = {
        ClipKind.NONE: Clip(),
        ClipKind.VALUE: Clip(ClipKind.VALUE, bound, draw(st.sampled_from((-bound, -0.0, bound)))),
    }.get(structure.clip, Clip(structure.clip, bound))
    changed = tuple(
        replace(
            each,
            shape=(draw(st.integers(0, 70)),),
            decay=decay_of(each.tensor_class, draw(edge)),
            lr_scale=draw(edge) * draw(st.sampled_from((1, -1))),
        )
        for each in group.tensors
    )
    return structure, GroupPlan(changed, draw(beta), draw(beta), draw(edge), clip, structure.skip)


@given(
    extreme_groups(),
    st.integers(0, 2**32 - 1),
    st.booleans(),
    st.sampled_from((*EDGES, -1.0, np.inf, -np.inf, np.nan)),
)
@settings(deadline=None, max_examples=100)
def test_numbers_at_the_edge(
    case: tuple[KernelStructure, GroupPlan], seed: int, special: bool, lr: float
) -> None:
    structure, group = case
    plan = UpdatePlan((group,))
    assert UpdatePlan.from_json(plan.to_json()) == plan
    (arrays,) = random_arrays(plan, seed, None, special)
    for number in range(2):
        arrays = check(structure, group, arrays, lr, seed=seed + number)


@given(
    groups(),
    st.integers(0, 2**32 - 1),
    st.sampled_from((0, 4, 5, 6, None)),
    st.booleans(),
    st.sampled_from((0.0, 1e-3, 0.1, 1e6)) | st.floats(0.0, 10.0),
)
@settings(deadline=None, max_examples=150)
def test_three_steps_of_any_group(
    case: tuple[KernelStructure, GroupPlan],
    seed: int,
    step: int | None,
    special: bool,
    lr: float,
) -> None:
    structure, group = case
    plan = UpdatePlan((group,))
    (arrays,) = random_arrays(plan, seed, step, special)
    for number in range(3):
        arrays = check(structure, group, arrays, lr, seed=seed + number)
        (fresh,) = random_arrays(plan, seed + 1 + number, step, special)
        arrays = replace(arrays, grad=fresh.grad)


@pytest.mark.parametrize("structure", SAMPLE, ids=lambda each: f"{each.clip}-{len(each.classes)}")
def test_every_body_of_the_sample(structure: KernelStructure) -> None:
    clip = {
        ClipKind.NONE: Clip(),
        ClipKind.VALUE: Clip(ClipKind.VALUE, 0.5, -0.25),
    }.get(structure.clip, Clip(structure.clip, 0.5))
    plans = [
        tensor(
            2 * index + exempt,
            each,
            67 - 30 * exempt,
            decay=decay_of(each, 0.1),
            lr_scale=1.5,
            need_clip=not exempt,
        )
        for index, each in enumerate(structure.classes)
        for exempt in (False, True)
    ]
    group = GroupPlan(tuple(plans), clip=clip, skip=structure.skip)
    for special in (False, True):
        (arrays,) = random_arrays(UpdatePlan((group,)), 7, None, special)
        for seed in range(2):
            arrays = check(structure, group, arrays, 0.01, seed=seed)
        check(structure, group, arrays, 0.01, found_inf=True)


def test_the_sample_has_every_class_and_every_type_with_every_clip() -> None:
    for clip in ClipKind:
        held = {
            each for structure in SAMPLE if structure.clip is clip for each in structure.classes
        }
        pairs = {(each.param_dtype, each.grad_dtype) for each in held}
        assert pairs == {(each.param_dtype, each.grad_dtype) for each in CLASSES}
        assert clip is not ClipKind.NONE or held == set(CLASSES)


@pytest.mark.parametrize("structure", [SAMPLE[0], SAMPLE[-1]], ids=lambda each: str(each.clip))
def test_a_long_way(structure: KernelStructure) -> None:
    clip = Clip(ClipKind.VALUE, 0.5, -0.5) if structure.clip is ClipKind.VALUE else Clip()
    plans = [
        tensor(index, each, 33, decay=decay_of(each, 0.01))
        for index, each in enumerate(structure.classes)
    ]
    group = GroupPlan(tuple(plans), clip=clip, skip=structure.skip)
    (arrays,) = random_arrays(UpdatePlan((group,)), 1, 0)
    for seed in range(60):
        arrays = check(structure, group, arrays, 0.01, seed=seed)
        (fresh,) = random_arrays(UpdatePlan((group,)), seed, 0)
        arrays = replace(arrays, grad=fresh.grad)
    assert np.all(arrays.step == 60)
