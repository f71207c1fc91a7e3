"""Each rule of the verifier, broken once."""

from __future__ import annotations

import re
from dataclasses import replace
from typing import Any

import pytest
from hypothesis import given, settings
from support.plans import update_plans

from radam_codegen.errors import VerifyError
from radam_codegen.ir.build import build_group, build_module
from radam_codegen.ir.dtypes import DType, Rate
from radam_codegen.ir.group import Body, GroupIR
from radam_codegen.ir.ops import Op, OpKind, Value
from radam_codegen.ir.plan import (
    ClipKind,
    DecayKind,
    GroupPlan,
    KernelStructure,
    TensorClass,
    TensorPlan,
    UpdatePlan,
)
from radam_codegen.ir.verify import verify
from radam_codegen.passes.pipeline import lower_plan, stages

F64, F32, BF16, F16 = DType.FLOAT64, DType.FLOAT32, DType.BFLOAT16, DType.FLOAT16
INT64, BOOL = DType.INT64, DType.BOOL
GROUP, STEP, TENSOR, ELEMENT = Rate.GROUP, Rate.STEP, Rate.TENSOR, Rate.ELEMENT

CLASS = TensorClass(F32, F32, F32, False, DecayKind.NONE)
HALF = TensorClass(BF16, BF16, F32, True, DecayKind.NONE)


def op(
    kind: OpKind,
    name: str,
    dtype: DType = F32,
    rate: Rate = ELEMENT,
    *operands: str,
    attr: Any = None,
    comment: str = "",
) -> Op:
    return Op(kind, Value(name, dtype, rate), operands, attr, comment)


def store(slot: str, value: str) -> Op:
    return Op(OpKind.STORE, None, (value,), slot)


GRAD = op(OpKind.LOAD, "grad", attr="grad")
PARAM = op(OpKind.LOAD, "param", attr="param")
ONE = op(OpKind.CONST, "one", F32, GROUP, attr=1.0)
COUNT = op(OpKind.STEP, "step", INT64, STEP)
FLAG = op(OpKind.TENSOR_NUMBER, "need_clip", BOOL, TENSOR, attr="need_clip")
LR = op(OpKind.NUMBER, "lr", F64, GROUP, attr="lr")
SCALE = op(OpKind.TENSOR_NUMBER, "lr_scale", F64, TENSOR, attr="lr_scale")
WIDE = op(OpKind.CAST, "wide", F64, ELEMENT, "grad")
SUM = op(OpKind.SUM_TENSOR, "total", F64, TENSOR, "wide")
GROUP_SUM = op(OpKind.SUM_GROUP, "all_total", F64, GROUP, "total")


def kernel(
    *each: Op,
    reduce: tuple[Op, ...] = (),
    scalar: tuple[Op, ...] = (),
    split: bool = False,
    clip: ClipKind = ClipKind.GLOBAL_NORM,
    tensor_class: TensorClass = CLASS,
) -> GroupIR:
    structure = KernelStructure(clip, False, (tensor_class,))
    return GroupIR(structure, split, (Body(tensor_class, reduce, scalar, each),))


def broken(ir: GroupIR) -> str:
    with pytest.raises(VerifyError) as caught:
        verify(ir, after="some_pass")
    text = str(caught.value)
    assert text.startswith(f"after pass 'some_pass': kernel {ir.structure.name}: ")
    return text


@given(update_plans())
@settings(deadline=None, max_examples=30)
def test_every_stage_of_random_plans_passes(plan: UpdatePlan) -> None:
    for name, module in stages(plan):
        verify(module, after=name)


def test_what_is_legal_passes() -> None:
    verify(
        kernel(
            GRAD,
            ONE,
            COUNT,
            op(OpKind.ADD, "sum", F32, ELEMENT, "grad", "one"),
            op(OpKind.GT, "positive", BOOL, ELEMENT, "sum", "one"),
            op(OpKind.SELECT, "chosen", F32, ELEMENT, "positive", "one", "grad"),
            op(OpKind.FMA, "fused", F32, ELEMENT, "grad", "one", "chosen"),
            op(OpKind.ONE_MINUS_POW, "bias_correction", F32, STEP, "one", "step"),
            op(OpKind.SMA_LENGTH, "length", F32, STEP, "one", "step"),
            WIDE,
            SUM,
            GROUP_SUM,
            op(OpKind.CONST, "infinity", F64, GROUP, attr=float("inf")),
            store("clipped_grad", "fused"),
            op(OpKind.LOAD, "again", attr="clipped_grad"),
            store("moment1", "again"),
            store("param", "one"),
        )
    )


