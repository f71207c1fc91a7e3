"""What is changed of an optimizer after construction counts from the next ``minimize`` on."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np
import paddle
import pytest
from paddle.nn import ClipGradByGlobalNorm, ClipGradByNorm
from paddle.regularizer import L1Decay, L2Decay
from support.small_programs import SmallProgram, parameter

import radam_codegen as rc
from radam_codegen.errors import ArgumentError, ArgumentTypeError

pytestmark = pytest.mark.usefixtures("static_mode")

Change = Callable[[Any], Any]

STEPS = 9
LR = 0.05


class Own(ClipGradByNorm):  # type: ignore[misc]
    """Halves gradients, by operators of its own."""

    def _halved(self, params_grads: Any) -> Any:
        return [(param, paddle.scale(grad, 0.5)) for param, grad in params_grads]

    _pir_clip = _static_clip = _halved


def halved(params_grads: Any) -> Any:
    """As a function: Fleet's clip is no GradientClipBase either."""
    return [(param, paddle.scale(grad, 0.5)) for param, grad in params_grads]


def setting(name: str, value: Any) -> Change:
    return lambda optimizer: setattr(optimizer, name, value)


CHANGES: dict[str, Change] = {
    "_grad_clip: tighter": setting("_grad_clip", ClipGradByNorm(0.1)),
    "_grad_clip: None": setting("_grad_clip", None),
    "_grad_clip: unknown": setting("_grad_clip", Own(1.0)),
    "_grad_clip: a function": setting("_grad_clip", halved),
    "clip_norm": lambda optimizer: setattr(optimizer._grad_clip, "clip_norm", 0.1),
    "regularization: L1": setting("regularization", L1Decay(0.4)),
    "regularization: None": setting("regularization", None),
    "coefficient of L2Decay": lambda optimizer: setattr(optimizer.regularization, "_coeff", 0.5),
    "_beta1": setting("_beta1", 0.5),
    "_beta2": setting("_beta2", 0.9),
    "_epsilon": setting("_epsilon", 0.1),
}


def gradient(step: int) -> Any:
    return np.random.default_rng(step).standard_normal(4).astype("float32")


def optimizer_of(cls: Any) -> Any:
    return cls(LR, weight_decay=0.02, grad_clip=ClipGradByNorm(0.5))


def program(optimizer: Any, prefix: str, **kwargs: Any) -> SmallProgram:
    def build() -> Any:
        grad = paddle.static.data("grad", [4], "float32")
        first, second = (parameter(f"{prefix}_{name}", (4,)) for name in "ab")
        loss = paddle.mean(grad * first + second * second * grad)
        return loss, optimizer.minimize(loss, **kwargs)

    return SmallProgram(build).start()


def trained(built: SmallProgram, prefix: str, *, pruned: bool = False) -> Any:
    loss, minimized = built.result
    for step in range(STEPS):
        built.run([loss, minimized] if pruned else [loss], grad=gradient(step))
    return np.stack([built.read(f"{prefix}_{name}") for name in "ab"])


@pytest.mark.parametrize("name", CHANGES)
def test_before_and_between_minimizes(name: str) -> None:
    ends: dict[Any, list[Any]] = {rc.RAdam: [], paddle.optimizer.RAdam: []}
    for cls, reached in ends.items():
        changed_first = optimizer_of(cls)
        CHANGES[name](changed_first)
        reached.append(trained(program(changed_first, "first"), "first"))
        optimizer = optimizer_of(cls)
        # What was appended before the change stays as it is.
        before = program(optimizer, "before")
        CHANGES[name](optimizer)
        after = program(optimizer, "after")
        reached += [trained(before, "before"), trained(after, "after")]
    for ours, native in zip(ends[rc.RAdam], ends[paddle.optimizer.RAdam]):
        np.testing.assert_allclose(ours, native, 2e-5, 2e-6)
    first, unchanged, changed = ends[rc.RAdam]
    np.testing.assert_array_equal(first, changed)
    if name != "clip_norm":  # reads the clip that both programs share, but once
        assert np.abs(changed - unchanged).max() > 1e-4


@pytest.mark.parametrize("clip", [Own(1.0), halved], ids=["class", "function"])
def test_a_pruned_run_clips_too(clip: Any) -> None:
    ends = []
    for pruned in (False, True):
        optimizer = rc.RAdam(LR)
        optimizer._grad_clip = clip
        ends.append(trained(program(optimizer, "p"), "p", pruned=pruned))
    np.testing.assert_array_equal(*ends)
    unclipped = trained(program(rc.RAdam(LR), "p"), "p")
    assert np.abs(ends[0] - unclipped).max() > 1e-3


