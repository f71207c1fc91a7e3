"""Random trainings in static programs follow the float64 reference."""

from __future__ import annotations

from typing import Any

import numpy as np
import paddle
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from support.agreement import wide
from support.random_training import (
    RATES,
    Follower,
    Group,
    Param,
    Training,
    attributes,
    make_optimizer,
    trainings,
)
from support.static_programs import fed_loss

from radam_codegen.ir.dtypes import DType
from radam_codegen.ir.plan import Clip, Decay

pytestmark = pytest.mark.usefixtures("static_mode")


class Program:
    """A training as a program; gradients are fed, directly or as factors of a loss."""

    def __init__(self, training: Training, by_name: bool, through_loss: bool) -> None:
        self.training = training
        self.main, self.startup = paddle.static.Program(), paddle.static.Program()
        self.scope = paddle.static.Scope()
        self.executor = paddle.static.Executor(paddle.CPUPlace())
        self.rate = RATES[training.rate]()
        with (
            paddle.static.program_guard(self.main, self.startup),
            paddle.utils.unique_name.guard(),
        ):
            params = {param.name: _create(param) for param in training.params}
            fed = {
                param.name: paddle.static.data(
                    f"fed_{param.name}", list(param.shape), param.dtype.value
                )
                for param in training.params
                if param.trainable
            }
            given_params = {name: name for name in params} if by_name else params
            self.optimizer = make_optimizer(training, given_params, self.rate)
            if training.skipped is not None:
                found_inf = paddle.static.data("found_inf", [1], "bool")
                self.optimizer._set_auxiliary_var("found_inf", found_inf)
            if through_loss:
                self.optimizer.minimize(fed_loss([(params[name], fed[name]) for name in fed]))
            else:
                self.optimizer.apply_gradients([(params[name], fed[name]) for name in fed])

    def start(self) -> None:
        self.executor.run(self.startup, scope=self.scope)
        masters = self.optimizer._master_weights
        for param, value in zip(self.training.params, self.training.start()):
            self._write(param.name, value)
            if param.name in masters:
                self._write(masters[param.name].name, wide(value).astype("float32"))

    def _write(self, name: str, value: Any) -> None:
        self.scope.find_var(name).get_tensor().set(value, paddle.CPUPlace())

    def step(self, number: int) -> None:
        feed: dict[str, Any] = {
            f"fed_{name}": grad for name, grad in self.training.gradients(number).items()
        }
        if self.training.skipped is not None:
            feed["found_inf"] = np.array([self.training.skipped[number - 1]])
        self.executor.run(self.main, feed=feed, scope=self.scope)

    def read(self, name: str) -> Any:
        return np.array(self.scope.find_var(name).get_tensor())

    def rate_now(self) -> float:
        """The learning rate as the program has it: as exact as the parameters."""
        rate = self.rate if isinstance(self.rate, float) else self.rate()
        exact = any(param.dtype is DType.FLOAT64 for param in self.training.params)
        return float(rate) if exact else float(np.float32(rate))

    def masters(self) -> dict[str, Any]:
        weights = self.optimizer._master_weights
        return {name: self.read(weights[name].name) for name in weights}

    def steps(self) -> dict[str, int]:
        return {
            tensor.name: int(count)
            for index, group in enumerate(self.optimizer.plan.groups)
            for tensor, count in zip(group.tensors, self.read(f"radam_step_{index}"))
        }


def _create(param: Param) -> Any:
    attr = paddle.ParamAttr(
        name=param.name, initializer=paddle.nn.initializer.Constant(0.5), **attributes(param)
    )
    return paddle.create_parameter(list(param.shape), param.dtype.value, attr=attr)


def follow(program: Program) -> None:
    """Run a program and the reference, and compare after every step."""
    program.start()
    follower = Follower(program.training)
    for number in range(1, program.training.steps + 1):
        program.step(number)
        follower.step(number, program.rate_now())
        values = {param.name: program.read(param.name) for param in program.training.params}
        follower.compare(number, values, program.masters(), program.steps())
        if not isinstance(program.rate, float):
            program.rate.step()


@settings(
    max_examples=110,
    deadline=None,
    derandomize=True,
    print_blob=True,
    suppress_health_check=list(HealthCheck),
)
@given(trainings(static=True), st.booleans(), st.booleans())
def test_static_programs_follow_the_reference(
    training: Training, by_name: bool, through_loss: bool
) -> None:
    halves = {param.dtype for param in training.params} & {DType.BFLOAT16, DType.FLOAT16}
    # There is hardly any operator for halves on a CPU.
    follow(Program(training, by_name, through_loss and not halves))


@pytest.mark.parametrize("rate", ["0.02", "piecewise"])
def test_gradients_without_a_loss_beside_any_schedule(rate: str) -> None:
    # Paddle takes the learning rate's type from the loss.
    params = (Param("narrow", (3,), DType.FLOAT32), Param("wide", (3,), DType.FLOAT64))
    training = Training(
        groups=(Group(params, {}),),
        grouped=False,
        beta1=0.9,
        beta2=0.999,
        epsilon=1e-8,
        decay=Decay(),
        clip=Clip(),
        decay_form="number",
        multi_precision=False,
        decoupled=False,
        skipped=None,
        rate=rate,
        steps=8,
        missing=frozenset(),
        seed=1,
    )
    follow(Program(training, by_name=False, through_loss=False))
    follow(Program(training, by_name=False, through_loss=True))
