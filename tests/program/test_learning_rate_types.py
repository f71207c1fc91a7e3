"""The learning rate is never narrower than float32, and is the same number by every way."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import numpy as np
import paddle
import pytest
from paddle.optimizer import lr
from support.eager import Reference, set_gradients
from support.eager import parameter as eager_parameter
from support.small_programs import SmallProgram, parameter

import radam_codegen as rc

from .test_corners_schedulers import SCHEDULERS, advance

START = [1.0, -2.0, 0.5]
STEPS = 10
#: float16 has no such rate, nor one within 1e-3 of it.
SMALL_RATE = 3e-8


@pytest.fixture(params=["bfloat16", "float16", "float32", "float64"])
def default_dtype(request: pytest.FixtureRequest) -> Iterator[str]:
    before = paddle.get_default_dtype()
    paddle.set_default_dtype(request.param)
    yield request.param
    paddle.set_default_dtype(before)


def gradients(step: int) -> Any:
    return np.cos(np.arange(3.0) + step)


def program(rate: Any, *, dtype: str = "float32", loss_dtype: str = "float32") -> SmallProgram:
    """A program whose gradient of ``weight`` is ``grad``."""

    def build() -> Any:
        grad = paddle.static.data("grad", [3], dtype)
        weight = parameter("weight", dtype=dtype, value=0.0)
        # Three elements: the gradient of the mean is a third of what is summed up.
        loss = paddle.mean(grad * weight * 3.0).astype(loss_dtype)
        optimizer = rc.RAdam(rate, multi_precision=True)
        optimizer.minimize(loss)
        return optimizer

    return SmallProgram(build).start()


def rate_variables(built: SmallProgram) -> list[np.dtype[Any]]:
    """The types of all variables of a program that hold a learning rate."""
    names = [f"learning_rate_{index}" for index in range(4)]
    return [built.read(name).dtype for name in names if built.has(name)]


@pytest.mark.usefixtures("static_mode")
@pytest.mark.parametrize("loss_dtype", ["bfloat16", "float16", "float64"])
@pytest.mark.parametrize("scheduled", [False, True])
def test_no_type_of_a_loss_or_by_default_narrows_the_rate(
    default_dtype: str, loss_dtype: str, scheduled: bool
) -> None:
    for rate in (0.1, SMALL_RATE):
        built = program(lr.StepDecay(rate, 2, 0.5) if scheduled else rate, loss_dtype=loss_dtype)
        reference = reference_of("weight", [0.0] * 3)
        for step in range(STEPS):
            built.run(grad=gradients(step).astype("float32"))
            if scheduled:
                built.result._learning_rate.step()
            now = rate * 0.5 ** (step // 2) if scheduled else rate
            reference.step({"weight": gradients(step).astype("float32")}, now)
        np.testing.assert_allclose(built.read("weight"), reference["weight"], 2e-5)
        assert rate_variables(built) == [np.dtype(np.float32)]


def reference_of(name: str, value: Any) -> Reference:
    """The reference of a parameter, made while static mode is on."""
    with paddle.base.dygraph.guard():
        return Reference(eager_parameter(name, value))


@pytest.mark.usefixtures("static_mode")
@pytest.mark.parametrize("dtype", ["bfloat16", "float16"])
def test_rates_that_16_bits_do_not_hold_reach_master_weights(
    default_dtype: str, dtype: str
) -> None:
    """A master weight near 0 shows a rate to seven digits."""
    rate = 1e-3 + 2**-20

    def build() -> Any:
        grad = paddle.static.data("grad", [1], "float32")
        weight = parameter("weight", (1,), dtype=dtype, value=0.0)
        optimizer = rc.RAdam(lr.StepDecay(rate, 100), multi_precision=True)
        # On a CPU Paddle multiplies neither bfloat16 nor float16.
        loss = paddle.mean(grad * weight.astype("float32")).astype(dtype)
        optimizer.minimize(loss)
        return optimizer

    built = SmallProgram(build).start()
    (master,) = built.result._master_weights.values()
    built.run(grad=np.ones(1, "float32"))
    np.testing.assert_allclose(built.read(master.name), [-rate], rtol=2e-7)


@pytest.mark.usefixtures("static_mode")
@pytest.mark.parametrize("name", SCHEDULERS)
def test_programs_and_dynamic_graph_agree_to_the_bit(name: str) -> None:
    static, eager = SCHEDULERS[name](), SCHEDULERS[name]()
    built = program(static)
    with paddle.base.dygraph.guard():
        weight = eager_parameter("eager_weight", [0.0] * 3)
        optimizer = rc.RAdam(eager, parameters=[weight])
    for step in range(STEPS):
        built.run(grad=gradients(step).astype("float32"))
        advance(static, step)
        with paddle.base.dygraph.guard():
            set_gradients({weight: gradients(step)})
            optimizer.step()
            advance(eager, step)
            np.testing.assert_array_equal(weight.numpy(), built.read("weight"), f"step {step}")


@pytest.mark.parametrize("rate", [0.1, 1e-3, 3e-5])
@pytest.mark.usefixtures("static_mode")
@pytest.mark.parametrize("factor", [1.0, 0.3])
def test_constant_rates_and_factors_agree_to_the_bit(rate: float, factor: float) -> None:
    def build() -> Any:
        grad = paddle.static.data("grad", [3], "float32")
        weight = parameter("weight", value=1.0, learning_rate=factor)
        rc.RAdam(rate, weight_decay=0.01).apply_gradients([(weight, grad)])

    built = SmallProgram(build).start()
    with paddle.base.dygraph.guard():
        weight = eager_parameter("eager_weight", [1.0] * 3)
        weight.optimize_attr["learning_rate"] = factor
        decay = paddle.to_tensor(0.01, "float64")
        optimizer = rc.RAdam(0.5, parameters=[weight], weight_decay=decay)
        optimizer.set_lr(rate)
    for step in range(STEPS):
        built.run(grad=gradients(step).astype("float32"))
        with paddle.base.dygraph.guard():
            set_gradients({weight: gradients(step)})
            optimizer.step()
            np.testing.assert_array_equal(weight.numpy(), built.read("weight"), f"step {step}")


def test_a_rate_from_a_checkpoint_is_the_same_number() -> None:
    weights = [eager_parameter(f"weight_{index}", START) for index in range(2)]
    optimizers = [
        rc.RAdam(lr.ExponentialDecay(0.1, 0.9), parameters=[weight]) for weight in weights
    ]
    first, second = optimizers

    def step(index: int, at: int) -> None:
        set_gradients({weights[index]: gradients(at)})
        optimizers[index].step()
        optimizers[index]._learning_rate.step()

    for at in range(6):
        step(0, at)
    weights[1].set_value(weights[0])
    renamed = {key.replace("weight_0", "weight_1"): v for key, v in first.state_dict().items()}
    second.set_state_dict(renamed)
    for at in range(6, 12):
        step(0, at)
        step(1, at)
    assert first.get_lr() == second.get_lr()
    np.testing.assert_array_equal(weights[0].numpy(), weights[1].numpy())


def test_float64_parameters_are_given_the_rate_in_float64() -> None:
    weight = eager_parameter("weight", START, "float64")
    reference = Reference(weight)
    optimizer = rc.RAdam(1e-3, parameters=[weight])
    for step in range(STEPS):
        set_gradients({weight: gradients(step)})
        optimizer.step()
        reference.step({"weight": gradients(step)}, 1e-3)
    reference.check(weight, rtol=1e-12, atol=0.0)


@pytest.mark.usefixtures("static_mode")
def test_a_program_with_both_types_has_a_rate_for_each() -> None:
    """One optimizer updates float32 parameters by one loss and float64 parameters by another."""
    rate = 1e-3

    def build() -> Any:
        optimizer = rc.RAdam(lr.StepDecay(rate, 100))
        for dtype in ("float32", "float64", "float32"):
            grad = paddle.static.data(f"grad_{dtype}", [3], dtype)
            name = f"{dtype}_{len(optimizer._learning_rate_map)}"
            weight = parameter(name, dtype=dtype, value=0.0)
            optimizer.apply_gradients([(weight, grad)])
        return optimizer

    built = SmallProgram(build).start()
    built.run(grad_float32=np.ones(3, "float32"), grad_float64=np.ones(3))
    assert sorted(map(str, rate_variables(built))) == ["float32", "float64"]
    moved = [built.read(name) for name in ("float32_0", "float64_2", "float32_3")]
    np.testing.assert_array_equal(moved[0], np.full(3, -np.float32(rate)))
    np.testing.assert_array_equal(moved[2], moved[0])
    np.testing.assert_allclose(moved[1], np.full(3, -rate), rtol=1e-15)
