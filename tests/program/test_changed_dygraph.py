"""What is changed of an optimizer after construction counts from the next step on, as natively."""

from __future__ import annotations

import copy
import pickle
from collections.abc import Callable
from typing import Any

import numpy as np
import paddle
import pytest
from paddle.nn import ClipGradByGlobalNorm, ClipGradByNorm, ClipGradByValue
from paddle.regularizer import L1Decay, L2Decay
from support.eager import Reference, parameter, set_gradients, steps_of

import radam_codegen as rc
from radam_codegen.errors import ArgumentError, ArgumentTypeError, PlanError, UnsupportedError
from radam_codegen.ir.plan import ClipKind, Decay, DecayKind

pytestmark = pytest.mark.either_ir

Change = Callable[[Any, Any, Any], Any]  # optimizer and both parameters

STEPS, CHANGED_AT = 12, 5
LR = 0.05


class Shrinking:
    """A clip that Paddle does not have; Fleet's is no GradientClipBase either."""

    def __init__(self, factor: float = 0.01) -> None:
        self.factor = factor

    def __call__(self, params_grads: Any) -> Any:
        return [(param, grad * self.factor) for param, grad in params_grads]


class OneWay(ClipGradByGlobalNorm):  # type: ignore[misc]
    """A class derived from one that kernels know."""

    def _dygraph_clip(self, params_grads: Any) -> Any:
        return [(param, grad.abs() * 0.1) for param, grad in params_grads]


def setting(name: str, value: Any) -> Change:
    return lambda optimizer, a, b: setattr(optimizer, name, value)


def in_group(index: int, option: str, value: Any) -> Change:
    return lambda optimizer, a, b: optimizer._param_groups[index].__setitem__(option, value)


def of_both(attribute: str, value: Any) -> Change:
    def change(optimizer: Any, *params: Any) -> None:
        for param in params:
            setattr(param, attribute, value)

    return change


def rates_of_both(optimizer: Any, *params: Any) -> None:
    for param in params:
        param.optimize_attr["learning_rate"] = 0.1


def coefficient(optimizer: Any, a: Any, b: Any) -> None:
    optimizer.regularization._coeff = 0.5


def own_coefficient(optimizer: Any, a: Any, b: Any) -> None:
    a.regularizer._coeff = 0.5


def without_b(optimizer: Any, a: Any, b: Any) -> None:
    optimizer._parameter_list = optimizer._param_groups = [a]


#: Changes that native RAdam follows, without groups.
CHANGES: dict[str, Change] = {
    "_grad_clip: tighter": setting("_grad_clip", ClipGradByGlobalNorm(0.01)),
    "_grad_clip: of another kind": setting("_grad_clip", ClipGradByNorm(0.5)),
    "_grad_clip: by value": setting("_grad_clip", ClipGradByValue(0.1)),
    "_grad_clip: None": setting("_grad_clip", None),
    "_grad_clip: unknown": setting("_grad_clip", Shrinking()),
    "_grad_clip: derived": setting("_grad_clip", OneWay(1.0)),
    "clip_norm": lambda optimizer, a, b: setattr(optimizer._grad_clip, "clip_norm", 0.01),
    "regularization: L1": setting("regularization", L1Decay(0.4)),
    "regularization: L2": setting("regularization", L2Decay(0.4)),
    "regularization: None": setting("regularization", None),
    "coefficient of L2Decay": coefficient,
    "coefficient of a parameter's": own_coefficient,
    "_epsilon": setting("_epsilon", 0.1),
    "lists without a parameter": without_b,
    "_param_groups without a parameter": lambda optimizer, a, b: setattr(
        optimizer, "_param_groups", [a]
    ),
    "_parameter_list.pop()": lambda optimizer, a, b: optimizer._parameter_list.pop(),
    "learning rates of parameters": rates_of_both,
    "regularizers of parameters": of_both("regularizer", L1Decay(0.3)),
    "need_clip": lambda optimizer, a, b: setattr(a, "need_clip", False),
    "set_lr": lambda optimizer, a, b: optimizer.set_lr(0.01),
}

