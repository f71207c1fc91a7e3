"""bfloat16 and float16, master weights, and steps that found_inf skips, in dynamic graph."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from typing import Any
from unittest import mock

import numpy as np
import paddle
import pytest
from paddle.nn import ClipGradByGlobalNorm
from support.eager import Reference, parameter, set_gradients, steps_of, values_of

import radam_codegen as rc
from radam_codegen.ir.plan import Clip, ClipKind

LR = 0.05
HALVES = ["bfloat16", "float16"]


def values(seed: int, count: int = 65) -> Any:
    return np.random.default_rng(seed).standard_normal(count)


def exact(value: Any, dtype: str) -> Any:
    """Values as a type holds them."""
    return paddle.to_tensor(value).astype(dtype).astype("float64").numpy()


@pytest.mark.parametrize("dtype", HALVES)
def test_master_weights_follow_the_reference(dtype: str) -> None:
    a = parameter("a", values(0), dtype)
    reference = Reference(a)
    opt = rc.RAdam(LR, parameters=[a], multi_precision=True)
    for number in range(1, 31):
        grads = exact(values(number), dtype)
        set_gradients({a: grads})
        opt.step()
        reference.step({"a": grads}, LR)
        master = opt.state_dict()["master_weights"]["a"]
        assert master.dtype == paddle.float32
        np.testing.assert_allclose(master.numpy(), reference["a"], 2e-5, 2e-6)
        np.testing.assert_array_equal(a.numpy(), master.astype(dtype).numpy())
    assert master is opt._master_weights["a"]


@pytest.mark.parametrize("dtype", HALVES)
def test_without_master_weights_each_step_rounds_once(dtype: str) -> None:
    a = parameter("a", values(0), dtype)
    opt = rc.RAdam(LR, parameters=[a])
    reference = Reference(a)
    half_a_step = {"bfloat16": 2.0**-8, "float16": 2.0**-11}[dtype]
    for number in range(1, 13):
        grads = exact(values(number), dtype)
        set_gradients({a: grads})
        opt.step()
        reference.step({"a": grads}, LR)
        (now,) = values_of(a)
        np.testing.assert_allclose(now, reference["a"], 1.01 * half_a_step, 1e-6)
        # What the parameter has lost is lost.
        reference._states["a"].param = now
    assert "master_weights" not in opt.state_dict()
    for name in ("moment1", "moment2"):
        assert opt._accumulators[name]["a"].dtype == paddle.float32


def test_small_updates_add_up_in_a_master_weight_alone() -> None:
    plain, kept = parameter("a", [100.0], "bfloat16"), parameter("b", [100.0], "bfloat16")
    for param, multi_precision in ((plain, False), (kept, True)):
        opt = rc.RAdam(1e-2, parameters=[param], multi_precision=multi_precision)
        for _ in range(200):
            set_gradients({param: [1.0]})
            opt.step()
    assert values_of(plain)[0] == 100.0
    assert values_of(kept)[0] <= 99.5


def test_all_types_in_one_group_under_one_norm() -> None:
    dtypes = ("float32", "float64", "bfloat16", "float16")
    params = [parameter(dtype, values(0), dtype) for dtype in dtypes]
    reference = Reference(*params)
    opt = rc.RAdam(LR, parameters=params, grad_clip=ClipGradByGlobalNorm(0.5), multi_precision=True)
    for number in range(8):
        grads = {dtype: exact(values(number), dtype) for dtype in dtypes}
        set_gradients({param: grads[param.name] for param in params})
        opt.step()
        reference.step(grads, LR, clip=Clip(ClipKind.GLOBAL_NORM, 0.5))
    assert set(opt.state_dict()["master_weights"]) == {"bfloat16", "float16"}
    masters = opt.state_dict()["master_weights"]
    for name, found in {**{param.name: param for param in params}, **masters}.items():
        np.testing.assert_allclose(
            found.astype("float64").numpy(), reference[name], 2e-5, 2e-6, err_msg=name
        )


@pytest.mark.parametrize("dtype", HALVES)
def test_gradients_that_mixed_precision_keeps_in_float32(dtype: str) -> None:
    a = parameter("a", values(0), dtype)
    reference = Reference(a)
    opt = rc.RAdam(LR, parameters=[a], multi_precision=True)
    for number in range(8):
        grads = values(number).astype("float32")
        a.main_grad = paddle.to_tensor(grads)
        opt.step()
        reference.step({"a": grads}, LR)
    np.testing.assert_allclose(opt._master_weights["a"].numpy(), reference["a"], 2e-5, 2e-6)


def snapshot(opt: Any, *params: Any) -> dict[str, Any]:
    state = dict(opt.state_dict())
    masters = state.pop("master_weights", {})
    tensors = {**{each.name: each for each in params}, **state}
    tensors.update({f"{name} master": each for name, each in masters.items()})
    return {name: (each.numpy(), each.inplace_version) for name, each in tensors.items()}


@pytest.mark.parametrize("flag", [True, paddle.to_tensor([True]), paddle.to_tensor(True)], ids=str)
def test_found_inf_skips_everything(flag: Any) -> None:
    params = [parameter(dtype, values(0), dtype) for dtype in ("float32", "float64", "bfloat16")]
    opt = rc.RAdam(LR, parameters=params, weight_decay=0.1, multi_precision=True)
    for number in range(8):
        set_gradients({param: values(number) for param in params})
        opt._set_auxiliary_var("found_inf", paddle.to_tensor([False]))
        opt.step()
        before = snapshot(opt, *params)
        assert len(before) == 3 + 3 * 3 + 1
        set_gradients({param: np.full(65, np.inf) for param in params})
        opt._set_auxiliary_var("found_inf", flag)
        opt.step()
        for name, (value, version) in snapshot(opt, *params).items():
            np.testing.assert_array_equal(value, before[name][0], err_msg=name)
            assert version == before[name][1], name
    assert steps_of(opt) == {param.name: 8 for param in params}


def test_skipped_steps_are_as_if_they_had_not_been() -> None:
    skipped, plain = parameter("a", values(0)), parameter("a", values(0))
    opt, other = (rc.RAdam(LR, parameters=[param]) for param in (skipped, plain))
    for number in range(12):
        found = number % 3 == 1
        set_gradients({skipped: values(number), plain: values(number)})
        opt._set_auxiliary_var("found_inf", paddle.to_tensor([found]))
        opt.step()
        if not found:
            other.step()
    np.testing.assert_array_equal(skipped.numpy(), plain.numpy())


def test_a_first_step_that_is_skipped() -> None:
    a = parameter("a", values(0), "bfloat16")
    (before,) = values_of(a)
    opt = rc.RAdam(LR, parameters=[a], multi_precision=True)
    opt._set_auxiliary_var("found_inf", paddle.to_tensor([True]))
    set_gradients({a: np.full(65, np.nan)})
    opt.step()
    np.testing.assert_array_equal(values_of(a)[0], before)
    assert steps_of(opt) == {}
    opt._set_auxiliary_var("found_inf", None)
    reference = Reference(a)
    set_gradients({a: np.ones(65)})
    opt.step()
    reference.step({"a": np.ones(65)}, LR)
    np.testing.assert_allclose(opt._master_weights["a"].numpy(), reference["a"], 2e-5, 2e-6)


def test_a_flag_after_steps_without_one() -> None:
    a = parameter("a", values(0))
    opt = rc.RAdam(LR, parameters=[a])
    set_gradients({a: np.ones(65)})
    opt.step()
    before = a.numpy()
    opt._set_auxiliary_var("found_inf", True)
    opt.step()
    np.testing.assert_array_equal(a.numpy(), before)
    assert steps_of(opt) == {"a": 1}


@pytest.fixture
def make_scaler() -> Iterator[Callable[..., Any]]:
    """Makes scalers that work on a CPU, where Paddle switches them off."""
    module = "paddle.amp.grad_scaler"
    tracer = mock.Mock(**{"_expected_place.is_gpu_place.return_value": True})
    state = mock.Mock(amp_dtype="float16")
    with (
        mock.patch(f"{module}._dygraph_tracer", return_value=tracer),
        mock.patch(f"{module}.amp_global_state", return_value=state),
    ):
        yield paddle.amp.GradScaler


def test_a_grad_scaler_skips_what_overflows(make_scaler: Any) -> None:
    a = parameter("a", values(0))
    reference = Reference(a)
    opt = rc.RAdam(LR, parameters=[a])
    # Lowering its scale, a scaler prints it in a way that newer NumPy refuses: it never gets there.
    scaler = make_scaler(init_loss_scaling=64.0, decr_every_n_nan_or_inf=2)
    for number in range(10):
        overflows = number in (0, 4)
        factor = values(number + 1).astype("float32")
        scaled = scaler.scale((a * paddle.to_tensor(factor)).sum())
        if overflows:
            scaled = scaled * float("inf")
        scaled.backward()
        before = a.numpy()
        scaler.step(opt)
        scaler.update()
        opt.clear_grad()
        assert scaler._decr_count == overflows
        if overflows:
            np.testing.assert_array_equal(a.numpy(), before)
        else:
            reference.step({"a": factor}, LR)
            reference.check(a)
    assert steps_of(opt) == {"a": 8}


def test_a_grad_scaler_with_minimize(make_scaler: Any) -> None:
    a = parameter("a", values(0))
    reference = Reference(a)
    opt = rc.RAdam(LR, parameters=[a])
    scaler = make_scaler(init_loss_scaling=128.0)
    for _ in range(7):
        scaled = scaler.scale((a * 3.0).sum())
        scaled.backward()
        scaler.minimize(opt, scaled)
        opt.clear_grad()
        reference.step({"a": np.full(65, 3.0)}, LR)
    reference.check(a)


def test_a_scaler_that_is_switched_off() -> None:
    a = parameter("a", values(0))
    reference = Reference(a)
    opt = rc.RAdam(LR, parameters=[a])
    scaler = paddle.amp.GradScaler(enable=False)
    for _ in range(7):
        scaled = scaler.scale((a * 3.0).sum())
        scaled.backward()
        scaler.step(opt)
        scaler.update()
        opt.clear_grad()
        reference.step({"a": np.full(65, 3.0)}, LR)
    reference.check(a)


def test_bfloat16_autocast_trains() -> None:
    paddle.seed(3)
    layers = paddle.nn.Sequential(
        paddle.nn.Linear(4, 16), paddle.nn.Tanh(), paddle.nn.Linear(16, 1)
    )
    opt = rc.RAdam(0.02, parameters=layers.parameters())
    data = paddle.to_tensor(np.random.default_rng(0).standard_normal((32, 4)).astype("float32"))
    losses = []
    for _ in range(40):
        with paddle.amp.auto_cast(dtype="bfloat16", level="O1"):
            loss = ((layers(data) - data.sum(axis=1, keepdim=True)) ** 2).mean()
        loss.backward()
        opt.step()
        opt.clear_grad()
        losses.append(float(loss))
    assert losses[-1] < 0.5 * losses[0]