def test_a_list_that_was_replaced() -> None:
    def build() -> Any:
        grad = paddle.static.data("grad", [4], "float32")
        first, second = parameter("p_a", (4,)), parameter("p_b", (4,))
        optimizer = rc.RAdam(LR, parameters=[first, second])
        optimizer._parameter_list = [second]
        loss = paddle.mean(grad * (first + second))
        return loss, optimizer.minimize(loss)

    built = SmallProgram(build).start()
    a, b = trained(built, "p")
    np.testing.assert_array_equal(a, np.full(4, 0.5, "float32"))
    assert not np.array_equal(b, a)


def test_entries_of_groups() -> None:
    """Native RAdam takes no groups in static mode: the plan says what is followed."""
    groups = [{"params": ["p_a"]}, {"params": ["p_b"], "weight_decay": 0.1, "epsilon": 1e-4}]
    optimizer = rc.RAdam(LR, parameters=groups, grad_clip=ClipGradByGlobalNorm(1.0))
    assert [set(each) for each in optimizer._param_groups] == [
        {"params", "weight_decay", "grad_clip"},
        {"params", "weight_decay", "epsilon", "grad_clip"},
    ]
    optimizer._param_groups[0].update(learning_rate=0.5, weight_decay=L1Decay(0.3))
    optimizer._param_groups[1].update(beta1=0.5, grad_clip=None)
    optimizer._grad_clip = ClipGradByNorm(2.0)
    program(optimizer, "p")
    first, second = optimizer.plan.groups
    assert (first.tensors[0].lr_scale, second.tensors[0].lr_scale) == (0.5, 1.0)
    assert (first.clip.kind.value, first.clip.bound) == ("norm", 2.0)
    assert second.clip.kind.value == "none"
    assert (first.beta1, second.beta1, second.epsilon) == (0.9, 0.5, 1e-4)
    assert [each.tensors[0].decay.kind.value for each in (first, second)] == ["l1", "l2"]


@pytest.mark.parametrize(
    ("change", "error", "message"),
    [
        (setting("_beta2", 1.0), ArgumentError, "Invalid _beta2: 1.0"),
        (setting("_grad_clip", 3), ArgumentTypeError, "'_grad_clip' is 3 of type int"),
        (setting("_grad_clip", lambda pairs: 3), ArgumentTypeError, "clip function returned int"),
        (setting("regularization", "x"), ArgumentTypeError, "'regularization' must be a number"),
    ],
)
def test_what_cannot_be_followed_leaves_programs_alone(
    change: Change, error: type[Exception], message: str
) -> None:
    optimizer = optimizer_of(rc.RAdam)
    kept = optimizer._grad_clip, optimizer.regularization, optimizer._beta2

    def build() -> Any:
        grad = paddle.static.data("grad", [4], "float32")
        loss = paddle.mean(grad * parameter("p_a", (4,)) + parameter("p_b", (4,)))
        programs = paddle.static.default_main_program(), paddle.static.default_startup_program()
        before = list(map(str, programs))
        change(optimizer)
        with pytest.raises(error, match=message):
            optimizer.minimize(loss)
        assert list(map(str, programs)) == before
        optimizer._grad_clip, optimizer.regularization, optimizer._beta2 = kept
        return loss, optimizer.minimize(loss)

    built = SmallProgram(build).start()
    assert not np.array_equal(trained(built, "p")[0], np.full(4, 0.5, "float32"))


def test_decays_of_parameters_are_read_anew() -> None:
    """A regularizer's coefficient that was changed before ``minimize``."""
    ends = []
    for cls in (rc.RAdam, paddle.optimizer.RAdam):
        own = L2Decay(0.3)

        def build(cls: Any = cls, own: Any = own) -> Any:
            grad = paddle.static.data("grad", [4], "float32")
            first = parameter("p_a", (4,), regularizer=own)
            second = parameter("p_b", (4,))
            optimizer = optimizer_of(cls)
            own._coeff = 0.7
            loss = paddle.mean(grad * (first + second))
            return loss, optimizer.minimize(loss)

        ends.append(trained(SmallProgram(build).start(), "p"))
    np.testing.assert_allclose(*ends, 2e-5, 2e-6)