#: The same where parameters are in groups.
IN_GROUPS: dict[str, Change] = {
    "epsilon": in_group(0, "epsilon", 0.1),
    "grad_clip: None": in_group(0, "grad_clip", None),
    "grad_clip: tighter": in_group(1, "grad_clip", ClipGradByNorm(0.01)),
    "grad_clip: unknown": in_group(1, "grad_clip", Shrinking()),
    "coefficient of what is inherited": coefficient,
    "params": in_group(0, "params", []),
    "pop()": lambda optimizer, a, b: optimizer._param_groups.pop(),
    "learning rates of parameters": rates_of_both,
    "regularizers of parameters": of_both("regularizer", L1Decay(0.3)),
    "_default_dict": lambda optimizer, a, b: optimizer._default_dict.update(epsilon=0.1),
    "need_clip": lambda optimizer, a, b: setattr(a, "need_clip", False),
}


def gradients(step: int) -> tuple[Any, Any]:
    random = np.random.default_rng(step)
    return random.standard_normal(4), random.standard_normal(4)


def pair(**options: Any) -> tuple[Any, Any]:
    """Two parameters; ``a`` has a regularizer of its own where that is asked for."""
    a, b = parameter("a", [1.0, -2.0, 3.0, 0.5]), parameter("b", [0.2, 0.1, -0.3, -1.0])
    for name, value in options.items():
        setattr(a, name, value)
    return a, b


def optimizer_of(cls: Any, a: Any, b: Any, *, groups: bool = False, **options: Any) -> Any:
    listed: Any = [a, b]
    if groups:
        special = {"learning_rate": 0.5, "weight_decay": 0.1, "beta1": 0.8}
        listed = [{"params": [a]}, {"params": [b], **special}]
    arguments = {"weight_decay": 0.02, "grad_clip": ClipGradByGlobalNorm(0.5), **options}
    return cls(LR, parameters=listed, **arguments)


def step(optimizer: Any, a: Any, b: Any, at: int) -> None:
    set_gradients(dict(zip((a, b), gradients(at))))
    optimizer.step()


def train(cls: Any, change: Change | None, *, groups: bool = False) -> Any:
    own = {"regularizer": L2Decay(0.2)} if change is own_coefficient else {}
    a, b = pair(**own)
    optimizer = optimizer_of(cls, a, b, groups=groups)
    for at in range(STEPS):
        if at == CHANGED_AT and change is not None:
            change(optimizer, a, b)
        step(optimizer, a, b, at)
    return np.stack([a.numpy(), b.numpy()])


def check_follows(change: Change, *, groups: bool) -> None:
    ours, native = (
        train(cls, copy.deepcopy(change), groups=groups)
        for cls in (rc.RAdam, paddle.optimizer.RAdam)
    )
    np.testing.assert_allclose(ours, native, 2e-5, 2e-6)
    if change is not own_coefficient:
        unchanged = train(paddle.optimizer.RAdam, None, groups=groups)
        assert np.abs(native - unchanged).max() > 1e-3, "the change makes no difference"


@pytest.mark.parametrize("name", CHANGES)
def test_without_groups(name: str) -> None:
    check_follows(CHANGES[name], groups=False)


@pytest.mark.parametrize("name", IN_GROUPS)
def test_in_groups(name: str) -> None:
    check_follows(IN_GROUPS[name], groups=True)


@pytest.mark.parametrize("name", ["_beta1", "_beta2"])
def test_betas(name: str) -> None:
    """As in torch, powers are those of the beta there is now; native multiplies them up."""
    a, b = pair()
    optimizer, reference = optimizer_of(rc.RAdam, a, b, weight_decay=None, grad_clip=None), None
    reference = Reference(a, b)
    betas: dict[str, float] = {}
    for at in range(STEPS):
        if at == CHANGED_AT:
            setattr(optimizer, name, 0.7)
            betas[name[1:]] = 0.7
        step(optimizer, a, b, at)
        reference.step(dict(zip("ab", gradients(at))), LR, **betas)
    reference.check(a, b)


@pytest.mark.parametrize("name", ["_beta1", "_beta2"])
def test_betas_before_the_first_step(name: str) -> None:
    ends = []
    for cls in (rc.RAdam, paddle.optimizer.RAdam):
        a, b = pair()
        optimizer = optimizer_of(cls, a, b)
        setattr(optimizer, name, 0.7)
        for at in range(STEPS):
            step(optimizer, a, b, at)
        ends.append(np.stack([a.numpy(), b.numpy()]))
    np.testing.assert_allclose(*ends, 2e-5, 2e-6)


