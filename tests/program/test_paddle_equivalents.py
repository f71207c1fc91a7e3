"""What Paddle's own tests of RAdam show of the native optimizer, shown of ours.

The situations are those of Paddle's ``test_radam_op.py``; each is held to the reference or to the
native optimizer, where Paddle's test only asks that it runs.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np
import paddle
import pytest
from support.eager import Reference, parameter, set_gradients, values_of
from support.reference import ReferenceState, reference_rho, reference_step
from support.static_programs import FedProgram, Tensor
from support.twin import expected_tensor

import radam_codegen as rc
from radam_codegen.ir.plan import Decay, DecayKind, GroupPlan

SHAPE = (102, 105)
DATA = np.arange(26).reshape(2, 13).astype("float32")


@pytest.fixture
def static_names(static_mode: None) -> Any:
    with paddle.utils.unique_name.guard():
        yield


class Midway:
    """A parameter in the middle of its training: in a program or eager, and as the reference."""

    def __init__(self, steps_before: int, **numbers: float) -> None:
        random = np.random.default_rng(2024)
        self.start = ReferenceState(
            random.uniform(-1, 1, SHAPE).astype("float32").astype("float64"),
            random.uniform(-1, 1, SHAPE).astype("float32").astype("float64"),
            random.random(SHAPE).astype("float32").astype("float64"),
            steps_before,
        )
        self.tensor = Tensor("p", SHAPE)
        self.group = GroupPlan((expected_tensor(self.tensor),), **numbers)
        self.numbers = numbers
        self.random = random

    def state(self) -> dict[str, Any]:
        """The start in the terms of a checkpoint."""
        return {
            "p_moment1_0": self.start.moment1.astype("float32"),
            "p_moment2_0": self.start.moment2.astype("float32"),
            "p_step_0": np.array([self.start.step]),
        }

    def check(
        self, step: Callable[[Any], None], read: Callable[[], dict[str, Any]], n: int
    ) -> None:
        state = self.start
        for _ in range(n):
            grad = self.random.uniform(-1, 1, SHAPE).astype("float32")
            step(grad)
            reference_step(self.group, [state], [grad], 0.003)
            found = read()
            for name in ("param", "moment1", "moment2"):
                np.testing.assert_allclose(
                    found[name], getattr(state, name), rtol=1e-6, atol=1e-6, err_msg=name
                )
            assert found["step"] == state.step


#: Where the step count of Paddle's tests is: rectified, and not.
MIDWAY = {
    "own numbers": (10, {"beta1": 0.78, "beta2": 0.915, "epsilon": 1e-8}, True),
    "defaults": (1000, {}, True),
    "rho small": (2, {"beta1": 0.78, "beta2": 0.915, "epsilon": 1e-8}, False),
    "across the switch": (3, {}, False),
}


@pytest.mark.usefixtures("static_names")
@pytest.mark.parametrize("steps", [1, 10])
@pytest.mark.parametrize("case", MIDWAY)
def test_steps_from_given_state_in_a_program(case: str, steps: int) -> None:
    before, numbers, rectified = MIDWAY[case]
    midway = Midway(before, **numbers)
    assert (reference_rho(numbers.get("beta2", 0.999), before + 1)[1] > 5) == rectified
    program = FedProgram([midway.tensor], lambda params: rc.RAdam(0.003, **numbers))
    program.start([midway.start.param.astype("float32")])
    program.optimizer.set_state_dict(midway.state(), scope=program.scope)

    def read() -> dict[str, Any]:
        return {
            "param": program.read("p"),
            "moment1": program.read("p_moment1_0"),
            "moment2": program.read("p_moment2_0"),
            "step": program.read("radam_step_0").item(),
        }

    midway.check(lambda grad: program.step([grad]), read, steps)


@pytest.mark.parametrize("steps", [1, 10])
@pytest.mark.parametrize("case", MIDWAY)
def test_steps_from_given_state_in_dynamic_graph(case: str, steps: int) -> None:
    before, numbers, _ = MIDWAY[case]
    midway = Midway(before, **numbers)
    param = parameter("p", midway.start.param)
    opt = rc.RAdam(0.003, parameters=[param], **numbers)
    opt.set_state_dict(midway.state())

    def step(grad: Any) -> None:
        set_gradients({param: grad})
        opt.step()

    def read() -> dict[str, Any]:
        held = opt._state.held(param)
        return {
            "param": param.numpy(),
            "moment1": held.moment1.numpy(),
            "moment2": held.moment2.numpy(),
            "step": held.step.numpy()[held.index],
        }

    midway.check(step, read, steps)


def linears(*sizes: int) -> list[Any]:
    paddle.seed(7)
    return [paddle.nn.Linear(*each) for each in zip(sizes, sizes[1:])]


def two_steps(layers: list[Any], optimizer: Any) -> list[Any]:
    for _ in range(2):
        out = paddle.to_tensor(DATA)
        for layer in layers:
            out = layer(out)
        out.backward()
        optimizer.step()
        optimizer.clear_gradients()
    return values_of(*(each for layer in layers for each in layer.parameters()))


@pytest.mark.parametrize("decay", [0.01, 1], ids=["float", "int"])
def test_dynamic_graph(decay: float) -> None:
    layers = linears(13, 5)
    weight, bias = layers[0].parameters()
    special = {"decay": Decay(DecayKind.L2, decay)}
    reference = Reference(weight, bias, **{weight.name: special, bias.name: special})
    opt = rc.RAdam(learning_rate=0.01, parameters=layers[0].parameters(), weight_decay=decay)
    two_steps(layers, opt)
    grads = {
        weight.name: np.repeat(DATA.sum(axis=0)[:, None], 5, axis=1),
        bias.name: np.full(5, len(DATA)),
    }
    for _ in range(2):
        reference.step(grads, 0.01)
    reference.check(weight, bias)


def test_apply_gradients() -> None:
    (linear,) = linears(13, 5)
    before = values_of(*linear.parameters())
    opt = rc.RAdam(learning_rate=0.01, parameters=linear.parameters(), weight_decay=0.01)
    loss = paddle.mean(linear(paddle.to_tensor(DATA)))
    # Without loss.backward() there are no gradients, and nothing happens.
    opt.apply_gradients(opt.backward(loss))
    for now, then in zip(values_of(*linear.parameters()), before):
        np.testing.assert_array_equal(now, then)
    results = []
    for apply in (False, True):
        (linear,) = linears(13, 5)
        opt = rc.RAdam(learning_rate=0.01, parameters=linear.parameters(), weight_decay=0.01)
        for _ in range(2):
            loss = paddle.mean(linear(paddle.to_tensor(DATA)))
            loss.backward()
            opt.apply_gradients(opt.backward(loss)) if apply else opt.step()
            opt.clear_gradients()
        results.append(values_of(*linear.parameters()))
    for one, other in zip(*results):
        np.testing.assert_array_equal(one, other)
    assert not np.array_equal(results[0][0], before[0])


@pytest.mark.usefixtures("static_names")
def test_static_program() -> None:
    shape = [2, 3, 8, 8]
    losses = {}
    for kind in (rc.RAdam, paddle.optimizer.RAdam):
        paddle.seed(3)
        main, startup = paddle.static.Program(), paddle.static.Program()
        with paddle.static.program_guard(main, startup), paddle.utils.unique_name.guard():
            data = paddle.static.data(name="data", shape=shape, dtype="float32")
            loss = paddle.mean(paddle.static.nn.fc(x=data, size=10))
            opt = kind(learning_rate=1e-5, beta1=0.85, beta2=0.95, weight_decay=0.01, epsilon=1e-8)
            opt.minimize(loss)
        scope = paddle.static.Scope()
        exe = paddle.static.Executor(paddle.CPUPlace())
        exe.run(startup, scope=scope)
        fed = np.random.default_rng(0).random(shape).astype("float32")
        losses[kind] = [
            exe.run(main, feed={"data": fed}, fetch_list=[loss], scope=scope)[0].item()
            for _ in range(10)
        ]
    ours, native = losses.values()
    assert ours[-1] < ours[0]
    np.testing.assert_allclose(ours, native, rtol=1e-5)


@pytest.mark.parametrize(
    "numbers",
    [
        {"learning_rate": -1},
        {"beta1": -1},
        {"beta2": -1},
        {"beta1": 2.0},
        {"beta2": 2.0},
        {"epsilon": -1},
    ],
    ids=str,
)
def test_invalid_input(numbers: dict[str, Any]) -> None:
    (linear,) = linears(10, 10)
    with pytest.raises(ValueError, match=next(iter(numbers)).replace("_", " ")):
        rc.RAdam(**{"learning_rate": 0.1, **numbers}, parameters=linear.parameters())


def both_ways(make: Callable[[Any, list[Any]], Any], *sizes: int) -> tuple[list[Any], list[Any]]:
    """Parameters after two steps of ours, and of the native optimizer."""
    results = []
    for kind in (rc.RAdam, paddle.optimizer.RAdam):
        layers = linears(*sizes)
        results.append(two_steps(layers, make(kind, layers)))
    return results[0], results[1]


def grouped(kind: Any, layers: list[Any]) -> Any:
    groups = [
        {"params": layers[0].parameters()},
        {"params": layers[1].parameters(), "weight_decay": 0.001},
    ]
    return kind(learning_rate=0.01, parameters=groups, weight_decay=0.01)


def grouped_with_rates(kind: Any, layers: list[Any]) -> Any:
    groups = [
        {"params": layers[0].parameters(), "learning_rate": 0.1},
        {"params": layers[1].parameters(), "weight_decay": 0.001},
    ]
    schedule = paddle.optimizer.lr.PiecewiseDecay(boundaries=[3, 6], values=[0.1, 0.2, 0.3])
    return kind(learning_rate=schedule, parameters=groups, weight_decay=0.01)


@pytest.mark.parametrize("make", [grouped, grouped_with_rates])
def test_groups(make: Any) -> None:
    ours, native = both_ways(make, 13, 5, 3)
    for one, other in zip(ours, native):
        np.testing.assert_allclose(one, other, rtol=1e-5, atol=1e-5)


@pytest.mark.parametrize("multi_precision", [True, False])
def test_a_flag_that_is_set_after_the_fact(multi_precision: bool) -> None:
    paddle.seed(10)
    fed = paddle.randn((5, 5))
    model = paddle.nn.Linear(5, 5)
    reference = Reference(*model.parameters())
    opt = rc.RAdam(
        parameters=[
            {"params": model.parameters(), "weight_decay": 0.001, "beta1": 0.1, "beta2": 0.99}
        ],
    )
    opt._multi_precision = multi_precision  # as paddle.amp.decorate does
    decay = {"decay": Decay(DecayKind.L2, 0.001)}
    reference.special = {each.name: decay for each in model.parameters()}
    for _ in range(8):
        paddle.mean(model(fed) ** 2).backward()
        grads = {each.name: each.grad.numpy() for each in model.parameters()}
        opt.step()
        opt.clear_grad()
        reference.step(grads, 0.001, beta1=0.1, beta2=0.99)
    reference.check(*model.parameters())
    assert opt._master_weights == {}  # these are for halves alone


def train_scale(dtype: str, multi_precision: bool) -> list[float]:
    """A model that computes in float32, as there is hardly a bfloat16 operator for CPUs."""
    scale = parameter("scale", [0.5, -1.5], dtype)
    opt = rc.RAdam(0.1, parameters=[scale], multi_precision=multi_precision)
    fed = paddle.to_tensor([0.3, 0.6])
    losses = []
    for _ in range(5):
        loss = ((scale.astype("float32") * fed) ** 2).mean()
        loss.backward()
        opt.step()
        opt.clear_grad()
        losses.append(loss.item())
    return losses


def test_multi_precision_in_dynamic_graph() -> None:
    np.testing.assert_allclose(
        train_scale("bfloat16", True), train_scale("float32", False), rtol=0.02, atol=1e-3
    )


@pytest.mark.usefixtures("static_names")
def test_multi_precision_in_a_program() -> None:
    losses = {}
    for dtype in ("bfloat16", "float32"):
        main, startup = paddle.static.Program(), paddle.static.Program()
        with paddle.static.program_guard(main, startup), paddle.utils.unique_name.guard():
            scale = paddle.create_parameter(
                [2],
                dtype,
                attr=paddle.ParamAttr(
                    name="scale", initializer=paddle.nn.initializer.Constant(0.5)
                ),
            )
            fed = paddle.static.data("fed", [2], "float32")
            loss = paddle.mean(paddle.square(paddle.cast(scale, "float32") * fed))
            opt = rc.RAdam(0.1, multi_precision=True)
            opt.minimize(loss)
        scope = paddle.static.Scope()
        exe = paddle.static.Executor(paddle.CPUPlace())
        exe.run(startup, scope=scope)
        data = np.array([0.3, 0.6], "float32")
        losses[dtype] = [
            exe.run(main, feed={"fed": data}, fetch_list=[loss], scope=scope)[0].item()
            for _ in range(5)
        ]
        assert len(opt._master_weights) == (dtype == "bfloat16")
    assert losses["bfloat16"][-1] < losses["bfloat16"][0]
    np.testing.assert_allclose(losses["bfloat16"], losses["float32"], rtol=0.02, atol=1e-3)


@pytest.mark.usefixtures("static_names")
@pytest.mark.parametrize("dtype", ["float32", "float64"])
def test_a_regression_fed_row_by_row(dtype: str) -> None:
    random = np.random.default_rng(1)
    features = random.random((101, 13)).astype(dtype)
    targets = random.integers(12, size=(101, 1)).astype(dtype)
    weights = {}
    for kind in (rc.RAdam, paddle.optimizer.RAdam):
        paddle.seed(4)
        main, startup = paddle.static.Program(), paddle.static.Program()
        scope = paddle.static.Scope()
        with paddle.static.program_guard(main, startup), paddle.utils.unique_name.guard():
            x = paddle.static.data(name="x", shape=[None, 13], dtype=dtype)
            y = paddle.static.data(name="y", shape=[None, 1], dtype=dtype)
            attr = paddle.ParamAttr(name="weight")
            predicted = paddle.static.nn.fc(x, size=1, weight_attr=attr)
            cost = paddle.nn.functional.square_error_cost(input=predicted, label=y)
            loss = paddle.mean(cost)
            kind(0.01).minimize(loss)
        exe = paddle.static.Executor(paddle.CPUPlace())
        exe.run(startup, scope=scope)
        losses = [
            exe.run(main, feed={"x": row, "y": target}, fetch_list=[loss], scope=scope)[0].item()
            for row, target in zip(features[:, None], targets[:, None])
        ]
        assert np.mean(losses[-20:]) < np.mean(losses[:20])
        weights[kind] = np.array(scope.find_var("weight").get_tensor())
    ours, native = weights.values()
    assert ours.dtype == dtype
    np.testing.assert_allclose(ours, native, rtol=1e-4, atol=1e-5)
