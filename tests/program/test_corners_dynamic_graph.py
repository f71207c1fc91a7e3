"""Odd corners of dynamic graph: freezing between steps, wrappers, tracing."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from typing import Any

import numpy as np
import paddle
import pytest
from support.small_programs import parameter
from support.static_programs import IN_PIR

import radam_codegen as rc

STEPS = 8
LR = 0.05
X = np.array([1.0, 2.0, 3.0], "float32")

Training = Callable[[Any], list[Any]]


@pytest.fixture(autouse=True)
def own_names() -> Iterator[None]:
    with paddle.utils.unique_name.guard():
        yield


def assert_as_native(train: Training) -> None:
    """Compare what a training function records with our class and with Paddle's."""
    ours = train(rc.RAdam)
    with paddle.utils.unique_name.guard():
        native = train(paddle.optimizer.RAdam)
    assert len(ours) == len(native) > 0
    for step, (one, other) in enumerate(zip(ours, native)):
        np.testing.assert_allclose(one, other, 2e-5, 2e-6, err_msg=f"record {step}")


def loss_of(*weights: Any) -> Any:
    product = paddle.to_tensor(X)
    for weight in weights:
        product = product * weight * weight
    return paddle.mean(product)


@pytest.mark.parametrize("attribute", ["stop_gradient", "trainable"])
def test_frozen_between_steps(attribute: str) -> None:
    def train(optimizer_class: Any) -> list[Any]:
        a, b = parameter("a"), parameter("b")
        optimizer = optimizer_class(LR, parameters=[a, b])
        records = []
        for step in range(STEPS):
            setattr(a, attribute, (attribute == "stop_gradient") is (step in (2, 3, 6)))
            loss_of(a, b).backward()
            optimizer.step()
            optimizer.clear_grad()
            records += [a.numpy(), b.numpy()]
        return records

    assert_as_native(train)


def test_frozen_with_a_gradient_left_over() -> None:
    def train(optimizer_class: Any) -> list[Any]:
        a, b = parameter("a"), parameter("b")
        optimizer = optimizer_class(LR, parameters=[a, b])
        for _ in range(3):
            loss_of(a, b).backward()
            a.stop_gradient = True
            optimizer.step()
            a.stop_gradient = False
        return [a.numpy(), b.numpy()]

    assert_as_native(train)


def test_the_loss_reaches_other_parameters_every_step() -> None:
    def train(optimizer_class: Any) -> list[Any]:
        weights = [parameter(name) for name in "abc"]
        optimizer = optimizer_class(LR, parameters=weights, weight_decay=0.1)
        records = []
        for step in range(3 * STEPS):
            chosen = [weights[step % 3], weights[(step * step) % 3]]
            loss_of(*chosen).backward()
            optimizer.step()
            optimizer.clear_grad(set_to_zero=False)
            records += [each.numpy() for each in weights]
        return records

    assert_as_native(train)


def test_nothing_has_a_gradient() -> None:
    weight = parameter("weight")
    optimizer = rc.RAdam(LR, parameters=[weight])
    optimizer.step()
    assert optimizer.minimize(loss_of(weight)) == ([], [])
    assert np.all(weight.numpy() == 0.5)


def test_a_parameter_without_dimensions_and_one_without_elements() -> None:
    point, empty = parameter("point", ()), parameter("empty", (0, 3))
    optimizer = rc.RAdam(LR, parameters=[empty, point])
    for _ in range(STEPS):
        (point * point + paddle.sum(empty)).backward()
        optimizer.step()
        optimizer.clear_grad()
    assert point.shape == []
    assert float(point) < 0.5
    assert empty.shape == [0, 3]


def test_a_parameter_shared_by_two_layers() -> None:
    def train(optimizer_class: Any) -> list[Any]:
        attr = paddle.ParamAttr(initializer=paddle.nn.initializer.Constant(0.1))
        first = paddle.nn.Linear(3, 3, weight_attr=attr)
        second = paddle.nn.Linear(3, 3)
        second.weight = first.weight
        optimizer = optimizer_class(LR, parameters=[first.weight, first.bias, second.bias])
        records = []
        for _ in range(STEPS):
            paddle.mean(second(first(paddle.to_tensor(X[None])))).backward()
            optimizer.step()
            optimizer.clear_grad()
            records.append(first.weight.numpy())
        return records

    assert_as_native(train)