@pytest.mark.parametrize(
    ("index", "option", "value"), [(0, "learning_rate", 0.1), (1, "weight_decay", 0.7)]
)
def test_entries_of_groups_that_native_does_not_read_again(
    index: int, option: str, value: float
) -> None:
    """Like a new optimizer with the entry, from the state of the old one."""
    changed = train(rc.RAdam, in_group(index, option, value), groups=True)
    a, b = pair()
    first = optimizer_of(rc.RAdam, a, b, groups=True)
    for at in range(CHANGED_AT):
        step(first, a, b, at)
    groups = [{"params": [a]}, {"params": [b], "weight_decay": 0.1, "learning_rate": 0.5}]
    groups[1]["beta1"] = 0.8
    groups[index][option] = value
    second = rc.RAdam(LR, parameters=groups, weight_decay=0.02, grad_clip=ClipGradByGlobalNorm(0.5))
    second.set_state_dict(first.state_dict())
    for at in range(CHANGED_AT, STEPS):
        step(second, a, b, at)
    np.testing.assert_array_equal(changed, np.stack([a.numpy(), b.numpy()]))


INHERITED: dict[str, tuple[str, Any]] = {
    "clip": ("_grad_clip", ClipGradByNorm(0.01)),
    "unknown clip": ("_grad_clip", Shrinking()),
    "decay": ("regularization", L1Decay(0.4)),
    "beta1": ("_beta1", 0.5),
    "epsilon": ("_epsilon", 0.1),
}


@pytest.mark.parametrize("name", INHERITED)
def test_groups_inherit_what_the_optimizer_has_now(name: str) -> None:
    """Native groups keep what they were made with; a clip by Fleet would be lost on them."""
    attribute, value = INHERITED[name]
    a, b = pair()
    optimizer = optimizer_of(rc.RAdam, a, b, groups=True)
    step(optimizer, a, b, 0)
    setattr(optimizer, attribute, value)
    step(optimizer, a, b, 1)
    inherits, sets = optimizer.plan.groups
    assert sets.beta1 == 0.8  # what a group sets itself stays
    assert sets.tensors[0].decay == Decay(DecayKind.L2, 0.1)
    for group in optimizer.plan.groups:
        if attribute == "_grad_clip":
            wanted = ClipKind.NORM if name == "clip" else ClipKind.NONE
            assert group.clip.kind is wanted
        if attribute == "_epsilon":
            assert group.epsilon == 0.1
    if name == "decay":
        assert inherits.tensors[0].decay == Decay(DecayKind.L1, 0.4)
    if name == "beta1":
        assert inherits.beta1 == 0.5


def test_what_was_said_last_of_a_parameter_counts() -> None:
    """A group's option, the attribute of a parameter in it, and the group's option again."""
    a, b = pair()
    optimizer = optimizer_of(rc.RAdam, a, b, groups=True)
    scales = []

    def note() -> None:
        step(optimizer, a, b, len(scales))
        scales.append([group.tensors[0].lr_scale for group in optimizer.plan.groups])

    note()
    b.optimize_attr["learning_rate"] = 0.125
    note()
    optimizer._epsilon = 1e-7  # says nothing of rates
    optimizer._param_groups[0]["learning_rate"] = 3.0
    note()
    optimizer._param_groups[1]["learning_rate"] = 0.75
    note()
    optimizer._param_groups.pop(0)
    b.optimize_attr["learning_rate"] = 0.25
    note()
    assert scales == [[1.0, 0.5], [1.0, 0.125], [3.0, 0.125], [3.0, 0.75], [0.25]]


def test_param_groups_are_dicts_where_groups_were_given() -> None:
    a, b = pair()
    optimizer = optimizer_of(rc.RAdam, a, b, groups=True)
    native = optimizer_of(paddle.optimizer.RAdam, *pair(), groups=True)
    for ours, theirs in zip(optimizer._param_groups, native._param_groups):
        assert isinstance(ours, dict)
        assert set(ours) == set(theirs)
    assert optimizer._param_groups[0]["params"][0] is a
    flat = optimizer_of(rc.RAdam, a, b)
    assert flat._param_groups is flat._parameter_list