SINGLE: list[tuple[str, tuple[Op, ...], str]] = [
    # Definitions.
    ("undefined", (op(OpKind.NEG, "x", F32, ELEMENT, "y"),), "operand 'y' is not defined before"),
    ("itself", (op(OpKind.NEG, "x", F32, ELEMENT, "x"),), "operand 'x' is not defined before"),
    ("later", (op(OpKind.NEG, "x", F32, ELEMENT, "grad"), GRAD), "'grad' is not defined before"),
    ("twice", (GRAD, GRAD), "'grad' is defined a second time"),
    ("name", (op(OpKind.LOAD, "x; int", attr="grad"),), "is no lower-case identifier"),
    ("empty name", (op(OpKind.LOAD, "", attr="grad"),), "is no lower-case identifier"),
    ("newline", (op(OpKind.LOAD, "grad\n", attr="grad"),), "is no lower-case identifier"),
    # The table of signatures.
    ("too few", (GRAD, op(OpKind.ADD, "x", F32, ELEMENT, "grad")), "takes 2 operands, but has 1"),
    ("too many", (GRAD, op(OpKind.LOAD, "x", F32, ELEMENT, "grad", attr="grad")), "takes 0"),
    ("no result", (GRAD, Op(OpKind.NEG, None, ("grad",))), "must define a value"),
    (
        "a result",
        (GRAD, op(OpKind.STORE, "x", F32, ELEMENT, "grad", attr="param")),
        "cannot define",
    ),
    ("unknown slot", (op(OpKind.LOAD, "x", attr="rho"),), "attribute must be one of param, grad"),
    ("unknown number", (replace(LR, attr="beta3"),), "attribute must be one of lr, beta1"),
    ("missing attr", (op(OpKind.LOAD, "x"),), "attribute must be one of param"),
    ("needless attr", (GRAD, op(OpKind.NEG, "x", F32, ELEMENT, "grad", attr=1)), "no attribute"),
    ("comment", (replace(GRAD, comment="a\nb"),), "one printable line"),
    ("comment end", (replace(GRAD, comment="a */ b"),), "without '*/'"),
    ("backslash", (replace(GRAD, comment="a \\"),), "must not end in a backslash"),
    # Constants.
    ("int as float", (replace(ONE, attr=1),), "1 is no constant of type float32"),
    ("no constant", (replace(ONE, attr=None),), "None is no constant of type float32"),
    ("nan", (replace(ONE, attr=float("nan")),), "nan is no constant of type float32"),
    ("bool as int", (op(OpKind.CONST, "n", INT64, GROUP, attr=True),), "True is no constant"),
    ("large int", (op(OpKind.CONST, "n", INT64, GROUP, attr=2**63),), "is no constant of type int"),
    ("int as bool", (op(OpKind.CONST, "n", BOOL, GROUP, attr=1),), "1 is no constant of type bool"),
    # Types.
    (
        "mixed",
        (GRAD, LR, op(OpKind.MUL, "x", F32, ELEMENT, "grad", "lr")),
        "operands must have one type, but 'grad' is float32, 'lr' is float64",
    ),
    ("result type", (GRAD, op(OpKind.NEG, "x", F64, ELEMENT, "grad")), "must define a float32"),
    ("number type", (replace(LR, result=Value("lr", F32, GROUP)),), "must define a float64"),
    ("flag type", (replace(FLAG, result=Value("f", F64, TENSOR)),), "must define a bool"),
    ("step type", (op(OpKind.STEP, "step", F64, STEP),), "must define a int64"),
    ("compare", (GRAD, op(OpKind.GT, "x", F32, ELEMENT, "grad", "grad")), "must define a bool"),
    ("bool math", (FLAG, op(OpKind.NEG, "x", BOOL, TENSOR, "need_clip")), "cannot compute with"),
    ("int root", (COUNT, op(OpKind.SQRT, "x", INT64, STEP, "step")), "cannot compute with int64"),
    ("int div", (COUNT, op(OpKind.DIV, "x", INT64, STEP, "step", "step")), "cannot compute with"),
    (
        "fma types",
        (GRAD, LR, op(OpKind.FMA, "x", F32, ELEMENT, "grad", "grad", "lr")),
        "operands must have one type",
    ),
    (
        "condition",
        (GRAD, op(OpKind.SELECT, "x", F32, ELEMENT, "grad", "grad", "grad")),
        "the condition 'grad' is float32, not bool",
    ),
    (
        "choices",
        (GRAD, FLAG, LR, op(OpKind.SELECT, "x", F32, ELEMENT, "need_clip", "grad", "lr")),
        "operands must have one type",
    ),
    (
        "step count",
        (ONE, op(OpKind.ONE_MINUS_POW, "x", F32, GROUP, "one", "one")),
        "wants a float32 or float64 and an int64, not float32 and float32",
    ),
    (
        "int beta",
        (COUNT, op(OpKind.SMA_LENGTH, "x", INT64, STEP, "step", "step")),
        "wants a float32 or float64 and an int64",
    ),
    ("to int", (GRAD, op(OpKind.CAST, "x", INT64, ELEMENT, "grad")), "cannot convert float32 to"),
    ("from bool", (FLAG, op(OpKind.CAST, "x", F32, TENSOR, "need_clip")), "cannot convert bool"),
    ("sum type", (GRAD, op(OpKind.SUM_TENSOR, "x", F64, TENSOR, "grad")), "sums are in float64"),
    ("sum result", (GRAD, WIDE, op(OpKind.SUM_TENSOR, "x", F32, TENSOR, "wide")), "a float64"),
    ("step store type", (ONE, Op(OpKind.STORE_STEP, None, ("one",))), "step counts are int64"),
    # Rates.
    ("rate too low", (GRAD, op(OpKind.NEG, "x", F32, TENSOR, "grad")), "must have rate element"),
    ("rate too high", (ONE, op(OpKind.NEG, "x", F32, ELEMENT, "one")), "must have rate group"),
    ("rate of load", (op(OpKind.LOAD, "x", F32, TENSOR, attr="grad"),), "must have rate element"),
    ("rate of const", (op(OpKind.CONST, "x", F32, STEP, attr=1.0),), "must have rate group"),
    ("rate of step", (op(OpKind.STEP, "x", INT64, GROUP),), "must have rate step"),
    ("rate of tensor", (op(OpKind.TENSOR_NUMBER, "x", F64, GROUP, attr="decay"),), "rate tensor"),
    (
        "rate of mix",
        (LR, SCALE, op(OpKind.MUL, "x", F64, GROUP, "lr", "lr_scale")),
        "has rate group, but must have rate tensor",
    ),
    ("sum of scalar", (LR, op(OpKind.SUM_TENSOR, "x", F64, TENSOR, "lr")), "of rate element, but"),
    ("sum rate", (GRAD, WIDE, op(OpKind.SUM_TENSOR, "x", F64, GROUP, "wide")), "have rate tensor"),
    (
        "group sum of elements",
        (GRAD, WIDE, op(OpKind.SUM_GROUP, "x", F64, GROUP, "wide")),
        "sums values of rate tensor, but 'wide' has rate element",
    ),
    ("group sum rate", (SCALE, op(OpKind.SUM_GROUP, "x", F64, TENSOR, "lr_scale")), "rate group"),
    # Slots.
    ("load type", (op(OpKind.LOAD, "x", F64, attr="grad"),), "slot grad holds float32, but 'x' is"),
    ("store type", (LR, store("param", "lr")), "slot param holds float32, but 'lr' is float64"),
    ("no master", (op(OpKind.LOAD, "x", attr="master"),), "this body has no master weight"),
    ("grad store", (GRAD, store("grad", "grad")), "gradients are only read"),
    (
        "stored twice",
        (GRAD, store("param", "grad"), store("param", "grad")),
        "stored a second time",
    ),
    ("temporary", (op(OpKind.LOAD, "x", attr="clipped_grad"),), "loaded before anything is stored"),
    ("overwritten", (GRAD, store("param", "grad"), PARAM), "loaded after it was overwritten"),
    (
        "step twice",
        (COUNT, *(Op(OpKind.STORE_STEP, None, ("step",)),) * 2),
        "the step count is stored a second time",
    ),
]


