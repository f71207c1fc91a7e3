"""Parameters that are views, such as ``x.t()``: they are trained where they lie, as native does."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np
import paddle
import pytest
from paddle.nn import ClipGradByGlobalNorm
from support.eager import steps_of

import radam_codegen as rc
from radam_codegen.errors import UnsupportedError

pytestmark = pytest.mark.either_ir

LR = 0.05


def random(shape: Any, seed: int, dtype: str = "float32") -> Any:
    array = np.random.default_rng(seed).standard_normal(shape)
    return paddle.to_tensor(array).astype(dtype)


def view_of(tensor: Any, name: str) -> Any:
    tensor.stop_gradient = False
    tensor.name = name
    return tensor


VIEWS: dict[str, Callable[[Any], Any]] = {
    "transposed": lambda base: base.t(),
    "every other column": lambda base: base[:, ::2],
    "every other column from the second": lambda base: base[:, 1::2],
    "a block": lambda base: base[2:9, 3:7],
    "a column": lambda base: base[:, 4],
    "permuted": lambda base: base.reshape([3, 4, 16]).transpose([2, 0, 1]),
}
OPTIONS: dict[str, Callable[[], dict[str, Any]]] = {
    "plain": dict,
    "clip and decay": lambda: {"grad_clip": ClipGradByGlobalNorm(3.0), "weight_decay": 0.1},
}


class Training:
    """Views of some bases, between two ordinary parameters."""

    def __init__(self, optimizer: Any, *views: str, dtype: str = "float32", **options: Any) -> None:
        self.bases = [random((12, 16), seed, dtype) for seed, _ in enumerate(views)]
        self.views = [
            view_of(VIEWS[kind](base), f"view_{number}")
            for number, (kind, base) in enumerate(zip(views, self.bases))
        ]
        assert not any(each.is_contiguous() for each in self.views)
        self.ordinary = [
            view_of(random([7], 50, dtype), "first"),
            view_of(random([3, 5], 51, dtype), "last"),
        ]
        self.params = [self.ordinary[0], *self.views, self.ordinary[1]]
        self.optimizer = optimizer(LR, parameters=self.params, **options)

    def run(self, steps: int = 8, first: int = 0) -> list[Any]:
        for step in range(first, first + steps):
            for number, each in enumerate(self.params):
                each.grad = random(each.shape, 100 * step + number, str(each.dtype).split(".")[-1])
            self.optimizer.step()
        return [each.astype("float64").numpy() for each in (*self.bases, *self.ordinary)]


def assert_close(results: Any, expected: Any, tolerance: float = 2e-5) -> None:
    for one, another in zip(results, expected):
        np.testing.assert_allclose(one, another, tolerance, tolerance)


@pytest.mark.parametrize("options", OPTIONS)
@pytest.mark.parametrize("dtype", ["float32", "float64"])
def test_all_of_the_bases_as_native(options: str, dtype: str) -> None:
    ours = Training(rc.RAdam, *VIEWS, dtype=dtype, **OPTIONS[options]())
    native = Training(paddle.optimizer.RAdam, *VIEWS, dtype=dtype, **OPTIONS[options]())
    assert_close(ours.run(), native.run())
    for kind in ("moment1", "moment2"):
        for name, moment in ours.optimizer._accumulators[kind].items():
            assert list(moment.shape) == list(native.optimizer._accumulators[kind][name].shape)
    assert steps_of(ours.optimizer) == {each.name: 8 for each in ours.params}
    assert len(ours.optimizer._stepper._prepared) == 1


def test_views_of_one_base_that_lie_between_each_other() -> None:
    def train(optimizer: Any) -> Any:
        base = random((12, 16), 1)
        params = [view_of(base[:, part::4], f"part_{part}") for part in range(4)]
        opt = optimizer(LR, parameters=params)
        for step in range(8):
            for each in params:
                each.grad = random(each.shape, step)
            opt.step()
        return base.numpy()

    np.testing.assert_allclose(train(rc.RAdam), train(paddle.optimizer.RAdam), 2e-5, 2e-5)


@pytest.mark.parametrize("multi_precision", [False, True])
def test_sixteen_bits_as_an_ordinary_parameter(multi_precision: bool) -> None:
    base = random((6, 8), 1, "bfloat16")
    view, plain = view_of(base.t(), "view"), view_of(base.t().contiguous().clone(), "plain")
    opt = rc.RAdam(LR, parameters=[view, plain], multi_precision=multi_precision)
    for step in range(8):
        view.grad = random((8, 6), step, "bfloat16")
        plain.grad = random((8, 6), step, "bfloat16")
        opt.step()
    np.testing.assert_array_equal(
        base.t().astype("float32").numpy(), plain.astype("float32").numpy()
    )


def test_a_checkpoint_whose_moments_are_views_is_taken() -> None:
    kinds = ("transposed", "a block")
    whole = Training(rc.RAdam, *kinds)
    expected = whole.run(8)
    first = Training(rc.RAdam, *kinds)
    first.run(4)
    state = first.optimizer.state_dict()
    strided = {
        key: value.t().contiguous().t() if len(value.shape) == 2 else value
        for key, value in state.items()
    }
    assert any(not each.is_contiguous() for each in strided.values())
    second = Training(rc.RAdam, *kinds)
    for one, another in zip((*second.bases, *second.ordinary), (*first.bases, *first.ordinary)):
        one.copy_(another, True)
    second.optimizer.set_state_dict(strided)
    assert_close(second.run(4, first=4), expected, 0.0)


def test_autograd_notices_the_update_once() -> None:
    training = Training(rc.RAdam, "transposed")
    (view,) = training.views
    before = view.inplace_version
    training.run(1)
    assert view.inplace_version == before + 1
    loss = (view * view).sum()
    training.run(1)
    with pytest.raises(RuntimeError, match=r"inplace|in-place|version"):
        loss.backward()


def test_a_skipped_step_leaves_the_view_alone() -> None:
    training = Training(rc.RAdam, "transposed")
    before = training.bases[0].numpy()
    training.optimizer._set_auxiliary_var("found_inf", True)
    training.run(1)
    np.testing.assert_array_equal(training.bases[0].numpy(), before)
    assert training.views[0].inplace_version == 0


def test_a_parameter_that_becomes_a_view_and_is_one_no_more() -> None:
    def train(optimizer: Any) -> Any:
        param = view_of(random((8, 6), 1), "param")
        opt = optimizer(LR, parameters=[param])
        for step in range(9):
            if step == 3:
                param.data = random((6, 8), 2).t()
                assert not param.is_contiguous()
            elif step == 6:
                param.data = random((8, 6), 3)
            param.grad = random((8, 6), 10 + step)
            opt.step()
        return param.numpy()

    np.testing.assert_allclose(train(rc.RAdam), train(paddle.optimizer.RAdam), 2e-5, 2e-5)


def refused(params: list[Any], match: str, prepare: Callable[[Any], None] | None = None) -> None:
    opt = rc.RAdam(LR, parameters=params)
    for each in params:
        if each.grad is None:
            each.grad = paddle.ones(each.shape)
    if prepare is not None:
        opt.step()
        prepare(opt)
    before = [each.numpy() for each in params]
    with pytest.raises(UnsupportedError, match=match):
        opt.step()
    for each, value in zip(params, before):
        np.testing.assert_array_equal(each.numpy(), value)


def test_views_that_share_elements_are_refused_by_name() -> None:
    base = random((6, 8), 1)
    turned, whole = view_of(base.t(), "turned"), view_of(base, "whole")
    refused([whole, turned], "'turned' is a view .*shares elements with parameter 'whole'")
    base = random((6, 8), 1)
    one, other = view_of(base[:, 0:3], "one"), view_of(base[:, 2:5], "other")
    refused([one, other], "'other' is a view .*shares elements with parameter 'one'")
    wide = view_of(paddle.as_strided(random([6], 1), [3, 4], [1, 1]), "wide")
    refused([wide], "'wide' is a view .*some elements of which share memory")


def test_a_gradient_or_state_over_a_view_is_refused_by_name() -> None:
    base = random((6, 8), 1)
    view, plain = view_of(base.t(), "view"), view_of(random((6, 8), 2), "plain")
    plain.grad = paddle.ones((6, 8))
    plain.grad.get_tensor()._share_data_with(base.get_tensor())
    refused([view, plain], "'view' .*shares elements with the gradient of parameter 'plain'")

    def share(opt: Any) -> None:
        opt._accumulators["moment2"]["own"].get_tensor()._share_data_with(base.get_tensor())

    base = random((8, 8), 1)
    own = view_of(base.t(), "own")
    refused([own], "'own' .*shares elements with the moment2 of parameter 'own'", share)