def test_a_parameter_that_is_listed_later_begins_anew() -> None:
    a, b = pair()
    c = parameter("c", [1.0, 2.0])
    optimizer, reference = rc.RAdam(LR, parameters=[a, b]), Reference(a, b, c)
    for at in range(STEPS):
        grads = dict(zip("ab", gradients(at)))
        if at == CHANGED_AT:
            optimizer._parameter_list = optimizer._param_groups = [c, a, b]
        if at >= CHANGED_AT:
            grads["c"] = [1.0, -0.5 * at]
            set_gradients({c: grads["c"]})
        step(optimizer, a, b, at)
        reference.step(grads, LR)
    reference.check(a, b, c)
    assert steps_of(optimizer) == {"a": STEPS, "b": STEPS, "c": STEPS - CHANGED_AT}


def test_a_group_that_is_added_later() -> None:
    a, b = pair()
    optimizer, reference = rc.RAdam(LR, parameters=[{"params": [a]}]), Reference(a, b)
    step(optimizer, a, b, 0)
    reference.step({"a": gradients(0)[0]}, LR)
    optimizer._add_param_group({"params": [b], "epsilon": 0.1})
    step(optimizer, a, b, 1)
    reference.step({"a": gradients(1)[0]}, LR)
    reference.step({"b": gradients(1)[1]}, LR, epsilon=0.1)
    reference.check(a, b)
    optimizer.clear_grad(set_to_zero=False)
    assert a.grad is None
    assert b.grad is None


def test_a_list_that_was_replaced_counts_for_minimize_as_natively() -> None:
    ends = []
    for cls in (rc.RAdam, paddle.optimizer.RAdam):
        a, b = pair()
        optimizer = optimizer_of(cls, a, b)
        optimizer._parameter_list = [a]
        loss = (a * b).sum()
        loss.backward()
        optimizer.minimize(loss)
        ends.append(np.stack([a.numpy(), b.numpy()]))
    np.testing.assert_allclose(*ends, 2e-6)


def test_state_of_a_parameter_that_is_listed_no_more_stays() -> None:
    a, b = pair()
    optimizer = rc.RAdam(LR, parameters=[a, b])
    step(optimizer, a, b, 0)
    without_b(optimizer, a, b)
    step(optimizer, a, b, 1)
    assert steps_of(optimizer) == {"a": 2, "b": 1}
    optimizer._parameter_list = optimizer._param_groups = [a, b]
    step(optimizer, a, b, 2)
    assert steps_of(optimizer) == {"a": 3, "b": 2}


@pytest.mark.parametrize("how", [copy.deepcopy, lambda each: pickle.loads(pickle.dumps(each))])
def test_copies_follow_too(how: Callable[[Any], Any]) -> None:
    a, b = pair()
    optimizer = optimizer_of(rc.RAdam, a, b, groups=True)
    step(optimizer, a, b, 0)
    optimizer._param_groups[1]["learning_rate"] = 0.25
    try:
        twin = how(optimizer)
    except (TypeError, ValueError) as error:
        pytest.skip(f"Paddle cannot do that to parameters: {error}")
    twin_a, twin_b = twin._parameter_list
    assert twin._param_groups[0]["params"][0] is twin_a
    for at, clip in enumerate((Shrinking(), Shrinking(0.5), ClipGradByNorm(0.3)), 1):
        for changed in (optimizer, twin):
            changed._grad_clip = clip
            changed._param_groups[0]["epsilon"] = 0.1
        step(optimizer, a, b, at)
        step(twin, twin_a, twin_b, at)
        np.testing.assert_array_equal(twin_a.numpy(), a.numpy())
        np.testing.assert_array_equal(twin_b.numpy(), b.numpy())
    assert [group.clip.bound for group in twin.plan.groups] == [0.3, 0.3]


def test_decoupled_decay_follows_its_coefficient() -> None:
    a, b = pair()
    options = {"decoupled_weight_decay": True, "grad_clip": None}
    optimizer = optimizer_of(rc.RAdam, a, b, **options)
    coefficient(optimizer, a, b)
    step(optimizer, a, b, 0)
    assert optimizer.plan.groups[0].tensors[0].decay == Decay(DecayKind.DECOUPLED, 0.5)
    optimizer.regularization = 0.25
    step(optimizer, a, b, 1)
    assert optimizer.plan.groups[0].tensors[0].decay == Decay(DecayKind.DECOUPLED, 0.25)
    optimizer.regularization = L2Decay(0.1)
    with pytest.raises(ArgumentTypeError, match="decoupled_weight_decay=True takes"):
        step(optimizer, a, b, 2)


