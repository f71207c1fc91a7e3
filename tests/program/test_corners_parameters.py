"""Parameters, gradients and losses that are not what a network has as a rule."""

from __future__ import annotations

from typing import Any

import numpy as np
import paddle
import pytest
from support.small_programs import SmallProgram, parameter
from support.static_programs import IN_PIR

import radam_codegen as rc

pytestmark = pytest.mark.usefixtures("static_mode")

LR = 0.01
STEPS = 8
X = np.array([1.0, 2.0, 3.0], "float32")


def data(name: str = "x", shape: tuple[int, ...] = (3,), dtype: str = "float32") -> Any:
    return paddle.static.data(name, list(shape), dtype)


def assert_as_native(build: Any, *names: str, **feed: Any) -> SmallProgram:
    """Run what ``build`` makes with our class and with Paddle's, and compare parameters."""
    ours = SmallProgram(lambda: build(rc.RAdam)).start()
    native = SmallProgram(lambda: build(paddle.optimizer.RAdam)).start()
    for step in range(STEPS):
        for program in (ours, native):
            program.run(**(feed or {"x": X}))
        for name in names:
            np.testing.assert_allclose(
                ours.read(name), native.read(name), 2e-5, 2e-6, err_msg=f"step {step}, {name}"
            )
    return ours


def test_a_name_stands_before_the_names_of_state() -> None:
    def build(optimizer: Any) -> Any:
        made = optimizer(LR, name="mine")
        made.minimize(paddle.mean(data() * parameter("weight") ** 2))
        return made

    program = assert_as_native(build, "weight")
    assert set(program.result.state_dict(scope=program.scope)) == {
        "weight_mine_moment1_0",
        "weight_mine_moment2_0",
        "weight_mine_step_0",
    }
    names = program.result.get_opti_var_name_list()
    assert [name.rpartition("_")[0].rpartition("_")[0] for name in names] == [
        "radam_moment1",
        "radam_moment2",
    ]
    assert all(map(program.has, names))


def test_a_parameter_without_dimensions() -> None:
    def build(optimizer: Any) -> Any:
        made = optimizer(LR)
        made.minimize(paddle.mean(data() * parameter("weight", ()) ** 2))
        return made

    program = assert_as_native(build, "weight")
    assert program.read("weight").shape == ()
    state = program.result.state_dict(scope=program.scope)
    assert np.array(state["weight_moment1_0"]).shape == ()


def test_a_parameter_without_elements() -> None:
    # It ends the process of native RAdam.
    def build() -> None:
        empty = parameter("empty", (0, 3))
        weight = parameter("weight", (1, 3))
        rc.RAdam(LR).minimize(paddle.mean(data() * paddle.concat([weight, empty]) ** 2))

    def alone(optimizer: Any) -> None:
        optimizer(LR).minimize(paddle.mean(data() * parameter("weight", (1, 3)) ** 2))

    program = SmallProgram(build).start()
    for _ in range(STEPS):
        program.run(x=X)
    assert program.read("empty").shape == (0, 3)
    np.testing.assert_array_equal(
        program.read("weight"), assert_as_native(alone, "weight").read("weight")
    )


@pytest.mark.parametrize("how", ["layer", "name"])
def test_layers_that_share_a_parameter(how: str) -> None:
    # By name they are two values of one parameter in PIR, where native RAdam updates it twice.
    def build() -> Any:
        attr = paddle.ParamAttr(name="weight", initializer=paddle.nn.initializer.Constant(0.1))
        first = paddle.nn.Linear(3, 3, weight_attr=attr, bias_attr=False)
        second = first
        if how == "name":
            second = paddle.nn.Linear(3, 3, weight_attr=attr, bias_attr=False)
        loss = shared_loss(first, second, data(shape=(2, 3)))
        return rc.RAdam(LR).minimize(loss)

    program = SmallProgram(build).start()
    _, params_grads = program.result
    assert [param.name for param, _ in params_grads] == ["weight"]
    for expected in shared_in_dynamic_graph():
        program.run(x=np.stack([X, X + 1]))
        np.testing.assert_allclose(program.read("weight"), expected, 2e-5, 2e-6)


def shared_loss(first: Any, second: Any, x: Any) -> Any:
    hidden = first(x)
    return paddle.mean(second(hidden * hidden) ** 2)


