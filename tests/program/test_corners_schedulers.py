"""Every scheduler that Paddle has drives our learning rate as it drives the native one's."""

from __future__ import annotations

import inspect
import math
from collections.abc import Callable, Iterator
from typing import Any

import numpy as np
import paddle
import pytest
from paddle.optimizer import lr
from support.small_programs import SmallProgram, parameter

import radam_codegen as rc

STEPS = 10
X = np.array([1.0, 2.0, 3.0], "float32")


class Halving(lr.LRScheduler):  # type: ignore[misc]
    """A user's own scheduler."""

    def get_lr(self) -> float:
        return float(self.base_lr * 0.5**self.last_epoch)


SCHEDULERS: dict[str, Callable[[], Any]] = {
    "LRScheduler": lambda: Halving(0.1),
    "NoamDecay": lambda: lr.NoamDecay(d_model=16, warmup_steps=4),
    "PiecewiseDecay": lambda: lr.PiecewiseDecay([2, 5], [0.1, 0.05, 0.01]),
    "NaturalExpDecay": lambda: lr.NaturalExpDecay(0.1, 0.3),
    "InverseTimeDecay": lambda: lr.InverseTimeDecay(0.1, 0.3),
    "PolynomialDecay": lambda: lr.PolynomialDecay(0.1, 4, end_lr=0.01, cycle=True),
    "LinearWarmup": lambda: lr.LinearWarmup(lr.StepDecay(0.1, 2), 3, 0.0, 0.1),
    "ExponentialDecay": lambda: lr.ExponentialDecay(0.1, 0.8),
    "MultiStepDecay": lambda: lr.MultiStepDecay(0.1, [2, 5]),
    "StepDecay": lambda: lr.StepDecay(0.1, 3, 0.5),
    "LambdaDecay": lambda: lr.LambdaDecay(0.1, lambda step: 1 / math.sqrt(1 + step)),
    "ReduceOnPlateau": lambda: lr.ReduceOnPlateau(0.1, factor=0.5, patience=1),
    "CosineAnnealingDecay": lambda: lr.CosineAnnealingDecay(0.1, 6),
    "MultiplicativeDecay": lambda: lr.MultiplicativeDecay(0.1, lambda step: 0.9),
    "OneCycleLR": lambda: lr.OneCycleLR(0.1, STEPS + 2),
    "CyclicLR": lambda: lr.CyclicLR(0.01, 0.1, 3),
    "LinearLR": lambda: lr.LinearLR(0.1, 5),
    "CosineAnnealingWarmRestarts": lambda: lr.CosineAnnealingWarmRestarts(0.1, 3),
}


@pytest.fixture
def own_names() -> Iterator[None]:
    with paddle.utils.unique_name.guard():
        yield


def test_all_of_them_are_here() -> None:
    classes = {
        name
        for name, each in vars(lr).items()
        if inspect.isclass(each) and issubclass(each, lr.LRScheduler)
    }
    assert classes == set(SCHEDULERS)


def advance(scheduler: Any, step: int) -> None:
    if isinstance(scheduler, lr.ReduceOnPlateau):
        scheduler.step(1.0 if step < 2 else 2.0)  # no better after the second step
    else:
        scheduler.step()


@pytest.mark.usefixtures("static_mode")
@pytest.mark.parametrize("name", SCHEDULERS)
def test_in_a_static_program(name: str) -> None:
    def built(optimizer: Any) -> tuple[Any, SmallProgram]:
        scheduler = SCHEDULERS[name]()

        def build() -> None:
            x = paddle.static.data("x", [3], "float32")
            optimizer(scheduler).minimize(paddle.mean(x * parameter("weight") ** 2))

        return scheduler, SmallProgram(build).start()

    pairs = [built(rc.RAdam), built(paddle.optimizer.RAdam)]
    rates = set()
    for step in range(STEPS):
        for scheduler, program in pairs:
            program.run(x=X)
            advance(scheduler, step)
        (ours, native), (our_rate, native_rate) = (
            [program.read("weight") for _, program in pairs],
            [scheduler() for scheduler, _ in pairs],
        )
        np.testing.assert_allclose(ours, native, 2e-5, 2e-6, err_msg=f"step {step}")
        assert our_rate == native_rate
        rates.add(our_rate)
    assert len(rates) > 1


@pytest.mark.usefixtures("own_names")
@pytest.mark.parametrize("name", SCHEDULERS)
def test_in_dynamic_graph(name: str) -> None:
    pairs = []
    for optimizer in (rc.RAdam, paddle.optimizer.RAdam):
        scheduler, weight = SCHEDULERS[name](), parameter(f"weight_{len(pairs)}")
        pairs.append((scheduler, weight, optimizer(scheduler, parameters=[weight])))
    for step in range(STEPS):
        for scheduler, weight, optimizer in pairs:
            paddle.mean(paddle.to_tensor(X) * weight**2).backward()
            optimizer.step()
            optimizer.clear_grad()
            advance(scheduler, step)
        (_, ours, our_optimizer), (_, native, native_optimizer) = pairs
        np.testing.assert_allclose(ours.numpy(), native.numpy(), 2e-5, 2e-6, err_msg=f"{step}")
        assert our_optimizer.get_lr() == native_optimizer.get_lr()


def rates_and_values(optimizer_class: Any, name: str) -> list[float]:
    """What a run gives that changes its learning rate in every way there is."""
    weight = parameter(name)
    optimizer = optimizer_class(0.1, parameters=[weight])
    values: list[float] = []

    def step() -> None:
        paddle.mean(paddle.to_tensor(X) * weight**2).backward()
        optimizer.step()
        optimizer.clear_grad()
        values.extend([optimizer.get_lr(), *weight.tolist()])

    step()
    optimizer.set_lr(0.5)
    step()
    scheduler = lr.StepDecay(0.2, 1, 0.5)
    optimizer.set_lr_scheduler(scheduler)
    step()
    scheduler.step()
    step()
    with pytest.raises(RuntimeError, match="can't be LRScheduler"):
        optimizer.set_lr(0.1)
    with pytest.raises(TypeError, match="LRScheduler"):
        optimizer.set_lr_scheduler(0.1)
    return values


@pytest.mark.usefixtures("own_names")
def test_set_lr_and_set_lr_scheduler_as_native() -> None:
    ours = rates_and_values(rc.RAdam, "ours")
    native = rates_and_values(paddle.optimizer.RAdam, "native")
    np.testing.assert_allclose(ours, native, 2e-5, 2e-6)
