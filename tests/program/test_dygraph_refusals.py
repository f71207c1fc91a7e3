"""What a step in dynamic graph refuses, before it updates anything, and odd tensors it takes."""

from __future__ import annotations

from typing import Any

import numpy as np
import paddle
import pytest
from paddle.nn import ClipGradByGlobalNorm, ClipGradByNorm, ClipGradByValue
from paddle.regularizer import L1Decay
from support.eager import Reference, parameter, set_gradients, steps_of

import radam_codegen as rc
from radam_codegen.errors import ArgumentError, PlanError, ProgramError, UnsupportedError

LR = 0.05
ONES = [1.0, -2.0, 3.0]


def assert_refused(opt: Any, error: type[Exception], match: str, *params: Any) -> None:
    """Demand an error at the step, and that parameters and state are as they were."""
    before = [(param.numpy(), param.inplace_version) for param in params]
    state = {
        key: value.numpy() for key, value in opt.state_dict().items() if key != "master_weights"
    }
    with pytest.raises(error, match=match):
        opt.step()
    for param, (value, version) in zip(params, before):
        np.testing.assert_array_equal(param.numpy(), value)
        assert param.inplace_version == version
    after = {key: value for key, value in opt.state_dict().items() if key in state}
    assert list(after) == list(state)
    for key, value in after.items():
        np.testing.assert_array_equal(value.numpy(), state[key], err_msg=key)


@pytest.mark.parametrize("stepped", [False, True])
def test_a_sparse_gradient(stepped: bool) -> None:
    linear = paddle.nn.Linear(3, 2)
    table = paddle.nn.Embedding(5, 3, sparse=True)
    opt = rc.RAdam(LR, parameters=[*linear.parameters(), *table.parameters()])
    if stepped:
        linear(paddle.ones([1, 3])).sum().backward()
        opt.step()
        opt.clear_grad()
    linear(table(paddle.to_tensor([1, 2]))).sum().backward()
    assert table.weight.grad.is_selected_rows()
    params = [*linear.parameters(), table.weight]
    name = table.weight.name
    assert_refused(opt, UnsupportedError, f"'{name}' is sparse .* sparse=False", *params)


def test_a_sparse_gradient_of_a_frozen_table_is_nobodys_business() -> None:
    linear = paddle.nn.Linear(3, 2)
    table = paddle.nn.Embedding(5, 3, sparse=True)
    opt = rc.RAdam(LR, parameters=[*linear.parameters(), *table.parameters()])
    linear(table(paddle.to_tensor([1, 2]))).sum().backward()
    table.weight.stop_gradient = True
    opt.step()
    assert steps_of(opt) == {each.name: 1 for each in linear.parameters()}


@pytest.mark.parametrize("stepped", [False, True])
def test_a_gradient_of_a_wrong_shape(stepped: bool) -> None:
    a, b = parameter("a", ONES), parameter("b", [ONES, ONES])
    opt = rc.RAdam(LR, parameters=[a, b])
    if stepped:
        set_gradients({a: ONES, b: [ONES, ONES]})
        opt.step()
        opt.clear_grad(set_to_zero=False)
    for shape in ([3, 2], [6], [2, 4], [0]):
        set_gradients({a: ONES})
        b.main_grad = paddle.ones(shape)
        assert_refused(
            opt, UnsupportedError, rf"'b' has the shape \[{shape[0]}.*has \[2, 3\]", a, b
        )


@pytest.mark.parametrize("stepped", [False, True])
@pytest.mark.parametrize("dtype", ["float64", "int32", "float16", "complex64"])
def test_a_gradient_of_a_wrong_type(dtype: str, stepped: bool) -> None:
    a, b = parameter("a", ONES), parameter("b", ONES)
    opt = rc.RAdam(LR, parameters=[a, b])
    if stepped:
        set_gradients({a: ONES, b: ONES})
        opt.step()
    set_gradients({a: ONES})
    b.main_grad = paddle.ones([3], dtype=dtype)
    assert_refused(opt, ValueError, f"'b'.*{dtype}", a, b)