@pytest.mark.parametrize(
    ("ops", "message"), [each[1:] for each in SINGLE], ids=[e[0] for e in SINGLE]
)
def test_a_broken_rule_is_named_with_its_operation(ops: tuple[Op, ...], message: str) -> None:
    text = broken(kernel(*ops))
    assert message in text
    assert ": body f32_no_decay: each op " in text


def test_the_message_shows_the_operation() -> None:
    text = broken(kernel(GRAD, op(OpKind.NEG, "x", F32, TENSOR, "grad")))
    assert text == (
        "after pass 'some_pass': kernel radam_clip_global_norm__f32_no_decay: body f32_no_decay: "
        "each op 1 '%x: float32 tensor = neg(%grad)': has rate tensor, but must have rate element"
    )


def test_arithmetic_is_not_done_in_half_types() -> None:
    for half in (BF16, F16):
        tensor_class = replace(HALF, param_dtype=half, grad_dtype=half)
        load = op(OpKind.LOAD, "x", half, attr="grad")
        double = op(OpKind.ADD, "y", half, ELEMENT, "x", "x")
        assert f"cannot compute with {half}" in broken(
            kernel(load, double, tensor_class=tensor_class)
        )
        wide = op(OpKind.CAST, "z", F32, ELEMENT, "x")
        verify(kernel(load, wide, store("master", "z"), tensor_class=tensor_class))


