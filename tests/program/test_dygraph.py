"""The optimizer's methods in dynamic graph."""

from __future__ import annotations

import gc
import weakref
from typing import Any

import numpy as np
import paddle
import pytest
from paddle.nn import ClipGradByGlobalNorm
from paddle.optimizer.lr import ExponentialDecay, StepDecay
from paddle.regularizer import L1Decay, L2Decay
from support.eager import Reference, parameter, set_gradients, steps_of, values_of

import radam_codegen as rc
from radam_codegen.errors import ArgumentError, ProgramError, UnsupportedError
from radam_codegen.ir.plan import Clip, ClipKind, Decay, DecayKind
from radam_codegen.program import kernels, operator

LR = 0.05
ONES = [1.0, -2.0, 3.0]


def random_grads(*names: str, seed: int = 0) -> dict[str, Any]:
    random = np.random.default_rng(seed)
    return {name: random.standard_normal(3) for name in names}


def network() -> tuple[Any, Any]:
    paddle.seed(5)
    layers = paddle.nn.Sequential(paddle.nn.Linear(4, 8), paddle.nn.Tanh(), paddle.nn.Linear(8, 1))
    data = paddle.to_tensor(np.random.default_rng(0).standard_normal((16, 4)).astype("float32"))
    return layers, lambda: ((layers(data) - data.sum(axis=1, keepdim=True)) ** 2).mean()


def train(make: Any, steps: int = 30) -> tuple[list[Any], list[float]]:
    layers, loss_of = network()
    opt = make(layers.parameters())
    losses = []
    for _ in range(steps):
        loss = loss_of()
        loss.backward()
        opt.step()
        opt.clear_grad()
        losses.append(float(loss))
    return values_of(*layers.parameters()), losses


def test_a_network_learns_what_it_learns_natively() -> None:
    ours, losses = train(lambda params: rc.RAdam(LR, parameters=params, weight_decay=0.01))
    native, _ = train(
        lambda params: paddle.optimizer.RAdam(LR, parameters=params, weight_decay=0.01)
    )
    assert losses[-1] < 0.5 * losses[0]
    for one, other in zip(ours, native):
        np.testing.assert_allclose(one, other, rtol=1e-3, atol=1e-4)


def test_minimize_steps_once_by_the_gradients_there_are() -> None:
    stepped, minimized = parameter("a", ONES), parameter("a", ONES)
    results = []
    for param, use in ((stepped, False), (minimized, True)):
        opt = rc.RAdam(LR, parameters=[param])
        for _ in range(7):
            loss = (param**2).sum()
            loss.backward()
            results.append(opt.minimize(loss) if use else opt.step())
            opt.clear_grad()
    np.testing.assert_array_equal(minimized.numpy(), stepped.numpy())
    optimize_ops, params_grads = results[-1]
    assert optimize_ops == []
    ((param, grad),) = params_grads
    assert param is minimized
    assert grad.shape == param.shape


def test_minimize_some_parameters() -> None:
    a, b = parameter("a", ONES), parameter("b", ONES)
    opt = rc.RAdam(LR, parameters=[a, b])
    loss = (a * b).sum()
    loss.backward()
    opt.minimize(loss, parameters=[b])
    np.testing.assert_array_equal(a.numpy(), ONES)
    assert not np.array_equal(b.numpy(), ONES)
    assert steps_of(opt) == {"b": 1}


def test_backward_and_apply_gradients() -> None:
    a, b = parameter("a", ONES), parameter("b", ONES)
    reference = Reference(a, b)
    opt = rc.RAdam(LR, parameters=[a, b])
    loss = (a * b).sum()
    assert opt.backward(loss) == []  # as in Paddle: it collects what loss.backward() has made
    assert opt.apply_gradients([]) == []
    loss.backward()
    pairs = opt.backward(loss)
    assert [param for param, _ in pairs] == [a, b] or [p.name for p, _ in pairs] == ["a", "b"]
    reference.step({"a": b.numpy(), "b": a.numpy()}, LR)
    assert opt.apply_gradients(pairs) == []
    reference.check(a, b)


