"""Parameter groups in static programs, each with its own numbers."""

from __future__ import annotations

from typing import Any

import paddle
import pytest
from paddle.nn import ClipGradByGlobalNorm, ClipGradByValue
from paddle.regularizer import L1Decay
from support.static_programs import FedProgram, Tensor, random_gradients
from support.twin import assert_follows, expected_tensor

import radam_codegen as rc
from radam_codegen.ir.plan import Clip, ClipKind, Decay, DecayKind, GroupPlan

pytestmark = pytest.mark.usefixtures("static_mode")

LR = 0.05
STEPS = 12

TENSORS = (
    Tensor("a0", (33,)),
    Tensor("b0", (9,), options={"regularizer": L1Decay(0.2), "learning_rate": 0.5}),
    Tensor("a1", (5, 5), options={"regularizer": L1Decay(0.2), "learning_rate": 0.5}),
    Tensor("b1", (17,)),
    Tensor("c0", (7,), options={"need_clip": False}),
    Tensor("c1", (8,)),
)


def grouped(params: list[Any]) -> Any:
    a0, b0, a1, b1, c0, c1 = params
    groups = [
        {"params": [a0, a1]},
        {
            "params": [b0, b1],
            "learning_rate": 0.1,
            "weight_decay": 0.3,
            "beta1": 0.8,
            "beta2": 0.95,
            "epsilon": 1e-3,
            "grad_clip": ClipGradByValue(0.5),
        },
        {"params": [c0, c1], "weight_decay": L1Decay(0.02), "beta2": 0.9},
    ]
    return rc.RAdam(LR, parameters=groups, weight_decay=0.01, grad_clip=ClipGradByGlobalNorm(0.7))


def expected_groups() -> list[GroupPlan]:
    a0, b0, a1, b1, c0, c1 = TENSORS
    l2 = Decay(DecayKind.L2, 0.01)
    group_norm = Clip(ClipKind.GLOBAL_NORM, 0.7)
    b_decay = Decay(DecayKind.L2, 0.3)
    c_decay = Decay(DecayKind.L1, 0.02)
    return [
        GroupPlan(
            (
                expected_tensor(a0, decay=l2),
                expected_tensor(a1, decay=Decay(DecayKind.L1, 0.2), lr_scale=0.5),
            ),
            clip=group_norm,
        ),
        # What a group sets comes before its parameters' attributes.
        GroupPlan(
            tuple(expected_tensor(each, decay=b_decay, lr_scale=0.1) for each in (b0, b1)),
            0.8,
            0.95,
            1e-3,
            Clip(ClipKind.VALUE, 0.5, -0.5),
        ),
        GroupPlan(
            (
                expected_tensor(c0, decay=c_decay, need_clip=False),
                expected_tensor(c1, decay=c_decay),
            ),
            beta2=0.9,
            clip=group_norm,
        ),
    ]


def test_each_group_has_its_own_numbers_clip_and_decay() -> None:
    program = FedProgram(TENSORS, grouped)
    operations, _ = program.result
    assert len(operations) == 3
    assert_follows(program, expected_groups(), random_gradients(TENSORS, STEPS), LR)


def test_groups_given_by_name() -> None:
    def by_name(params: list[Any]) -> Any:
        return rc.RAdam(
            LR,
            parameters=[
                {"params": ["a0", "b0"], "beta1": 0.5},
                {"params": "c1", "weight_decay": 0.1},
            ],
        )

    program = FedProgram(TENSORS, by_name)
    tensors = {tensor.name: tensor for tensor in TENSORS}
    own = {"decay": Decay(DecayKind.L1, 0.2), "lr_scale": 0.5}
    groups = [
        GroupPlan((expected_tensor(tensors["a0"]), expected_tensor(tensors["b0"], **own)), 0.5),
        GroupPlan((expected_tensor(tensors["c1"], decay=Decay(DecayKind.L2, 0.1)),)),
    ]
    # Parameters in no group stay where they are: the twin has none of them either.
    assert_follows(program, groups, random_gradients(TENSORS, STEPS), LR)


def test_a_scheduler_drives_every_group() -> None:
    scheduler = paddle.optimizer.lr.PiecewiseDecay([3, 8], [0.05, 0.02, 0.1])

    def scheduled(params: list[Any]) -> Any:
        groups = [{"params": params[:2]}, {"params": params[2:], "learning_rate": 0.5}]
        return rc.RAdam(scheduler, parameters=groups)

    tensors = [Tensor(f"s{index}", (9,)) for index in range(4)]
    program = FedProgram(tensors, scheduled)
    groups = [
        GroupPlan(tuple(expected_tensor(each) for each in tensors[:2])),
        GroupPlan(tuple(expected_tensor(each, lr_scale=0.5) for each in tensors[2:])),
    ]
    rates = [0.05] * 3 + [0.02] * 5 + [0.1] * 4
    step = program.step

    def step_and_schedule(*arguments: Any) -> Any:
        results = step(*arguments)
        scheduler.step()
        return results

    program.step = step_and_schedule  # type: ignore[method-assign]
    assert_follows(program, groups, random_gradients(tensors, STEPS), rates)