# After the split.

NORM = (GRAD, WIDE, SUM)


def test_a_split_kernel_passes() -> None:
    verify(
        kernel(
            op(OpKind.LOAD, "grad_again", attr="grad"),
            ONE,
            op(OpKind.MUL, "x", F32, ELEMENT, "grad_again", "one"),
            store("param", "x"),
            reduce=NORM,
            scalar=(COUNT, GROUP_SUM, Op(OpKind.STORE_STEP, None, ("step",))),
            split=True,
        )
    )


SPLIT: list[tuple[str, dict[str, tuple[Op, ...]], str]] = [
    ("element in scalar", {"scalar": (GRAD,)}, "scalar op 0 '%grad: float32 element = load grad'"),
    ("sum in scalar", {"reduce": (GRAD, WIDE), "scalar": (SUM,)}, "'wide' has rate element and"),
    ("store in scalar", {"scalar": (ONE, store("param", "one"))}, "belong into phase 'scalar'"),
    ("step in each", {"each": (COUNT,)}, "does not belong into phase 'each'"),
    ("number in each", {"each": (LR,)}, "does not belong into phase 'each'"),
    ("step in reduce", {"reduce": (COUNT,)}, "does not belong into phase 'reduce'"),
    ("store in reduce", {"reduce": (GRAD, store("param", "grad"))}, "belong into phase 'reduce'"),
    ("group sum in reduce", {"reduce": (*NORM, GROUP_SUM)}, "belong into phase 'reduce'"),
    (
        "element crosses",
        {"reduce": NORM, "each": (store("param", "grad"),)},
        "operand 'grad' has rate element and cannot cross from phase 'reduce' to 'each'",
    ),
    (
        "number leaves reduce",
        {"reduce": (LR, *NORM), "scalar": (op(OpKind.NEG, "x", F64, GROUP, "lr"),)},
        "operand 'lr' of phase 'reduce' is no sum and cannot leave that phase",
    ),
    (
        "name in two phases",
        {"reduce": NORM, "each": (GRAD,)},
        "'grad' is defined a second time",
    ),
    (
        "two sums",
        {"reduce": (*NORM, op(OpKind.SUM_TENSOR, "more", F64, TENSOR, "wide"))},
        "can sum only one value per tensor",
    ),
]


@pytest.mark.parametrize(("phases", "message"), [e[1:] for e in SPLIT], ids=[e[0] for e in SPLIT])
def test_phases_hold_what_they_may(phases: dict[str, tuple[Op, ...]], message: str) -> None:
    each = phases.get("each", ())
    reduce, scalar = phases.get("reduce", ()), phases.get("scalar", ())
    assert message in broken(kernel(*each, reduce=reduce, scalar=scalar, split=True))


