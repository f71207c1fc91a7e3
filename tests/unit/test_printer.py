"""The text form of plans and IR, to the letter."""

from __future__ import annotations

from dataclasses import replace

import pytest
from hypothesis import given, settings
from support.plans import HOSTILE_NAMES, update_plans

from radam_codegen.ir.build import build_module
from radam_codegen.ir.dtypes import DType, Rate
from radam_codegen.ir.group import Body, GroupIR, Module
from radam_codegen.ir.ops import Op, OpKind, Value
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
from radam_codegen.ir.printer import (
    format_op,
    print_body,
    print_group,
    print_module,
    print_plan,
    quote,
)
from radam_codegen.passes.pipeline import lower_plan

F64, F32, BF16 = DType.FLOAT64, DType.FLOAT32, DType.BFLOAT16

PLAN = UpdatePlan(
    (
        GroupPlan(
            (
                TensorPlan("linear_0.w_0", (784, 128), F32, F32, F32, lr_scale=0.5),
                TensorPlan(
                    'b"\n*/',
                    (),
                    BF16,
                    F32,
                    F32,
                    True,
                    decay=Decay(DecayKind.L2, 0.01),
                    need_clip=False,
                ),
            ),
            clip=Clip(ClipKind.GLOBAL_NORM, 1.0),
        ),
        GroupPlan(
            (TensorPlan("v", (0, 3), F64, F64, F64),),
            beta1=0.8,
            clip=Clip(ClipKind.VALUE, 0.5, -0.25),
            skip=True,
        ),
    )
)

PLAN_TEXT = r"""plan: 2 groups, state layout per_parameter

group 0: 2 tensors, 100353 elements
  kernel:  radam_clip_global_norm__bf16_grad_f32_master_l2__f32_no_decay
  beta1:   0.9
  beta2:   0.999
  epsilon: 1e-08
  clip:    global_norm to 1.0
  skip by found_inf: no
  shape    param     grad     moments  master   lr_scale  decay    clipped  name
  784x128  float32   float32  float32  -        0.5       -        yes      "linear_0.w_0"
  scalar   bfloat16  float32  float32  float32  1.0       l2 0.01  no       "b\"\n*/"

group 1: 1 tensor, 0 elements
  kernel:  radam_clip_value_skip__f64_no_decay
  beta1:   0.8
  beta2:   0.999
  epsilon: 1e-08
  clip:    value to [-0.25, 0.5]
  skip by found_inf: yes
  shape  param    grad     moments  master  lr_scale  decay  clipped  name
  0x3    float64  float64  float64  -       1.0       -      yes      "v"
"""

CLASS = TensorClass(F32, F32, F32, False, DecayKind.L1)
BODY = Body(
    CLASS,
    reduce=(),
    scalar=(
        Op(OpKind.NUMBER, Value("beta1", F64, Rate.GROUP), (), "beta1"),
        Op(OpKind.CAST, Value("beta1_f32", F32, Rate.GROUP), ("beta1",)),
        Op(OpKind.STEP, Value("step", DType.INT64, Rate.STEP), (), None, "t - 1"),
    ),
    each=(
        Op(OpKind.CONST, Value("half", F32, Rate.GROUP), (), 0.5),
        Op(OpKind.LOAD, Value("moment1", F32, Rate.ELEMENT), (), "moment1"),
        Op(
            OpKind.FMA,
            Value("moment1_out", F32, Rate.ELEMENT),
            ("beta1_f32", "moment1", "half"),
            None,
            "m_t",
        ),
        Op(OpKind.STORE, None, ("moment1_out",), "moment1", "m_t"),
    ),
)

BODY_TEXT = """body f32_l1  // param float32, grad float32, moments float32, decay l1
  scalar:
    %beta1: float64 group = number beta1
    %beta1_f32: float32 group = cast(%beta1)
    %step: int64 step = step  // t - 1
  each:
    %half: float32 group = const 0.5
    %moment1: float32 element = load moment1
    %moment1_out: float32 element = fma(%beta1_f32, %moment1, %half)  // m_t
    store moment1, %moment1_out                                       // m_t
"""

GROUP = GroupIR(KernelStructure(ClipKind.NONE, True, (CLASS,)), True, (BODY,))

GROUP_TEXT = """kernel radam_no_clip_skip__f32_l1
  clip: none
  skip by found_inf: yes
  phases split: yes

""" + "".join(f"  {line}\n" for line in BODY_TEXT.splitlines())


def test_a_plan_as_text() -> None:
    assert print_plan(PLAN) == PLAN_TEXT
    assert str(PLAN) == PLAN_TEXT


def test_a_body_as_text() -> None:
    assert print_body(BODY) == BODY_TEXT
    assert str(BODY) == BODY_TEXT


def test_a_kernel_as_text() -> None:
    assert print_group(GROUP) == GROUP_TEXT
    assert str(GROUP) == GROUP_TEXT


def test_a_module_as_text() -> None:
    plan = UpdatePlan(
        (GroupPlan((TensorPlan("a", (1,), F32, F32, F32, decay=Decay(DecayKind.L1)),), skip=True),)
    )
    module = Module(plan, (GROUP,), (0,))
    head = "group 0 runs kernel 0: radam_no_clip_skip__f32_l1\n"
    assert print_module(module) == f"{print_plan(plan)}\n{head}\n{GROUP_TEXT}"
    assert str(module) == print_module(module)


@pytest.mark.parametrize(
    ("op", "text"),
    [
        (Op(OpKind.STORE_STEP, None, ("t",), None, "t"), "store_step %t"),
        (
            Op(OpKind.CONST, Value("c", DType.BOOL, Rate.GROUP), (), True),
            "%c: bool group = const true",
        ),
        (
            Op(OpKind.CONST, Value("c", F64, Rate.GROUP), (), float("-inf")),
            "%c: float64 group = const -inf",
        ),
        (
            Op(OpKind.CONST, Value("c", F64, Rate.GROUP), (), 0.1 + 0.2),
            "%c: float64 group = const 0.30000000000000004",
        ),
        (Op(OpKind.ADD, None, ()), "add"),
        (Op(OpKind.STORE, None, ()), "store None, "),
    ],
)
def test_operations_as_text(op: Op, text: str) -> None:
    assert format_op(op) == text


@pytest.mark.parametrize("name", HOSTILE_NAMES)
def test_no_name_breaks_a_line(name: str) -> None:
    tensor = replace(PLAN.groups[0].tensors[0], name=name)
    plan = UpdatePlan((replace(PLAN.groups[0], tensors=(tensor,)),))
    plain = str(UpdatePlan((replace(plan.groups[0], tensors=(replace(tensor, name="w"),)),)))
    assert str(plan) == plain.replace('"w"', quote(name))
    assert len(str(plan).splitlines()) == len(plain.splitlines())
    assert str(plan).isascii()


def test_long_plans_are_printed_whole() -> None:
    tensors = tuple(TensorPlan(f"w{index}", (index,), F32, F32, F32) for index in range(3000))
    text = str(UpdatePlan((GroupPlan(tensors),)))
    assert all(f'"w{index}"\n' in text for index in range(3000))


@given(update_plans())
@settings(deadline=None, max_examples=30)
def test_every_operation_is_printed_once_and_always_alike(plan: UpdatePlan) -> None:
    for module in (build_module(plan), lower_plan(plan)):
        text = str(module)
        assert text == str(replace(module))
        lines = [line.split("  //")[0].strip() for line in text.splitlines()]
        for kernel in module.kernels:
            for body in kernel.bodies:
                assert all(format_op(op) in lines for op in body.ops)
        assert all(line == line.rstrip() for line in text.splitlines())