@pytest.mark.parametrize("dtype", ["int32", "complex64"])
def test_a_parameter_of_a_type_without_a_kernel(dtype: str) -> None:
    a, b = parameter("a", ONES), parameter("b", ONES, dtype)
    opt = rc.RAdam(LR, parameters=[a, b])
    a.grad, b.grad = paddle.ones([3]), paddle.ones([3], dtype=dtype)
    assert_refused(opt, UnsupportedError, f"'b' has the type.*{dtype}", a)


def test_a_parameter_that_the_optimizer_was_not_given() -> None:
    a, b = parameter("a", ONES), parameter("b", ONES)
    opt = rc.RAdam(LR, parameters=[a])
    with pytest.raises(ArgumentError, match="'b' is none of those"):
        opt.apply_gradients([(a, paddle.ones([3])), (b, paddle.ones([3]))])
    np.testing.assert_array_equal(a.numpy(), ONES)


def test_a_parameter_that_comes_twice() -> None:
    a = parameter("a", ONES)
    opt = rc.RAdam(LR, parameters=[a])
    with pytest.raises(PlanError, match="'a' is claimed twice"):
        opt.apply_gradients([(a, paddle.ones([3])), (a, paddle.ones([3]))])
    np.testing.assert_array_equal(a.numpy(), ONES)


def test_an_unknown_regularizer() -> None:
    class Own(L1Decay):  # type: ignore[misc]
        pass

    a = parameter("a", ONES)
    set_gradients({a: ONES})
    a.regularizer = Own(0.1)
    assert_refused(rc.RAdam(LR, parameters=[a]), UnsupportedError, "'a' has a regularizer.*Own", a)


def test_a_stale_use_of_a_parameter_raises() -> None:
    a, b = parameter("a", ONES), parameter("b", ONES)
    opt = rc.RAdam(LR, parameters=[a, b])
    with_a, with_b = (a * a).sum(), (b * b).sum()
    set_gradients({a: ONES})
    opt.step()
    with_b.backward()  # b had no gradient
    with pytest.raises(RuntimeError, match="modified by an inplace operation"):
        with_a.backward()


def test_versions_count_steps() -> None:
    a, b = parameter("a", ONES), parameter("b", ONES)
    opt = rc.RAdam(LR, parameters=[a, b])
    versions = a.inplace_version, b.inplace_version
    for number in range(1, 4):
        set_gradients({a: ONES})
        opt.step()
        assert (a.inplace_version, b.inplace_version) == (versions[0] + number, versions[1])


@pytest.mark.parametrize(
    "clip", [ClipGradByGlobalNorm(0.1), ClipGradByNorm(0.1), ClipGradByValue(0.1)], ids=str
)
def test_gradients_are_left_alone(clip: Any) -> None:
    params = [parameter(name, ONES, dtype) for name, dtype in (("a", "float32"), ("b", "bfloat16"))]
    opt = rc.RAdam(LR, parameters=params, grad_clip=clip, weight_decay=0.5)
    set_gradients(dict.fromkeys(params, ONES))
    grads = [param.grad for param in params]
    before = [
        (grad.numpy(), grad.data_ptr(), grad.inplace_version, param.grad.data_ptr())
        for param, grad in zip(params, grads)
    ]
    for _ in range(7):
        opt.step()
    for param, grad, (value, address, version, of_param) in zip(params, grads, before):
        np.testing.assert_array_equal(param.grad.numpy(), value)
        assert (grad.data_ptr(), grad.inplace_version) == (address, version)
        assert param.grad.data_ptr() == of_param


def strided(values: Any) -> list[Any]:
    """Tensors of the same values whose memory is not in order."""
    array = np.asarray(values, "float32")
    wide = np.full((array.shape[0], 2 * array.shape[1]), 99.0, "float32")
    wide[:, ::2] = array
    flipped = np.ascontiguousarray(array.T)
    return [paddle.to_tensor(flipped).t(), paddle.to_tensor(wide)[:, ::2]]