def test_apply_gradients_of_ones_own() -> None:
    a, b = parameter("a", ONES), parameter("b", ONES)
    reference = Reference(a, b)
    opt = rc.RAdam(LR, parameters=[a, b])
    for _ in range(7):
        opt.apply_gradients([(b, paddle.to_tensor([1.0, 2.0, 3.0])), (a, None)])
        reference.step({"b": [1.0, 2.0, 3.0]}, LR)
    reference.check(a, b)
    assert a.grad is None
    assert b.grad is None


@pytest.mark.parametrize("method", ["clear_grad", "clear_gradients", "zero_grad"])
def test_clearing_gradients(method: str) -> None:
    a, frozen = parameter("a", ONES), parameter("b", ONES)
    frozen.stop_gradient = True
    opt = rc.RAdam(LR, parameters=[a, frozen])
    set_gradients({a: ONES})
    opt.step()
    zeros = {"set_to_none": False} if method == "zero_grad" else {"set_to_zero": True}
    none = {"set_to_none": True} if method == "zero_grad" else {"set_to_zero": False}
    getattr(opt, method)(**zeros)
    np.testing.assert_array_equal(a.grad.numpy(), np.zeros(3))
    opt.step()  # a gradient of zeros is a gradient
    assert steps_of(opt) == {"a": 2}
    getattr(opt, method)(**none)
    assert a.grad is None
    before = a.numpy()
    opt.step()
    assert steps_of(opt) == {"a": 2}
    np.testing.assert_array_equal(a.numpy(), before)


def test_a_learning_rate_that_is_set() -> None:
    a = parameter("a", ONES)
    reference = Reference(a)
    opt = rc.RAdam(LR, parameters=[a])
    for rate in (LR, 0.5, 0.0, 0.1, 0.1, 0.2, 0.3, 0.4):
        opt.set_lr(rate)
        assert opt.get_lr() == rate
        grads = random_grads("a", seed=int(1000 * rate))
        set_gradients({a: grads["a"]})
        opt.step()
        reference.step(grads, rate)
    reference.check(a)
    with pytest.raises(TypeError):
        opt.set_lr("0.1")


def test_a_scheduler() -> None:
    a = parameter("a", ONES)
    reference = Reference(a)
    scheduler = ExponentialDecay(LR, 0.5)
    opt = rc.RAdam(scheduler, parameters=[a])
    with pytest.raises(RuntimeError, match="LRScheduler"):
        opt.set_lr(0.1)
    for number in range(8):
        if number == 4:
            scheduler = StepDecay(0.3, 1, 0.1)
            opt.set_lr_scheduler(scheduler)
        assert opt.get_lr() == scheduler()
        set_gradients({a: ONES})
        opt.step()
        reference.step({"a": ONES}, scheduler())
        scheduler.step()
    reference.check(a)
    with pytest.raises(TypeError):
        opt.set_lr_scheduler(0.1)


def test_a_scheduler_in_place_of_a_number() -> None:
    a = parameter("a", ONES)
    opt = rc.RAdam(LR, parameters=[a])
    opt.set_lr_scheduler(StepDecay(0.5, 1))
    assert opt.get_lr() == 0.5
    with pytest.raises(RuntimeError, match="LRScheduler"):
        opt.set_lr(0.1)


def test_parameters_without_a_gradient_keep_their_own_step() -> None:
    params = {name: parameter(name, ONES) for name in "abc"}
    reference = Reference(*params.values())
    clip = Clip(ClipKind.GLOBAL_NORM, 0.5)
    opt = rc.RAdam(LR, parameters=params.values(), grad_clip=ClipGradByGlobalNorm(0.5))
    plans = {}
    for number, names in enumerate(["ab", "a", "b", "ab", "a", "a", "a", "b", "ab", "a"] * 2):
        grads = random_grads(*names, seed=number)
        set_gradients({params[name]: grad for name, grad in grads.items()})
        opt.step()
        opt.clear_grad(set_to_zero=False)
        reference.step(grads, LR, clip=clip)
        reference.check(*params.values())
        # What was worked out for a set of gradients is kept for the next time.
        assert plans.setdefault(names, opt.plan) is opt.plan
    assert steps_of(opt) == {"a": 16, "b": 10}