@pytest.mark.parametrize("phase", ["reduce", "scalar"])
def test_phases_are_empty_before_the_split(phase: str) -> None:
    assert "must be empty before the split" in broken(kernel(**{phase: (ONE,)}))


@pytest.mark.parametrize("clip", [ClipKind.NONE, ClipKind.VALUE])
def test_no_reduction_without_a_norm(clip: ClipKind) -> None:
    text = broken(kernel(reduce=NORM, split=True, clip=clip))
    assert f"phase 'reduce' must be empty, as clip {clip} needs no norm" in text


# Bodies and kernels.

PAIR = KernelStructure(ClipKind.GLOBAL_NORM, False, tuple(sorted((CLASS, HALF))))


def test_bodies_stand_in_the_order_of_the_classes() -> None:
    ir = build_group(PAIR)
    assert "in this order" in broken(replace(ir, bodies=ir.bodies[::-1]))
    assert "the bodies are" in broken(replace(ir, bodies=ir.bodies[:1]))
    assert "the bodies are nothing" in broken(replace(ir, bodies=()))


def test_bodies_have_the_same_sums_over_the_group() -> None:
    first = Body(
        PAIR.classes[0], (), (), (SCALE, op(OpKind.SUM_GROUP, "s", F64, GROUP, "lr_scale"))
    )
    second = Body(PAIR.classes[1], (), (), (SCALE,))
    text = broken(GroupIR(PAIR, False, (first, second)))
    assert "body f32_no_decay sums nothing over the group" in text
    assert "but body bf16_master_no_decay sums s" in text


@pytest.mark.parametrize("attr", [2.0, -0.0])
def test_scalars_are_the_same_in_all_bodies(attr: float) -> None:
    zero = replace(ONE, attr=0.0)
    first = Body(PAIR.classes[0], (), (zero,), ())
    second = Body(PAIR.classes[1], (), (replace(zero, attr=attr),), ())
    text = broken(GroupIR(PAIR, True, (first, second)))
    assert "'one' has rate group, but differs between bodies" in text
    # Comments and values of a tensor's own may differ.
    other = (replace(zero, comment="nothing"), replace(SCALE, result=Value("n", F64, TENSOR)))
    first = Body(PAIR.classes[0], (), (*first.scalar, op(OpKind.NEG, "n", F32, GROUP, "one")), ())
    verify(GroupIR(PAIR, True, (replace(first, scalar=(zero,)), replace(second, scalar=other))))


def module_of_two() -> Any:
    first = GroupPlan((TensorPlan("a", (2,), F32, F32, F32),))
    second = GroupPlan((TensorPlan("b", (2,), F64, F64, F64),))
    return build_module(UpdatePlan((first, second)))


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"kernel_of": (0,)}, "2 groups, but kernels for 1 of them"),
        ({"kernel_of": (0, 2)}, "group 1 runs kernel 2, which does not exist"),
        ({"kernel_of": (0, -1)}, "group 1 runs kernel -1, which does not exist"),
        (
            {"kernel_of": (0, 0)},
            "group 1 runs a kernel of another structure: it needs radam_no_clip",
        ),
    ],
)
def test_groups_have_their_kernels(change: dict[str, Any], message: str) -> None:
    module = module_of_two()
    verify(module)
    with pytest.raises(VerifyError, match=re.escape(f"after pass 'share': {message}")):
        verify(replace(module, **change), after="share")


def test_no_kernel_is_left_over() -> None:
    module = module_of_two()
    spare = replace(module, kernels=(*module.kernels, module.kernels[0]))
    with pytest.raises(VerifyError, match=r"^no group runs kernel 2"):
        verify(spare)


def test_a_broken_kernel_of_a_module_is_named() -> None:
    module = lower_plan(module_of_two().plan)
    second = module.kernels[1]
    body = replace(second.bodies[0], each=second.bodies[0].each[1:])
    bad = replace(module, kernels=(module.kernels[0], replace(second, bodies=(body,))))
    with pytest.raises(
        VerifyError, match=r"^kernel 1 \(radam_no_clip__f64_no_decay\): body f64_no"
    ):
        verify(bad)
