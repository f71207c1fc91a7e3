"""Plans that make no sense are refused, with the group and the parameter by name."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import pytest
from hypothesis import given
from support.plans import DTYPES, update_plans

from radam_codegen.errors import PlanError
from radam_codegen.ir.dtypes import DType
from radam_codegen.ir.plan import (
    Clip,
    ClipKind,
    Decay,
    DecayKind,
    GroupPlan,
    TensorPlan,
    UpdatePlan,
)
from radam_codegen.ir.plan_check import check_plan

NAN, INF = float("nan"), float("inf")
F64, F32, BF16, F16 = DType.FLOAT64, DType.FLOAT32, DType.BFLOAT16, DType.FLOAT16
WEIGHT = TensorPlan("w'\n", (2, 3), F32, F32, F32)
BIAS = TensorPlan("bias", (3,), F32, F32, F32)


@given(update_plans())
def test_random_valid_plans_pass(plan: UpdatePlan) -> None:
    check_plan(plan)


def test_no_group_is_fine() -> None:
    check_plan(UpdatePlan(()))


@pytest.mark.parametrize(("param", "grad", "moment", "master"), DTYPES)
def test_supported_dtypes_pass(param: DType, grad: DType, moment: DType, master: bool) -> None:
    check_plan(UpdatePlan((GroupPlan((TensorPlan("w", (), param, grad, moment, master),)),)))


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"beta1": 1.0}, "beta1 is 1.0"),
        ({"beta1": -0.1}, "beta1 is -0.1"),
        ({"beta1": NAN}, "beta1 is nan"),
        ({"beta2": 1.5}, "beta2 is 1.5"),
        ({"beta2": -1e-300}, "beta2 is -1e-300"),
        ({"epsilon": -1e-8}, "epsilon is -1e-08"),
        ({"epsilon": NAN}, "epsilon is nan"),
        ({"epsilon": INF}, "epsilon is inf"),
        ({"tensors": ()}, "has no parameters"),
        ({"clip": Clip(ClipKind.NORM, 0.0)}, "bound is 0.0, but must be positive"),
        ({"clip": Clip(ClipKind.GLOBAL_NORM, -1.0)}, "bound is -1.0, but must be positive"),
        ({"clip": Clip(ClipKind.GLOBAL_NORM, NAN)}, "bound is nan, but must be finite"),
        ({"clip": Clip(ClipKind.NORM, INF)}, "bound is inf, but must be finite"),
        ({"clip": Clip(ClipKind.NORM, 1.0, -1.0)}, "only a clip by value has a lower bound"),
        ({"clip": Clip(ClipKind.VALUE, 1.0, 2.0)}, "lower bound 2.0 exceeds its bound 1.0"),
        ({"clip": Clip(ClipKind.VALUE, 1.0, NAN)}, "lower bound is nan"),
        ({"clip": Clip(ClipKind.VALUE, INF, 0.0)}, "bound is inf"),
        ({"clip": Clip(ClipKind.NONE, 1.0)}, "the clip has no kind but the bound 1.0"),
    ],
)
def test_bad_groups_are_named(change: dict[str, Any], message: str) -> None:
    bad = replace(GroupPlan((BIAS,)), **change)
    with pytest.raises(PlanError, match=f"^group 1: .*{message}"):
        check_plan(UpdatePlan((GroupPlan((WEIGHT,)), bad)))


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"shape": (2, -1)}, "negative extent -1"),
        ({"shape": (2**32, 2**31)}, "more elements than an int64"),
        ({"shape": (0, 2**64)}, "more elements than an int64"),
        ({"lr_scale": NAN}, "lr_scale is nan"),
        ({"lr_scale": -INF}, "lr_scale is -inf"),
        ({"decay": Decay(DecayKind.L2, NAN)}, "coefficient is nan"),
        ({"decay": Decay(DecayKind.L1, INF)}, "coefficient is inf"),
        ({"decay": Decay(DecayKind.L2, -0.1)}, "coefficient is -0.1"),
        ({"decay": Decay(DecayKind.NONE, 0.1)}, "the decay has no kind but the coefficient 0.1"),
        ({"param_dtype": DType.INT64}, "the dtype is int64, but must be one of float64, "),
        ({"param_dtype": DType.BOOL}, "the dtype is bool"),
        ({"grad_dtype": F64}, "float64, but must be float32 or that of the parameter"),
        ({"grad_dtype": BF16}, "gradient's dtype is bfloat16"),
        ({"moment_dtype": F64}, "moments' dtype is float64, but must be float32"),
        ({"moment_dtype": F16, "param_dtype": F16, "grad_dtype": F16}, "moments' dtype is float16"),
        ({"param_dtype": F64}, "moments' dtype is float32, but must be float64"),
        ({"param_dtype": BF16, "grad_dtype": F16}, "gradient's dtype is float16"),
        ({"master": True}, "a float32 parameter has no master weight"),
    ],
)
def test_bad_tensors_are_named(change: dict[str, Any], message: str) -> None:
    bad = replace(WEIGHT, **change)
    with pytest.raises(PlanError, match=message) as caught:
        check_plan(UpdatePlan((GroupPlan((BIAS, bad)),)))
    assert str(caught.value).startswith(r"""group 0, parameter "w'\n": """)


def test_a_parameter_without_name() -> None:
    with pytest.raises(PlanError, match="parameter '': has no name"):
        check_plan(UpdatePlan((GroupPlan((replace(BIAS, name=""),)),)))


def test_a_name_within_a_group() -> None:
    with pytest.raises(PlanError, match="group 0: parameter 'bias' is claimed twice in group 0"):
        check_plan(UpdatePlan((GroupPlan((BIAS, BIAS)),)))


def test_a_name_across_groups() -> None:
    plan = UpdatePlan((GroupPlan((BIAS,)), GroupPlan((WEIGHT,)), GroupPlan((BIAS,))))
    with pytest.raises(PlanError, match="group 2: parameter 'bias' is claimed by group 0 too"):
        check_plan(plan)