def test_sparse_gradients_are_refused_before_anything_is_updated() -> None:
    table = paddle.nn.Embedding(10, 3, sparse=True, weight_attr=paddle.ParamAttr(name="table"))
    weight = parameter("weight")
    optimizer = rc.RAdam(LR, parameters=[weight, table.weight])
    before = table.weight.numpy()
    paddle.sum(table(paddle.to_tensor([1, 2])) * weight).backward()
    with pytest.raises(ValueError, match="'table' is sparse"):
        optimizer.step()
    assert np.all(weight.numpy() == 0.5)
    assert np.array_equal(table.weight.numpy(), before)


def test_a_gradient_whose_square_overflows_ends_in_nan() -> None:
    # Native RAdam leaves the element where it is from then on.
    weight = parameter("weight")
    optimizer = rc.RAdam(LR, parameters=[weight], beta2=0.9)
    values = []
    for step in range(12):
        weight.grad = paddle.to_tensor([1.0, 1e25 if step == 7 else 1.0, 1e18])
        optimizer.step()
        values.append(weight.numpy())
    assert np.isfinite(values[7]).all()
    assert np.isnan([value[1] for value in values[8:]]).all()
    assert np.isfinite([value[[0, 2]] for value in values]).all()


def test_look_ahead() -> None:
    def train(optimizer_class: Any) -> list[Any]:
        weight = parameter("weight")
        inner = optimizer_class(LR, parameters=[weight])
        optimizer = paddle.incubate.optimizer.LookAhead(inner, alpha=0.5, k=3)
        records = []
        for _ in range(STEPS):
            loss_of(weight).backward()
            optimizer.step()
            optimizer.clear_grad()
            records.append(weight.numpy())
        return records

    assert_as_native(train)


def test_data_parallel_in_one_process() -> None:
    def train(optimizer_class: Any) -> list[Any]:
        attr = paddle.ParamAttr(initializer=paddle.nn.initializer.Constant(0.3))
        layer = paddle.DataParallel(paddle.nn.Linear(3, 2, weight_attr=attr))
        optimizer = optimizer_class(LR, parameters=layer.parameters())
        records = []
        for _ in range(STEPS):
            paddle.mean(layer(paddle.to_tensor(X[None])) ** 2).backward()
            optimizer.step()
            optimizer.clear_grad()
            records += [each.numpy() for each in layer.parameters()]
        return records

    assert_as_native(train)


class Net(paddle.nn.Layer):  # type: ignore[misc]
    def __init__(self) -> None:
        super().__init__()
        attr = paddle.ParamAttr(initializer=paddle.nn.initializer.Constant(0.3))
        self.linear = paddle.nn.Linear(3, 2, weight_attr=attr)

    def forward(self, x):  # type: ignore[no-untyped-def]
        return paddle.mean(self.linear(x) ** 2)


def test_a_traced_forward_pass_with_an_eager_step() -> None:
    def train(optimizer_class: Any) -> list[Any]:
        net = paddle.jit.to_static(Net(), full_graph=True)
        optimizer = optimizer_class(LR, parameters=net.parameters())
        records = []
        for _ in range(STEPS):
            net(paddle.to_tensor(X[None])).backward()
            optimizer.step()
            optimizer.clear_grad()
            records += [each.numpy() for each in net.parameters()]
        return records

    assert_as_native(train)


@pytest.mark.skipif(IN_PIR, reason="in PIR Paddle traces no backward() of any program")
@pytest.mark.parametrize("call", ["step", "minimize"])
def test_a_traced_step_is_refused_with_the_reason(call: str) -> None:
    net = Net()
    optimizer = rc.RAdam(LR, parameters=net.parameters())

    def whole_step(x):  # type: ignore[no-untyped-def]
        loss = net(x)
        loss.backward()
        if call == "step":
            optimizer.step()
        else:
            optimizer.minimize(loss)
        return loss

    before = net.linear.weight.numpy()
    with pytest.raises(ValueError, match=r"RAdam cannot be traced by paddle\.jit\.to_static"):
        paddle.jit.to_static(whole_step, full_graph=True)(paddle.to_tensor(X[None]))
    assert np.array_equal(net.linear.weight.numpy(), before)


@pytest.mark.skipif(not IN_PIR, reason="Paddle has no SOT in the legacy IR")
def test_a_step_that_paddle_breaks_out_of_the_trace() -> None:
    def train(optimizer_class: Any) -> list[Any]:
        net = Net()
        optimizer = optimizer_class(LR, parameters=net.parameters())

        def whole_step(x):  # type: ignore[no-untyped-def]
            loss = net(x)
            loss.backward()
            optimizer.step()
            optimizer.clear_grad()
            return loss

        traced = paddle.jit.to_static(whole_step, full_graph=False)
        return [traced(paddle.to_tensor(X[None])).numpy() for _ in range(STEPS)]

    assert_as_native(train)
