"""Native optimizers that lower themselves, in code that knows nothing of it."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from typing import Any

import numpy as np
import paddle
import pytest
from support.small_programs import SmallProgram, parameter
from support.static_programs import IN_PIR

import radam_codegen as rc

pytestmark = pytest.mark.usefixtures("static_mode")


@pytest.fixture
def installed() -> Iterator[None]:
    rc.install_pass()
    rc.install_pass()
    yield
    rc.uninstall_pass()


def network(
    optimizer: Any = paddle.optimizer.RAdam, wrap: Callable[[Any], Any] = lambda inner: inner
) -> Callable[[], Any]:
    def build() -> Any:
        x = paddle.static.data("x", [3], "float32")
        weight = parameter("weight", learning_rate=0.5)
        loss = paddle.mean(x * weight * weight)
        return loss, wrap(optimizer(0.05, weight_decay=0.1)).minimize(loss)

    return build


def steps_of(program: SmallProgram, fetch_list: Any = None) -> list[Any]:
    values = []
    for step in range(7):
        program.run(fetch_list=fetch_list, x=np.array([1.0, -2.0, 3.0 - step], "float32"))
        values.append(program.read("weight"))
    return values


def fused(program: SmallProgram) -> int:
    return str(program.main).count("radam_codegen_step")


def native(program: SmallProgram) -> int:
    return str(program.main).count("_rho_0" if not IN_PIR else '"pd_op.radam_"')


def test_minimize_lowers_itself(installed: None) -> None:
    program = SmallProgram(network()).start()
    assert fused(program)
    assert not native(program)
    loss, (operators, params_grads) = program.result
    found = steps_of(program, [loss, (operators, params_grads)])
    rc.uninstall_pass()
    expected = SmallProgram(network()).start()
    assert native(expected)
    assert not fused(expected)
    np.testing.assert_allclose(found, steps_of(expected), 2e-5, 2e-6)


def test_two_losses_of_one_optimizer_have_one_state(installed: None) -> None:
    def build() -> None:
        x = paddle.static.data("x", [3], "float32")
        first, second = parameter("weight"), parameter("other")
        optimizer = paddle.optimizer.RAdam(0.05)
        optimizer.minimize(paddle.mean(x * first * second))
        optimizer.minimize(paddle.mean(x * first))

    lowered = SmallProgram(build).start()
    found = steps_of(lowered)
    rc.uninstall_pass()
    np.testing.assert_allclose(found, steps_of(SmallProgram(build).start()), 2e-5, 2e-6)


@pytest.mark.skipif(IN_PIR, reason="in PIR, Paddle wraps no native optimizer")
@pytest.mark.parametrize(
    "wrap",
    [
        lambda inner: paddle.incubate.optimizer.GradientMergeOptimizer(inner, k_steps=2),
        lambda inner: paddle.static.amp.decorate(inner, init_loss_scaling=8.0),
    ],
    ids=["gradient merge", "mixed precision"],
)
def test_wrapped_optimizers(installed: None, wrap: Callable[[Any], Any]) -> None:
    lowered = SmallProgram(network(wrap=wrap)).start()
    assert fused(lowered)
    found = steps_of(lowered)
    rc.uninstall_pass()
    expected = SmallProgram(network(wrap=wrap)).start()
    np.testing.assert_allclose(found, steps_of(expected), 2e-5, 2e-6)


def test_what_stays_native(installed: None) -> None:
    class Own(paddle.optimizer.RAdam):  # type: ignore[misc]
        pass

    rc.config(mode="off")
    try:
        assert not fused(SmallProgram(network()))
    finally:
        rc.config(mode=None)
    assert native(SmallProgram(network(Own)))
    assert native(
        SmallProgram(network(lambda *args, **options: rc.RAdam(*args, **options, target="native")))
    )


def test_dynamic_graph_is_as_ever(installed: None) -> None:
    paddle.disable_static()
    weight = parameter("weight")
    optimizer = paddle.optimizer.RAdam(0.05, parameters=[weight])
    paddle.sum(weight * weight).backward()
    optimizer.step()
    assert float(weight[0]) < 0.5
    paddle.enable_static()