def test_more_sets_of_gradients_than_are_remembered() -> None:
    params = {name: parameter(name, ONES) for name in "abcde"}
    reference = Reference(*params.values())
    opt = rc.RAdam(LR, parameters=params.values())
    for number in [*range(1, 32), *range(1, 32)]:
        names = [name for bit, name in enumerate("abcde") if number >> bit & 1]
        grads = random_grads(*names, seed=number)
        set_gradients({params[name]: grad for name, grad in grads.items()})
        opt.step()
        opt.clear_grad(set_to_zero=False)
        reference.step(grads, LR)
    reference.check(*params.values())
    assert len(opt._stepper._prepared) < 31


def test_groups() -> None:
    params = {name: parameter(name, ONES) for name in "abc"}
    params["b"].regularizer = L1Decay(0.2)
    l1, l2 = Decay(DecayKind.L1, 0.2), Decay(DecayKind.L2, 0.1)
    reference = Reference(*params.values(), a={"decay": l2}, b={"decay": l1}, c={"lr_scale": 0.5})
    opt = rc.RAdam(
        LR,
        parameters=[
            {"params": [params["a"], params["b"]], "grad_clip": ClipGradByGlobalNorm(0.7)},
            {
                "params": (each for each in [params["c"]]),
                "learning_rate": 0.5,
                "weight_decay": None,
                "beta1": 0.8,
                "beta2": 0.95,
                "epsilon": 1e-3,
            },
        ],
        weight_decay=0.1,
    )
    for number in range(8):
        grads = random_grads(*"abc", seed=number)
        set_gradients({params[name]: grad for name, grad in grads.items()})
        opt.step()
        reference.step(
            {name: grads[name] for name in "ab"}, LR, clip=Clip(ClipKind.GLOBAL_NORM, 0.7)
        )
        reference.step({"c": grads["c"]}, LR, beta1=0.8, beta2=0.95, epsilon=1e-3)
    reference.check(*params.values())
    assert len(opt.plan.groups) == 2
    # Native RAdam writes a group's options into the parameters that it is given.
    assert isinstance(params["b"].regularizer, L1Decay)
    assert params["c"].optimize_attr["learning_rate"] == 1.0


@pytest.mark.parametrize("shape", [[], [1]], ids=str)
def test_what_changes_between_steps_is_seen(shape: list[int]) -> None:
    a, b = parameter("a", ONES), parameter("b", ONES)
    reference = Reference(a, b)
    decay = paddle.full(shape, 0.1)
    clip = Clip(ClipKind.GLOBAL_NORM, 0.5)
    opt = rc.RAdam(LR, parameters=[a, b], weight_decay=decay, grad_clip=ClipGradByGlobalNorm(0.5))
    l2 = {"decay": Decay(DecayKind.L2, 0.1)}
    reference.special = {"a": l2, "b": l2}
    changes = [
        lambda: None,
        lambda: setattr(a, "need_clip", False) or l2.update(need_clip=False),
        lambda: (
            setattr(a, "regularizer", L1Decay(0.3)) or l2.update(decay=Decay(DecayKind.L1, 0.3))
        ),
        lambda: (
            setattr(a, "regularizer", L2Decay(0.4)) or l2.update(decay=Decay(DecayKind.L2, 0.4))
        ),
        lambda: a.optimize_attr.update(learning_rate=0.5) or l2.update(lr_scale=0.5),
        lambda: decay.set_value(paddle.full(shape, 0.7)),
        lambda: setattr(a, "regularizer", None),
        lambda: None,
    ]
    for number, change in enumerate(changes):
        # A dict of its own for each, so that b's stays what it was.
        if number == 1:
            l2 = dict(l2)
            reference.special["a"] = l2
        change()
        if number == 5:
            reference.special["b"] = {"decay": Decay(DecayKind.L2, decay.item())}
        if number == 6:
            l2["decay"] = Decay(DecayKind.L2, decay.item())
        grads = random_grads("a", "b", seed=number)
        set_gradients({a: grads["a"], b: grads["b"]})
        opt.step()
        reference.step(grads, LR, clip=clip)
        reference.check(a, b)


