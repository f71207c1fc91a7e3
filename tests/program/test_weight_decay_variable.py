"""A decay coefficient that only a run of the program knows, and master weights beside none."""

from __future__ import annotations

from typing import Any

import numpy as np
import paddle
import pytest
from paddle.base import unique_name

import radam_codegen as rc
from radam_codegen.errors import ArgumentError, ArgumentTypeError


@pytest.fixture(autouse=True)
def _static() -> Any:
    paddle.enable_static()
    yield
    paddle.disable_static()


def _train(steps: list[float], *, variable: bool, decoupled: bool = False) -> np.ndarray[Any, Any]:
    """Train a program whose decay coefficient is fed, or one that has the first one built in."""
    main, startup, scope = paddle.static.Program(), paddle.static.Program(), paddle.static.Scope()
    with unique_name.guard(), paddle.static.program_guard(main, startup):
        decay: Any = paddle.static.data("decay", [1], "float32") if variable else steps[0]
        start = np.linspace(-1.0, 2.0, 12, dtype=np.float32)
        attr = paddle.ParamAttr(initializer=paddle.nn.initializer.Assign(start))
        param = paddle.create_parameter([12], "float32", attr=attr)
        # A parameter's own regularizer does not follow the variable.
        own_attr = paddle.ParamAttr(
            initializer=paddle.nn.initializer.Assign(start),
            regularizer=paddle.regularizer.L2Decay(0.5),
        )
        own = paddle.create_parameter([12], "float32", attr=own_attr)
        grad = paddle.static.data("grad", [12], "float32")
        optimizer = rc.RAdam(
            learning_rate=0.1,
            weight_decay=decay,
            decoupled_weight_decay=decoupled,
        )
        optimizer.minimize(paddle.mean((param + own) * grad))
    exe = paddle.static.Executor(paddle.CPUPlace())
    with paddle.static.scope_guard(scope):
        exe.run(startup)
        for index, value in enumerate(steps):
            grads = np.cos(np.arange(12, dtype=np.float32) + index)
            feed = {"grad": grads}
            if variable:
                feed["decay"] = np.array([value], np.float32)
            exe.run(main, feed=feed)
        found = [np.array(scope.find_var(each.name).get_tensor()) for each in (param, own)]
    return np.stack(found)


@pytest.mark.parametrize("decoupled", [False, True])
def test_a_constant_variable_does_what_the_number_does(decoupled: bool) -> None:
    given = _train([0.25] * 8, variable=True, decoupled=decoupled)
    np.testing.assert_array_equal(given, _train([0.25] * 8, variable=False, decoupled=decoupled))


def test_the_variable_is_read_at_every_step() -> None:
    changing = _train([0.25, 0.0, 4.0, 0.0, 0.5, 0.0, 0.0, 2.0], variable=True)
    constant = _train([0.25] * 8, variable=True)
    assert np.abs(changing[0] - constant[0]).max() > 1e-3
    np.testing.assert_array_equal(changing[1], constant[1])


def test_the_plan_says_that_the_coefficient_comes_at_run_time() -> None:
    with paddle.static.program_guard(paddle.static.Program(), paddle.static.Program()):
        decay: Any = paddle.static.data("decay", [1], "float32")
        param = paddle.create_parameter([3], "float32")
        optimizer = rc.RAdam(weight_decay=decay)
        optimizer.minimize(paddle.mean(param))
    assert optimizer.plan.groups[0].tensors[0].decay.at_run_time
    assert "l2 at run time" in str(optimizer.plan)
    assert rc.UpdatePlan.from_json(optimizer.plan.to_json()) == optimizer.plan


def test_a_variable_of_several_elements_is_refused() -> None:
    with paddle.static.program_guard(paddle.static.Program(), paddle.static.Program()):
        decay: Any = paddle.static.data("decay", [2], "float32")
        with pytest.raises(ArgumentTypeError, match=r"one number, got a variable of shape \[2\]"):
            rc.RAdam(weight_decay=decay)


def test_a_tensor_that_holds_a_negative_number_is_refused() -> None:
    paddle.disable_static()
    param = paddle.create_parameter([3], "float32")
    with pytest.raises(ArgumentError, match="weight_decay"):
        rc.RAdam(parameters=[param], weight_decay=paddle.to_tensor(-1.0))


@pytest.mark.parametrize("dtype", ["bfloat16", "float16"])
def test_master_weights_stand_beside_parameters_without(dtype: str) -> None:
    main, startup, scope = paddle.static.Program(), paddle.static.Program(), paddle.static.Scope()
    start = np.linspace(0.5, 2.0, 8, dtype=np.float32)
    with unique_name.guard(), paddle.static.program_guard(main, startup):
        ones = paddle.nn.initializer.Constant(1.0)
        half = paddle.create_parameter([8], dtype, default_initializer=ones)
        attr = paddle.ParamAttr(initializer=paddle.nn.initializer.Assign(start))
        full = paddle.create_parameter([8], "float32", attr=attr)
        last = paddle.create_parameter([8], dtype, default_initializer=ones)
        grad = paddle.static.data("grad", [8], "float32")
        total = paddle.cast(half, "float32") + full + paddle.cast(last, "float32")
        optimizer = rc.RAdam(learning_rate=1e-3, multi_precision=True)
        optimizer.minimize(paddle.mean(total * (8.0 * grad)))
    exe = paddle.static.Executor(paddle.CPUPlace())
    with paddle.static.scope_guard(scope):
        exe.run(startup)
        # Exact in both half types, so that all three parameters get the same gradients.
        grads = np.array([1, -1, 0.5, 2, -0.25, 4, -2, 1], np.float32)
        for _ in range(10):
            exe.run(main, feed={"grad": grads})
        masters = [
            np.array(scope.find_var(optimizer._master_weights[each.name].name).get_tensor())
            for each in (half, last)
        ]
        moved = np.array(scope.find_var(full.name).get_tensor())
    np.testing.assert_array_equal(masters[0], masters[1])
    # Without a norm or a decay, the way that is gone depends on the gradients alone.
    np.testing.assert_allclose(masters[0] - 1.0, moved - start, rtol=0, atol=1e-6)
    assert np.abs(masters[0] - 1.0).min() > 1e-3