def test_a_clip_may_leave_parameters_out() -> None:
    a, b = pair()
    optimizer = rc.RAdam(LR, parameters=[a, b])
    optimizer._grad_clip = lambda pairs: [each for each in pairs if each[0] is a]
    before = b.numpy()
    step(optimizer, a, b, 0)
    np.testing.assert_array_equal(b.numpy(), before)
    assert not np.array_equal(a.numpy(), [1.0, -2.0, 3.0, 0.5])


@pytest.mark.parametrize("cls", [rc.RAdam, paddle.optimizer.RAdam])
def test_a_rate_that_hapi_reduces(cls: Any) -> None:
    """The callback assigns to an attribute that native RAdam does not read again."""
    paddle.seed(3)
    network = paddle.nn.Linear(2, 1)
    optimizer = cls(LR, parameters=network.parameters())
    model = paddle.Model(network)
    model.prepare(optimizer, paddle.nn.MSELoss())
    reduce = paddle.callbacks.ReduceLROnPlateau(factor=1e-2, patience=1, verbose=0)
    reduce.set_model(model)
    reduce.on_train_begin()
    batch = [np.ones([4, 2], "float32")], [np.zeros([4, 1], "float32")]
    model.train_batch(*batch)
    for _ in range(3):
        reduce.on_eval_end({"loss": [1.0]})
    assert optimizer.get_lr() <= 1e-2 * LR
    before = network.weight.numpy()
    model.train_batch(*batch)
    moved = np.abs(network.weight.numpy() - before).max()
    assert moved > 0.0
    assert bool(moved < 1e-2 * LR) == (cls is rc.RAdam)


REFUSED: dict[str, tuple[Change, type[Exception], str]] = {
    "beta1": (setting("_beta1", 1.5), ArgumentError, "Invalid _beta1: 1.5"),
    "beta2": (setting("_beta2", "x"), ArgumentTypeError, "'_beta2' must be a number"),
    "epsilon": (setting("_epsilon", -1.0), ArgumentError, "Invalid _epsilon value: -1.0"),
    "clip": (setting("_grad_clip", 0.5), ArgumentTypeError, "'_grad_clip' is 0.5 of type float"),
    "what a clip returns": (
        setting("_grad_clip", lambda pairs: None),
        ArgumentTypeError,
        "the gradient clip function returned NoneType",
    ),
    "decay": (setting("regularization", -0.5), ArgumentError, "Invalid regularization: -0.5"),
    "coefficient": (
        lambda optimizer, a, b: setattr(optimizer.regularization, "_coeff", -1.0),
        PlanError,
        "parameter 'a': the decay's coefficient is -1.0",
    ),
    "regularizer": (
        lambda optimizer, a, b: setattr(a, "regularizer", lambda *args: 0.0),
        UnsupportedError,
        "parameter 'a' has a regularizer of type function",
    ),
}
REFUSED_IN_GROUPS: dict[str, tuple[Change, type[Exception], str]] = {
    "beta1": (in_group(1, "beta1", 1.0), ArgumentError, "parameter group 1: Invalid beta1: 1.0"),
    "clip": (
        in_group(0, "grad_clip", 3),
        ArgumentTypeError,
        "parameter group 0: 'grad_clip' is 3 of type int",
    ),
    "option": (
        in_group(1, "lr", 3.0),
        ArgumentError,
        "parameter group 1 has the unknown option 'lr'",
    ),
    "params": (
        lambda optimizer, a, b: optimizer._param_groups[0].pop("params"),
        ArgumentError,
        "parameter group 0 has no 'params'",
    ),
}


@pytest.mark.parametrize(
    ("groups", "name"),
    [(False, each) for each in REFUSED] + [(True, each) for each in REFUSED_IN_GROUPS],
)
def test_what_cannot_be_followed_is_refused_by_name(groups: bool, name: str) -> None:
    change, error, message = (REFUSED_IN_GROUPS if groups else REFUSED)[name]
    a, b = pair()
    optimizer = optimizer_of(rc.RAdam, a, b, groups=groups)
    step(optimizer, a, b, 0)
    before = a.numpy(), b.numpy()
    change(optimizer, a, b)
    for _ in range(2):  # it goes on being refused
        with pytest.raises(error, match=message):
            step(optimizer, a, b, 1)
    np.testing.assert_array_equal(np.stack(before), np.stack([a.numpy(), b.numpy()]))