def test_a_clip_whose_bound_is_changed_is_seen() -> None:
    a = parameter("a", ONES)
    reference = Reference(a)
    clip = ClipGradByGlobalNorm(0.5)
    opt = rc.RAdam(LR, parameters=[a], grad_clip=clip)
    for number, bound in enumerate((0.5, 0.5, 0.05, 0.05, 2.0, 0.1, 0.1, 0.7)):
        clip.clip_norm = bound
        grads = random_grads("a", seed=number)
        set_gradients({a: grads["a"]})
        opt.step()
        reference.step(grads, LR, clip=Clip(ClipKind.GLOBAL_NORM, bound))
        reference.check(a)


def test_freezing_and_thawing() -> None:
    a, b = parameter("a", ONES), parameter("b", ONES)
    reference = Reference(a, b)
    opt = rc.RAdam(LR, parameters=[a, b])
    for number in range(9):
        a.stop_gradient = 3 <= number < 6
        grads = random_grads("a", "b", seed=number)
        set_gradients({a: grads["a"], b: grads["b"]})
        opt.step()
        if a.stop_gradient:
            del grads["a"]
        reference.step(grads, LR)
        reference.check(a, b)
    assert steps_of(opt) == {"a": 6, "b": 9}


def test_two_optimizers() -> None:
    a, b = parameter("a", ONES), parameter("b", ONES)
    reference = Reference(a, b)
    first, second = rc.RAdam(LR, parameters=[a]), rc.RAdam(0.5, beta2=0.95, parameters=[b])
    for number in range(8):
        grads = random_grads("a", "b", seed=number)
        set_gradients({a: grads["a"], b: grads["b"]})
        first.step()
        reference.step({"a": grads["a"]}, LR)
        if number % 2:
            second.step()
            reference.step({"b": grads["b"]}, 0.5, beta2=0.95)
        reference.check(a, b)
    assert steps_of(first) == {"a": 8}
    assert steps_of(second) == {"b": 4}


def test_two_optimizers_of_one_parameter_have_their_own_state() -> None:
    a = parameter("a", ONES)
    one, other = Reference(a), Reference(a)
    first, second = rc.RAdam(LR, parameters=[a]), rc.RAdam(LR, beta1=0.5, parameters=[a])
    for number in range(8):
        grads = random_grads("a", seed=number)
        set_gradients({a: grads["a"]})
        first.step()
        one._states["a"].param = other["a"]
        one.step(grads, LR)
        second.step()
        other._states["a"].param = one["a"]
        other.step(grads, LR, beta1=0.5)
        other.check(a)


def test_a_parameter_that_two_layers_share_steps_once() -> None:
    first, second = paddle.nn.Linear(3, 3), paddle.nn.Linear(3, 3)
    second.weight = first.weight
    both = paddle.nn.Sequential(first, second)
    assert len(both.parameters()) == 3
    opt = rc.RAdam(LR, parameters=both.parameters())
    reference = Reference(*both.parameters())
    for _ in range(7):
        both(paddle.to_tensor([ONES])).sum().backward()
        opt.step()
        reference.step({each.name: each.grad.numpy() for each in both.parameters()}, LR)
        opt.clear_grad()
    reference.check(*both.parameters())
    with pytest.raises(ArgumentError, match=first.weight.name):
        rc.RAdam(LR, parameters=[*first.parameters(), *second.parameters()])


def test_no_grad_around_the_step_and_a_gradient_after_it() -> None:
    a = parameter("a", ONES)
    opt = rc.RAdam(LR, parameters=[a])
    with paddle.no_grad():
        set_gradients({a: ONES})
        opt.step()
    assert not a.stop_gradient
    assert a.is_leaf
    opt.clear_grad()
    (a * a).sum().backward()
    np.testing.assert_allclose(a.grad.numpy(), 2 * a.numpy())


