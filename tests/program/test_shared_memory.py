"""Tensors of a step in dynamic graph that share memory: updates in order, or a refusal."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from typing import Any

import numpy as np
import paddle
import pytest
from paddle.nn import ClipGradByGlobalNorm, ClipGradByNorm, ClipGradByValue
from support.overlap import LR, NUMEL, SHIFT, Layout, Training, over

import radam_codegen as rc
from radam_codegen.errors import RadamCodegenError, UnsupportedError

pytestmark = pytest.mark.either_ir

LAYOUTS = {
    "one buffer": Layout(b=0),
    "the second begins inside of the first": Layout(b=SHIFT),
    "the first begins inside of the second": Layout(a=SHIFT, b=0),
    "a gradient over its parameter": Layout(grad_a=0),
    "a gradient that begins inside of its parameter": Layout(grad_a=SHIFT),
    "a gradient that ends inside of its parameter": Layout(a=SHIFT, grad_a=0),
    "a gradient over an earlier parameter": Layout(grad_b=0),
    "a gradient over a later parameter": Layout(grad_a=2 * NUMEL),
    "gradients over each other's parameter": Layout(grad_a=2 * NUMEL, grad_b=0),
    "everything over everything": Layout(b=SHIFT, grad_a=SHIFT // 2, grad_b=2 * SHIFT),
}
OPTIONS: dict[str, Callable[[], dict[str, Any]]] = {
    "plain": dict,
    "global norm": lambda: {"grad_clip": ClipGradByGlobalNorm(100.0)},
    "norm": lambda: {"grad_clip": ClipGradByNorm(100.0)},
    "value": lambda: {"grad_clip": ClipGradByValue(0.5)},
    "decay": lambda: {"weight_decay": 0.1},
}


@pytest.fixture(autouse=True)
def threads() -> Iterator[None]:
    """More than one, and no divisor of the chunks."""
    rc.config(num_threads=3)
    yield
    rc.config(num_threads=None)


@pytest.fixture(autouse=True)
def clips_of_their_own(monkeypatch: pytest.MonkeyPatch) -> None:
    """Have native RAdam clip as it does in programs.

    In dynamic graph it scales gradients by the global norm in place, and whatever they lie over.
    """
    monkeypatch.setattr(paddle.nn.clip, "_can_inplace_clip_grad", lambda *_: False)


def make(optimizer: Any, **options: Any) -> Callable[..., Any]:
    return lambda parameters: optimizer(LR, parameters=parameters, **options)


def same_after_repeats(train: Callable[[], Training], expected: Any) -> None:
    """Several runs, which end in the same bits, and where they should."""
    results = [train().run() for _ in range(3)]
    for each in results:
        np.testing.assert_array_equal(each, results[0])
    np.testing.assert_allclose(results[0], expected, 2e-5, 2e-5)


@pytest.mark.parametrize("layout", LAYOUTS)
@pytest.mark.parametrize("options", OPTIONS)
def test_parameters_and_gradients_as_native(layout: str, options: str) -> None:
    where = LAYOUTS[layout]

    def train(optimizer: Any) -> Training:
        return Training(make(optimizer, **OPTIONS[options]()), where)

    if options == "decay" and abs(where.a - where.b) < NUMEL:
        # Native takes the term of the second from before the update of the first.
        training = train(rc.RAdam)
        before = training.memory.numpy()
        with pytest.raises(UnsupportedError, match=r"parameter 'b' shares .* 'a', .*decay term"):
            training.optimizer.step()
        np.testing.assert_array_equal(training.memory.numpy(), before)
        return
    same_after_repeats(lambda: train(rc.RAdam), train(paddle.optimizer.RAdam).run())


def test_a_parameter_that_is_not_clipped_reads_its_gradient_late() -> None:
    def train(optimizer: Any) -> Training:
        clip = ClipGradByGlobalNorm(100.0)
        training = Training(make(optimizer, grad_clip=clip), Layout(grad_b=0))
        training.params[1].need_clip = False
        return training

    same_after_repeats(lambda: train(rc.RAdam), train(paddle.optimizer.RAdam).run())


STATES = {
    "moment1 of both": (("moment1", "a"), ("moment1", "b")),
    "moment2 of both": (("moment2", "a"), ("moment2", "b")),
    "one's moment2 over the other's moment1": (("moment2", "a"), ("moment1", "b")),
}


@pytest.mark.parametrize("arrays", STATES)
def test_moments_over_one_another_as_native(arrays: str) -> None:
    def train(optimizer: Any) -> Training:
        training = Training(make(optimizer), Layout())
        for each in training.params:
            # A moment1 of something else over a moment2 of nearly nothing would be nearly anything.
            each.grad = each.grad.abs() + 0.5
        training.optimizer.step()
        (one, param), (other, another) = STATES[arrays]
        over(training.state(one)[param], training.state(other)[another])
        return training

    same_after_repeats(lambda: train(rc.RAdam), train(paddle.optimizer.RAdam).run())


@pytest.mark.parametrize("kind", ["moment1", "moment2"])
def test_a_moment_over_the_other_parameter_as_native(kind: str) -> None:
    def train(optimizer: Any) -> Training:
        training = Training(make(optimizer), Layout())
        training.optimizer.step()
        over(training.state(kind)["b"], training.params[0])
        training.memory.set_value(training.memory.abs())  # of moment2 a root is taken
        return training

    np.testing.assert_array_equal(train(rc.RAdam).run(1), train(rc.RAdam).run(1))
    np.testing.assert_allclose(
        train(rc.RAdam).run(1), train(paddle.optimizer.RAdam).run(1), 2e-5, 2e-5
    )


OWN = {
    "moments": (("moment1", "moment2"), r"moment[12] of parameter 'b' shares .* of parameter 'b'"),
    "moment1 and value": (("moment1", "value"), "'b' shares memory with .* 'b'"),
    "moment2 and value": (("moment2", "value"), "'b' shares memory with .* 'b'"),
    "moment1 and gradient": (("moment1", "gradient"), "gradient of parameter 'b'"),
    "moment2 and gradient": (("moment2", "gradient"), "gradient of parameter 'b'"),
}


@pytest.mark.parametrize("arrays", OWN)
def test_a_parameter_s_own_state_over_itself_is_refused(arrays: str) -> None:
    training = Training(make(rc.RAdam), Layout())
    training.optimizer.step()
    param = training.params[1]
    own = {
        "moment1": training.state("moment1")["b"],
        "moment2": training.state("moment2")["b"],
        "value": param,
        "gradient": param.grad,
    }
    (one, other), message = OWN[arrays]
    apart = own[one].clone()
    over(own[one], own[other])
    before = training.memory.numpy(), own["moment1"].numpy(), own["moment2"].numpy()
    with pytest.raises(UnsupportedError, match=message) as caught:
        training.optimizer.step()
    assert isinstance(caught.value, RadamCodegenError)
    after = training.memory.numpy(), own["moment1"].numpy(), own["moment2"].numpy()
    for one_array, another in zip(before, after):
        np.testing.assert_array_equal(one_array, another)
    over(own[one], apart)  # and with memory of its own it goes on
    training.optimizer.step()
    assert training.optimizer.state_dict()["b_step_0"].item() == 2


def one_by_one(training: Training, **options: Any) -> list[Any]:
    """Optimizers of a parameter each, in the order of the parameters."""
    return [rc.RAdam(LR, parameters=[each], **options) for each in training.params]


def test_master_weights_over_one_another() -> None:
    options = {"multi_precision": True}

    def shared(weights: Callable[[], list[Any]]) -> None:
        one, other = weights()
        over(one, other)

    def train() -> Training:
        training = Training(make(rc.RAdam, **options), Layout(), "bfloat16")
        training.optimizer.step()
        shared(lambda: [training.optimizer._master_weights[each] for each in "ab"])
        return training

    apart = Training(make(rc.RAdam, **options), Layout(), "bfloat16")
    optimizers = one_by_one(apart, **options)
    for each in optimizers:
        each.step()
    shared(lambda: [opt._master_weights[name] for opt, name in zip(optimizers, "ab")])
    for _ in range(8):
        for each in optimizers:
            each.step()
    same_after_repeats(train, apart.memory.astype("float32").numpy())


def test_decoupled_decay_of_parameters_over_one_another() -> None:
    options = {"weight_decay": 0.1, "decoupled_weight_decay": True}
    apart = Training(make(rc.RAdam, **options), LAYOUTS["one buffer"])
    optimizers = one_by_one(apart, **options)
    for _ in range(8):
        for each in optimizers:
            each.step()
    same_after_repeats(
        lambda: Training(make(rc.RAdam, **options), LAYOUTS["one buffer"]), apart.memory.numpy()
    )


def test_memory_that_is_shared_for_a_while() -> None:
    def train(optimizer: Any) -> Any:
        training = Training(make(optimizer), Layout())
        training.run(2)
        own = training.params[1].clone()
        over(training.params[1], training.params[0])
        training.run(3)
        over(training.params[1], own)
        return training.run(3), own.numpy()

    for one, another in zip(train(rc.RAdam), train(paddle.optimizer.RAdam)):
        np.testing.assert_allclose(one, another, 2e-5, 2e-5)


def test_a_later_group_is_refused_before_an_earlier_one_is_updated() -> None:
    training = Training(
        lambda parameters: rc.RAdam(LR, parameters=[{"params": [each]} for each in parameters]),
        Layout(grad_a=None),
    )
    training.optimizer.step()
    over(training.state("moment1")["b"], training.state("moment2")["b"])
    before = training.memory.numpy()
    with pytest.raises(UnsupportedError, match="'b'"):
        training.optimizer.step()
    np.testing.assert_array_equal(training.memory.numpy(), before)
    assert training.optimizer.state_dict()["a_step_0"].item() == 1


@pytest.mark.parametrize("layout", ["one buffer", "a gradient over an earlier parameter"])
def test_groups_are_updated_one_after_the_other(layout: str) -> None:
    def train(optimizer: Any) -> Training:
        def groups(parameters: Any) -> Any:
            options = [{"params": [each], "weight_decay": 0.1} for each in parameters]
            return optimizer(LR, parameters=options)

        return Training(groups, LAYOUTS[layout])

    same_after_repeats(lambda: train(rc.RAdam), train(paddle.optimizer.RAdam).run())


def test_a_skipped_step_of_shared_memory_leaves_it_alone() -> None:
    training = Training(make(rc.RAdam), LAYOUTS["everything over everything"])
    before = training.memory.numpy()
    training.optimizer._set_auxiliary_var("found_inf", True)
    np.testing.assert_array_equal(training.run(1), before)


def test_many_small_tensors_some_of_which_share_memory() -> None:
    """Batches of many tensors, of which few parts of memory are shared."""

    def train(optimizer: Any) -> Any:
        params = [paddle.create_parameter([1_024], "float32") for _ in range(200)]
        for number, each in enumerate(params):
            with paddle.no_grad():
                each.set_value(paddle.full([1_024], float(number)))
            each.grad = paddle.full([1_024], 1.0 + number)
        for one, another in ((3, 4), (3, 150), (80, 20), (199, 0)):
            over(params[one], params[another])
        over(params[60].grad, params[59])
        opt = optimizer(LR, parameters=params)
        for _ in range(8):
            opt.step()
        return np.stack([each.numpy() for each in params])

    result = train(rc.RAdam)
    np.testing.assert_array_equal(result, train(rc.RAdam))
    np.testing.assert_allclose(result, train(paddle.optimizer.RAdam), 2e-5, 2e-5)
