"""Every kind of clip with every kind of decay, and what one parameter says against its group."""

from __future__ import annotations

import dataclasses
from collections.abc import Sequence
from typing import Any

import numpy as np
import paddle
import pytest
from paddle.nn import ClipGradByGlobalNorm, ClipGradByNorm, ClipGradByValue
from paddle.regularizer import L1Decay, L2Decay
from support.static_programs import FedProgram, Tensor, random_gradients
from support.twin import assert_follows, expected_tensor

import radam_codegen as rc
from radam_codegen.ir.plan import Clip, ClipKind, Decay, DecayKind, GroupPlan, TensorPlan

pytestmark = pytest.mark.usefixtures("static_mode")

LR = 0.05
STEPS = 9

CLIPS = {
    "no clip": (lambda: None, Clip()),
    "global norm": (lambda: ClipGradByGlobalNorm(0.7), Clip(ClipKind.GLOBAL_NORM, 0.7)),
    "norm": (lambda: ClipGradByNorm(0.3), Clip(ClipKind.NORM, 0.3)),
    "value": (lambda: ClipGradByValue(0.4, -0.2), Clip(ClipKind.VALUE, 0.4, -0.2)),
    "loose": (lambda: ClipGradByGlobalNorm(1e6), Clip(ClipKind.GLOBAL_NORM, 1e6)),
}
DECAYS = {
    "no decay": (lambda: None, Decay()),
    "float": (lambda: 0.05, Decay(DecayKind.L2, 0.05)),
    "L2": (lambda: L2Decay(0.05), Decay(DecayKind.L2, 0.05)),
    "L1": (lambda: L1Decay(0.05), Decay(DecayKind.L1, 0.05)),
}

#: A plain parameter, and one for everything that an attribute can say.
TENSORS = (
    Tensor("plain", (33,)),
    Tensor("exempt", (9,), options={"need_clip": False}),
    Tensor("slow", (17,), options={"learning_rate": 0.25}),
    Tensor("own_l1", (8,), options={"regularizer": L1Decay(0.2)}),
    Tensor("own_l2", (8,), options={"regularizer": L2Decay(0.3)}),
    Tensor("undecayed", (7,), options={"regularizer": L2Decay(0.0)}),
    Tensor("scalar", ()),
    Tensor("empty", (0,)),
    Tensor(
        "all", (5, 7), options={"need_clip": False, "learning_rate": 2, "regularizer": L1Decay(0.1)}
    ),
)


def expected(tensors: Sequence[Tensor], decay: Decay) -> tuple[TensorPlan, ...]:
    special: dict[str, dict[str, Any]] = {
        "exempt": {"need_clip": False},
        "slow": {"lr_scale": 0.25},
        "own_l1": {"decay": Decay(DecayKind.L1, 0.2)},
        "own_l2": {"decay": Decay(DecayKind.L2, 0.3)},
        "undecayed": {"decay": Decay()},
        "all": {"need_clip": False, "lr_scale": 2.0, "decay": Decay(DecayKind.L1, 0.1)},
    }
    return tuple(
        expected_tensor(each, **{"decay": decay, **special.get(each.name, {})}) for each in tensors
    )


@pytest.mark.parametrize("decay", DECAYS)
@pytest.mark.parametrize("clip", CLIPS)
def test_every_clip_with_every_decay(clip: str, decay: str) -> None:
    (make_clip, meant_clip), (make_decay, meant_decay) = CLIPS[clip], DECAYS[decay]
    program = FedProgram(
        TENSORS,
        lambda params: rc.RAdam(LR, weight_decay=make_decay(), grad_clip=make_clip()),
    )
    group = GroupPlan(expected(TENSORS, meant_decay), clip=meant_clip)
    assert_follows(program, [group], random_gradients(TENSORS, STEPS), LR)


@pytest.mark.parametrize("clip", ["global norm", "norm", "value"])
def test_float64_is_clipped_and_decayed_in_float64(clip: str) -> None:
    make_clip, meant = CLIPS[clip]
    tensors = [dataclasses.replace(each, dtype="float64") for each in TENSORS]
    program = FedProgram(
        tensors, lambda params: rc.RAdam(LR, weight_decay=0.05, grad_clip=make_clip())
    )
    group = GroupPlan(expected(tensors, Decay(DecayKind.L2, 0.05)), clip=meant)
    gradients = random_gradients(tensors, 60)
    assert_follows(program, [group], gradients, LR, rtol=0.0, atol=1e-9)


def test_a_norm_is_right_where_its_square_overflows_float32() -> None:
    tensors = [Tensor("huge", (64,)), Tensor("small", (3,))]
    clip = Clip(ClipKind.GLOBAL_NORM, 2.0)
    program = FedProgram(tensors, lambda params: rc.RAdam(LR, grad_clip=ClipGradByGlobalNorm(2.0)))
    group = GroupPlan(tuple(map(expected_tensor, tensors)), clip=clip)
    random = np.random.default_rng(0)
    gradients = [
        [
            (1e30 * random.standard_normal(64)).astype("float32"),
            random.standard_normal(3).astype("float32"),
        ]
        for _ in range(STEPS)
    ]
    assert_follows(program, [group], gradients, LR)


def test_a_clip_of_nothing_but_exempt_parameters() -> None:
    tensors = [Tensor(name, (9,), options={"need_clip": False}) for name in ("a", "b")]
    program = FedProgram(tensors, lambda params: rc.RAdam(LR, grad_clip=ClipGradByGlobalNorm(0.1)))
    plans = tuple(expected_tensor(each, need_clip=False) for each in tensors)
    group = GroupPlan(plans, clip=Clip(ClipKind.GLOBAL_NORM, 0.1))
    assert_follows(program, [group], random_gradients(tensors, STEPS), LR)


def test_a_norm_over_several_chunks_and_threads() -> None:
    tensors = [Tensor("a", (50_001,)), Tensor("b", (3,)), Tensor("c", (16_384,))]
    clip = Clip(ClipKind.GLOBAL_NORM, 1.0)
    program = FedProgram(tensors, lambda params: rc.RAdam(LR, grad_clip=ClipGradByGlobalNorm(1.0)))
    group = GroupPlan(tuple(map(expected_tensor, tensors)), clip=clip)
    assert_follows(program, [group], random_gradients(tensors, STEPS), LR)


def native_result(make_clip: Any, make_decay: Any, gradients: Any) -> list[Any]:
    with paddle.utils.unique_name.guard():
        native = FedProgram(
            TENSORS[:6],
            lambda params: paddle.optimizer.RAdam(
                LR, weight_decay=make_decay(), grad_clip=make_clip()
            ),
        ).start()
    for grads in gradients:
        native.step(grads)
    return native.values()


@pytest.mark.parametrize("decay", DECAYS)
@pytest.mark.parametrize("clip", ["no clip", "norm"])
def test_native_radam_goes_the_same_way(clip: str, decay: str) -> None:
    (make_clip, _), (make_decay, _) = CLIPS[clip], DECAYS[decay]
    tensors = TENSORS[:6]
    gradients = random_gradients(tensors, STEPS)
    ours = FedProgram(
        tensors, lambda params: rc.RAdam(LR, weight_decay=make_decay(), grad_clip=make_clip())
    ).start()
    for grads in gradients:
        ours.step(grads)
    native = native_result(make_clip, make_decay, gradients)
    for tensor, actual, value in zip(tensors, ours.values(), native):
        # Native's scalars are float32.
        np.testing.assert_allclose(actual, value, rtol=1e-5, atol=1e-6, err_msg=tensor.name)