@pytest.mark.parametrize("multi_precision", [False, True])
def test_a_step_leaves_no_graph_behind(multi_precision: bool) -> None:
    a = parameter("a", ONES, "bfloat16")
    opt = rc.RAdam(LR, parameters=[a], multi_precision=multi_precision)
    set_gradients({a: ONES})
    with paddle.enable_grad():
        opt.step()
    tensors = [each for each in opt.state_dict().values() if isinstance(each, paddle.Tensor)]
    tensors += opt.state_dict().get("master_weights", {}).values()
    assert len(tensors) == 3 + multi_precision
    assert [each.name for each in tensors if not each.stop_gradient] == []


def test_an_optimizer_without_parameters_is_refused() -> None:
    with pytest.raises(AttributeError, match="should not be None in dygraph mode"):
        rc.RAdam(LR)


def test_nothing_to_do() -> None:
    a = parameter("a", ONES)
    opt = rc.RAdam(LR, parameters=[a])
    opt.step()
    np.testing.assert_array_equal(a.numpy(), ONES)
    assert steps_of(opt) == {}
    with pytest.raises(ProgramError, match="no plan"):
        _ = opt.plan


def test_step_is_for_dynamic_graph() -> None:
    opt = rc.RAdam(LR, parameters=[parameter("a", ONES)])
    paddle.enable_static()
    try:
        with pytest.raises(ProgramError, match="minimize"):
            opt.step()
    finally:
        paddle.disable_static()


def test_a_whole_step_is_not_traced() -> None:
    a = parameter("a", ONES)
    opt = rc.RAdam(LR, parameters=[a])

    def train_step(x: Any) -> Any:
        opt.step()
        return (a * x).sum()

    with pytest.raises(UnsupportedError, match="to_static"):
        paddle.jit.to_static(train_step, full_graph=True)(paddle.to_tensor(ONES))
    np.testing.assert_array_equal(a.numpy(), ONES)


def test_a_forward_pass_that_is_traced_and_an_eager_step() -> None:
    results = []
    data = paddle.to_tensor(np.linspace(-1, 1, 32).reshape(8, 4).astype("float32"))
    for traced in (False, True):
        paddle.seed(5)
        layer = paddle.nn.Linear(4, 2)
        forward = paddle.jit.to_static(layer, full_graph=True) if traced else layer
        opt = rc.RAdam(LR, parameters=layer.parameters())
        for _ in range(8):
            (forward(data) ** 2).mean().backward()
            opt.step()
            opt.clear_grad()
        results.append(values_of(*layer.parameters()))
    for one, other in zip(*results):
        np.testing.assert_allclose(one, other, rtol=1e-5, atol=1e-6)


def test_an_optimizer_is_collected_with_its_kernels_registration() -> None:
    a, b = parameter("a", ONES), parameter("b", ONES)
    opt = rc.RAdam(LR, parameters=[a, b])
    set_gradients({a: ONES})
    opt.step()
    set_gradients({b: ONES})
    opt.step()
    keys = [launch.key for each in opt._stepper._prepared for launch in each.launches]
    library = kernels.operator()
    assert len(set(keys)) == 2
    assert all(map(library.contains, keys))
    gone = [weakref.ref(opt), weakref.ref(a)]
    del opt, a, b
    gc.collect()
    assert [each() for each in gone] == [None, None]
    assert not any(map(library.contains, keys))


def test_the_garbage_collector_leaves_the_builder_of_programs_alone() -> None:
    param = parameter("collected", [1.0, 2.0, 3.0])
    optimizer = rc.RAdam(0.1, parameters=[param])
    set_gradients({param: [1.0, 1.0, 1.0]})
    optimizer.step()
    library = kernels.operator()
    asked: list[int] = []

    def build(key: int, launch: str) -> None:
        asked.append(key)

    with operator._lock:  # as if collected while another thread, or this one, was in there
        before = operator._builder
        operator._builder = build
        del optimizer
        gc.collect()
        assert operator._builder is build
        operator._builder = before
    assert not asked
    assert kernels.operator() is library