@pytest.mark.parametrize("kind", [0, 1])
def test_gradients_that_are_views(kind: int) -> None:
    a, b = parameter("a", [ONES, ONES]), parameter("b", ONES)
    reference = Reference(a, b)
    opt = rc.RAdam(LR, parameters=[a, b], grad_clip=ClipGradByValue(0.8))
    for number in range(8):
        grads = np.random.default_rng(number).standard_normal((2, 3)).astype("float32")
        view = strided(grads)[kind]
        if number % 2:
            assert not view.is_contiguous()
        opt.apply_gradients([(a, view if number % 2 else paddle.to_tensor(grads)), (b, view[0])])
        clipped = np.clip(grads, -0.8, 0.8)
        reference.step({"a": clipped, "b": clipped[0]}, LR)
    reference.check(a, b)


@pytest.mark.parametrize("shape", [[0], [3, 0], []], ids=str)
def test_parameters_without_elements_or_dimensions(shape: list[int]) -> None:
    a, b = parameter("a", np.full(shape, 0.5)), parameter("b", ONES)
    reference = Reference(a, b)
    opt = rc.RAdam(LR, parameters=[a, b], grad_clip=ClipGradByGlobalNorm(1e9), weight_decay=0.1)
    reference.special = {}
    for _ in range(7):
        set_gradients({a: np.full(shape, 2.0), b: ONES})
        opt.step()
    assert a.shape == shape
    assert steps_of(opt) == {"a": 7, "b": 7}
    alone = parameter("a", np.full(shape, 0.5))
    other = rc.RAdam(LR, parameters=[alone], weight_decay=0.1)
    for _ in range(7):
        set_gradients({alone: np.full(shape, 2.0)})
        other.step()
    np.testing.assert_allclose(a.numpy(), alone.numpy(), rtol=1e-6)


def test_a_model_that_was_converted_after_a_step() -> None:
    layer = paddle.nn.Linear(3, 2)
    opt = rc.RAdam(LR, parameters=layer.parameters())
    layer(paddle.ones([1, 3])).sum().backward()
    opt.step()
    opt.clear_grad(set_to_zero=False)
    layer.to(dtype="float64")
    layer(paddle.ones([1, 3], dtype="float64")).sum().backward()
    assert layer.weight.dtype == paddle.float64
    name = layer.weight.name
    assert_refused(
        opt,
        ProgramError,
        f"'{name}' is now float64 .*moment1 must be float64; it is .*float32",
        *layer.parameters(),
    )
    again = rc.RAdam(LR, parameters=layer.parameters())
    again.step()
    assert len(steps_of(again)) == 2


@pytest.mark.parametrize("count", [1, 5])
def test_a_parameter_that_was_replaced_by_one_of_another_size(count: int) -> None:
    a, b = parameter("a", ONES), parameter("b", ONES)
    opt = rc.RAdam(LR, parameters=[a, b])
    set_gradients({a: ONES, b: ONES})
    opt.step()
    paddle.assign(paddle.zeros([count]), a)
    assert a.shape == [count]
    if count > 3:
        old = r"'a' has the shape \[3\], but the parameter has \[5\]"
        assert_refused(opt, UnsupportedError, old, a, b)
    opt.clear_grad(set_to_zero=False)
    set_gradients({a: np.ones(count), b: ONES})
    assert_refused(opt, ProgramError, r"'a' is now .*moment1.*of shape \[3\]", a, b)


def test_a_half_model_after_float32_steps_keeps_its_moments() -> None:
    layer = paddle.nn.Linear(3, 2)
    opt = rc.RAdam(LR, parameters=layer.parameters(), multi_precision=True)
    set_gradients({each: np.ones(each.shape) for each in layer.parameters()})
    opt.step()
    opt.clear_grad(set_to_zero=False)
    layer.to(dtype="bfloat16")
    set_gradients({each: np.ones(each.shape) for each in layer.parameters()})
    opt.step()
    assert steps_of(opt) == {each.name: 2 for each in layer.parameters()}
    masters = opt.state_dict()["master_weights"]
    for each in layer.parameters():
        np.testing.assert_array_equal(masters[each.name].astype("bfloat16").numpy(), each.numpy())
