"""Ours goes where PyTorch's RAdam goes, for 2,000 steps in float64, with both kinds of decay."""

from __future__ import annotations

import json
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import paddle
import pytest
from support.static_programs import FedProgram, Tensor
from support.torch_trajectory import (
    GROUPS,
    LEARNING_RATE,
    RECORDED,
    STEPS,
    VARIANTS,
    gradients,
    start,
)

import radam_codegen as rc

Array = np.ndarray[Any, np.dtype[Any]]
#: Takes gradients, and returns the parameters after a step by them.
Step = Callable[[Sequence[Array]], list[Array]]

FROZEN = json.loads(
    (Path(__file__).parent / "data" / "torch_trajectory.json").read_text(encoding="utf-8")
)


def groups(params: Sequence[Any]) -> list[dict[str, Any]]:
    rest = iter(params)
    return [
        {
            "params": [next(rest) for _ in group["shapes"]],
            **{option: value for option, value in group.items() if option != "shapes"},
        }
        for group in GROUPS
    ]


def optimizer(params: Sequence[Any], variant: str) -> Any:
    return rc.RAdam(
        LEARNING_RATE, parameters=groups(params), decoupled_weight_decay=VARIANTS[variant]
    )


def assert_follows_torch(variant: str, step: Step) -> None:
    frozen = FROZEN[variant]
    assert [int(number) for number in frozen] == list(RECORDED)
    params = start()
    for number in range(1, STEPS + 1):
        params = step(gradients(params, number))
        if number in RECORDED:
            np.testing.assert_allclose(
                np.concatenate([param.ravel() for param in params]),
                frozen[str(number)],
                rtol=0.0,
                atol=1e-9,
                err_msg=f"step {number}",
            )


@pytest.mark.parametrize("variant", VARIANTS)
def test_dynamic_graph(variant: str) -> None:
    params = [
        paddle.create_parameter(
            list(value.shape), "float64", default_initializer=paddle.nn.initializer.Assign(value)
        )
        for value in start()
    ]
    opt = optimizer(params, variant)

    def step(grads: Sequence[Array]) -> list[Array]:
        for param, grad in zip(params, grads):
            param.grad = paddle.to_tensor(grad)
        opt.step()
        return [param.numpy() for param in params]

    assert_follows_torch(variant, step)


@pytest.mark.usefixtures("static_mode")
@pytest.mark.parametrize("variant", VARIANTS)
def test_static_program(variant: str) -> None:
    tensors = [Tensor(f"p{index}", value.shape, "float64") for index, value in enumerate(start())]
    program = FedProgram(tensors, lambda params: optimizer(params, variant)).start(start())

    def step(grads: Sequence[Array]) -> list[Array]:
        program.step(grads)
        return program.values()

    assert_follows_torch(variant, step)


def test_the_two_kinds_of_decay_lead_to_different_places() -> None:
    apart = np.subtract(FROZEN["coupled"][str(STEPS)], FROZEN["decoupled"][str(STEPS)])
    assert np.abs(apart).max() > 1e-3
