"""Random trainings in dynamic graph follow the float64 reference."""

from __future__ import annotations

from typing import Any

import numpy as np
import paddle
from hypothesis import HealthCheck, given, seed, settings
from paddle.base.framework import EagerParamBase
from support.agreement import wide
from support.random_training import (
    RATES,
    Follower,
    Param,
    Training,
    attributes,
    make_optimizer,
    trainings,
)
from support.static_programs import IN_PIR


class Model:
    """A training's parameters, whose gradients are set."""

    def __init__(self, training: Training) -> None:
        self.training = training
        self.rate = RATES[training.rate]()
        self.params = {
            param.name: _create(param, value)
            for param, value in zip(training.params, training.start())
        }
        self.optimizer = make_optimizer(training, self.params, self.rate)

    def step(self, number: int) -> None:
        if self.training.skipped is not None:
            flag = paddle.to_tensor([self.training.skipped[number - 1]])
            self.optimizer._set_auxiliary_var("found_inf", flag)
        grads = self.training.gradients(number)
        for name, grad in grads.items():
            self.params[name].grad = _tensor(grad, self.params[name].dtype)
        self.optimizer.step()
        for name, grad in grads.items():
            np.testing.assert_array_equal(self.params[name].grad.numpy(), grad, err_msg=name)
        self.optimizer.clear_grad(set_to_zero=False)

    def rate_now(self) -> float:
        return float(self.rate if isinstance(self.rate, float) else self.rate())

    def masters(self) -> dict[str, Any]:
        weights = self.optimizer._master_weights
        return {name: weights[name].numpy() for name in weights}

    def steps(self) -> dict[str, int]:
        held = {name: self.optimizer._state.held(param) for name, param in self.params.items()}
        return {
            name: int(state.step.numpy()[state.index])
            for name, state in held.items()
            if state is not None
        }


def _tensor(value: Any, dtype: Any) -> Any:
    """A tensor; Paddle takes arrays of uint16 for bfloat16 where it is told so."""
    if dtype == paddle.bfloat16:
        return paddle.to_tensor(wide(value)).astype(dtype)
    return paddle.to_tensor(value)


def _create(param: Param, value: Any) -> Any:
    own = attributes(param)
    made = EagerParamBase.from_tensor(
        _tensor(value, getattr(paddle, param.dtype.value)), name=param.name
    )
    made.stop_gradient = not own.pop("trainable")
    made.need_clip = own["need_clip"]
    made.regularizer = own.get("regularizer")
    made.optimize_attr = {"learning_rate": own.get("learning_rate", 1.0)}
    return made


# Both processes that run this folder run it: each has trainings of its own.
@seed(int(IN_PIR))
@settings(
    max_examples=90,
    deadline=None,
    database=None,
    print_blob=True,
    suppress_health_check=list(HealthCheck),
)
@given(trainings(static=False))
def test_dynamic_graph_follows_the_reference(training: Training) -> None:
    model = Model(training)
    follower = Follower(training)
    for number in range(1, training.steps + 1):
        model.step(number)
        follower.step(number, model.rate_now())
        values = {name: param.numpy() for name, param in model.params.items()}
        follower.compare(number, values, model.masters(), model.steps())
        if not isinstance(model.rate, float):
            model.rate.step()