def shared_in_dynamic_graph() -> list[Any]:
    paddle.disable_static()
    try:
        attr = paddle.ParamAttr(initializer=paddle.nn.initializer.Constant(0.1))
        layer = paddle.nn.Linear(3, 3, weight_attr=attr, bias_attr=False)
        optimizer = paddle.optimizer.RAdam(LR, parameters=layer.parameters())
        values = []
        for _ in range(STEPS):
            shared_loss(layer, layer, paddle.to_tensor(np.stack([X, X + 1]))).backward()
            optimizer.step()
            optimizer.clear_grad()
            values.append(layer.weight.numpy())
        return values
    finally:
        paddle.enable_static()


def test_a_loss_in_float64() -> None:
    # Native RAdam then takes the learning rate for a float64, and fails at the first step.
    def build(to_double: bool) -> None:
        x, weight = data(), parameter("weight")
        product = x * weight * weight
        rc.RAdam(LR).minimize(
            paddle.mean(paddle.cast(product, "float64") if to_double else product)
        )

    single = SmallProgram(lambda: build(False)).start()
    double = SmallProgram(lambda: build(True)).start()
    for _ in range(STEPS):
        single.run(x=X)
        double.run(x=X)
    assert double.read("weight").dtype == np.float32
    np.testing.assert_allclose(double.read("weight"), single.read("weight"), 1e-6)


def test_no_grad_set_cuts_the_way_through_a_variable() -> None:
    def build(optimizer: Any) -> Any:
        weight = parameter("weight")
        hidden = weight * parameter("cut")
        loss = paddle.mean(data() * hidden + weight * weight)
        made = optimizer(LR)
        made.minimize(loss, no_grad_set={hidden})
        return made

    program = assert_as_native(build, "weight", "cut")
    assert "cut_moment1_0" not in program.result.state_dict(scope=program.scope)
    np.testing.assert_array_equal(program.read("cut"), np.full(3, 0.5, "float32"))


@pytest.mark.parametrize("how", ["optimizer.backward", "append_backward", "gradients"])
@pytest.mark.parametrize("guarded", [True, False])
def test_gradients_and_update_in_two_calls(how: str, guarded: bool) -> None:
    def build(optimizer: Any) -> None:
        weights = [parameter("a"), parameter("b")]
        loss = paddle.mean(data() * weights[0] * weights[1] ** 2)
        made = optimizer(LR, weight_decay=0.1)
        main, startup = loss.block.program, paddle.static.default_startup_program()

        def update() -> None:
            if how == "optimizer.backward":
                params_grads = made.backward(loss)
            elif how == "append_backward":
                params_grads = paddle.static.append_backward(loss)
            else:
                params_grads = list(zip(weights, paddle.static.gradients([loss], weights)))
            made.apply_gradients(params_grads)

        if guarded:
            with paddle.static.program_guard(main, startup):
                update()
        else:
            update()

    assert_as_native(build, "a", "b")


def test_gradients_made_by_hand() -> None:
    def build(optimizer: Any) -> Any:
        weights = [parameter("a"), parameter("b")]
        grads = [data("x") * 2.0, None]
        made = optimizer(LR)
        made.apply_gradients(list(zip(weights, grads)))
        return made

    program = assert_as_native(build, "a", "b")
    state = program.result.state_dict(scope=program.scope)
    assert "a_moment1_0" in state
    assert "b_moment1_0" not in state


@pytest.mark.skipif(IN_PIR, reason="in PIR gradients of embeddings are dense")
def test_sparse_gradients_are_refused_by_the_name_of_the_parameter() -> None:
    def build() -> None:
        attr = paddle.ParamAttr(name="table")
        ids = data("ids", (4,), "int64")
        embedded = paddle.static.nn.embedding(ids, [10, 3], is_sparse=True, param_attr=attr)
        optimizer = rc.RAdam(LR)
        with pytest.raises(ValueError, match="'table' would get a sparse gradient"):
            optimizer.minimize(paddle.mean(embedded))
        with pytest.raises(ValueError, match="'table' is sparse"):
            optimizer.apply_gradients(optimizer.backward(paddle.mean(embedded)))
        # Where the table is not to be trained, its gradient does not matter.
        weight = parameter("weight")
        rc.RAdam(LR, parameters=[weight]).minimize(paddle.mean(embedded * weight))

    program = SmallProgram(build).start()
    program.run(ids=np.arange(4))
    assert np.all(program.read("weight") != 0.5)
