"""Random trainings: what users can say to the optimizer, what it must come to, and what it must do.

A :class:`Training` is drawn in the users' terms. What each parameter's numbers come to is derived
here from the documented rules alone (:func:`expected_groups`), and run through the float64
reference, with which a training in a program or in dynamic graph is compared after every step.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any

import numpy as np
import paddle
from hypothesis import strategies as st
from paddle.nn import ClipGradByGlobalNorm, ClipGradByNorm, ClipGradByValue
from paddle.optimizer import lr as rates
from paddle.regularizer import L1Decay, L2Decay

import radam_codegen as rc
from radam_codegen.ir.dtypes import DType
from radam_codegen.ir.plan import Clip, ClipKind, Decay, DecayKind, GroupPlan, TensorPlan
from support.agreement import wide
from support.plans import encode
from support.reference import ReferenceState, reference_step

__all__ = [
    "RATES",
    "Follower",
    "Group",
    "Param",
    "Training",
    "attributes",
    "make_optimizer",
    "trainings",
]

Array = np.ndarray[Any, np.dtype[Any]]

_NONE, _L2, _L1 = DecayKind.NONE, DecayKind.L2, DecayKind.L1
_FREE, _GLOBAL = ClipKind.NONE, ClipKind.GLOBAL_NORM
_F32, _F64, _BF16, _F16 = DType.FLOAT32, DType.FLOAT64, DType.BFLOAT16, DType.FLOAT16

Family = tuple[ClipKind, tuple[tuple[DType, DecayKind], ...]]

#: What may shape a group's kernel, each of which has to be compiled: its clip, and the types and
#: decays of which it has at least one parameter each.
FAMILIES: tuple[Family, ...] = (
    (_FREE, ((_F32, _NONE),)),
    (_FREE, ((_F32, _L2),)),
    (_FREE, ((_F32, _L1), (_F32, _L2))),
    (_GLOBAL, ((_F32, _NONE),)),
    (_GLOBAL, ((_F32, _L2),)),
    (_GLOBAL, ((_F32, _L1),)),
    (_GLOBAL, ((_F32, _NONE), (_F32, _L2))),
    (ClipKind.NORM, ((_F32, _L2),)),
    (ClipKind.VALUE, ((_F32, _L1), (_F32, _L2))),
    (_FREE, ((_F64, _NONE),)),
    (_GLOBAL, ((_F64, _L2),)),
    (ClipKind.VALUE, ((_F64, _L1),)),
    (ClipKind.NORM, ((_F32, _NONE), (_F64, _NONE))),
    (_FREE, ((_BF16, _NONE),)),
    (_GLOBAL, ((_F32, _L2), (_BF16, _L2))),
    (ClipKind.NORM, ((_F16, _L2),)),
)
#: With master weights beside the parameters.
MASTER_FAMILIES: tuple[Family, ...] = (
    (_FREE, ((_BF16, _NONE),)),
    (_GLOBAL, ((_F32, _L2), (_BF16, _L2))),
    (ClipKind.NORM, ((_F16, _L1),)),
    (_GLOBAL, ((_F32, _NONE),)),
)
#: Where a flag may skip a step.
SKIP_FAMILIES: tuple[Family, ...] = (
    (_FREE, ((_F32, _L2),)),
    (_GLOBAL, ((_F32, _NONE),)),
    (_GLOBAL, ((_F64, _L1),)),
    (_FREE, ((_BF16, _L2),)),
)
#: Where decay is decoupled, except for what parameters say themselves.
DECOUPLED_FAMILIES: tuple[Family, ...] = (
    (_FREE, ((_F32, DecayKind.DECOUPLED),)),
    (_GLOBAL, ((_F32, DecayKind.DECOUPLED), (_F32, _L1))),
    (ClipKind.NORM, ((_F64, DecayKind.DECOUPLED),)),
    (_FREE, ((_BF16, DecayKind.DECOUPLED),)),
)

#: Schedules by name; each is made anew for every training.
RATES: dict[str, Callable[[], Any]] = {
    "0.02": lambda: 0.02,
    "0.0": lambda: 0.0,
    "piecewise": lambda: rates.PiecewiseDecay([2, 5], [0.05, 0.02, 0.1]),
    "exponential": lambda: rates.ExponentialDecay(0.05, 0.8),
    "cosine": lambda: rates.CosineAnnealingDecay(0.05, 6),
    "warmup": lambda: rates.LinearWarmup(0.03, 4, 0.0, 0.05),
    "warmup of steps": lambda: rates.LinearWarmup(rates.StepDecay(0.05, 2), 3, 0.01, 0.05),
    "noam": lambda: rates.NoamDecay(64, 4, 0.3),
    "lambda": lambda: rates.LambdaDecay(0.04, lambda step: 1.0 / (1.0 + step)),
    "cyclic": lambda: rates.CyclicLR(0.01, 0.05, 3, 2),
}

SHAPES = ((), (0,), (3, 0), (1,), (7,), (8,), (9,), (2, 4), (3, 3), (17,), (33,), (5, 1, 3), (130,))


@dataclass(frozen=True)
class Param:
    """A parameter, and what its ``ParamAttr`` says; None: nothing."""

    name: str
    shape: tuple[int, ...]
    dtype: DType
    learning_rate: float | None = None
    regularizer: Decay | None = None
    need_clip: bool = True
    trainable: bool = True


@dataclass(frozen=True)
class Group:
    """Parameters, and the options that the group sets itself."""

    params: tuple[Param, ...]
    options: Mapping[str, Any]
    #: How many parameters, the first ones, have gradients together or not at all, as the kernel
    #: would be another one without.
    together: int = 0


@dataclass(frozen=True)
class Training:
    """An optimizer's arguments, and what happens to it.

    Clips and decays are those of plans; :func:`make_optimizer` turns them into Paddle's.
    """

    groups: tuple[Group, ...]
    #: Whether the groups are given as such; or there is one, and its parameters are listed.
    grouped: bool
    beta1: float
    beta2: float
    epsilon: float
    decay: Decay
    clip: Clip
    #: How L2 decays of optimizer and groups are given: as ``number``, ``object`` or ``tensor``.
    decay_form: str
    multi_precision: bool
    decoupled: bool
    #: Whether each step is skipped; None where there is no such flag.
    skipped: tuple[bool, ...] | None
    rate: str
    steps: int
    #: Numbers of the step and names of the parameters that get no gradient then.
    missing: frozenset[tuple[int, str]]
    seed: int

    @property
    def params(self) -> tuple[Param, ...]:
        """All parameters in order."""
        return tuple(param for group in self.groups for param in group.params)

    def start(self) -> list[Array]:
        """Values to start from, some of them zero; uint16 arrays hold bfloat16 bits."""
        random = np.random.default_rng([self.seed, 0])
        found = []
        for param in self.params:
            value = np.asarray(random.standard_normal(param.shape))
            value[random.random(param.shape) < 0.05] = 0.0
            found.append(encode(value, param.dtype))
        return found

    def gradients(self, step: int) -> dict[str, Array]:
        """Gradients by parameter, without those that are missing; bfloat16 as uint16."""
        random = np.random.default_rng([self.seed, step])
        scales = 10.0 ** np.random.default_rng([self.seed]).uniform(-2.5, 1, len(self.params))
        found = {}
        for param, scale in zip(self.params, scales):
            value = np.asarray(scale * random.standard_normal(param.shape))
            value[random.random(param.shape) < 0.03] = 0.0
            if (step, param.name) not in self.missing and param.trainable:
                found[param.name] = encode(value, param.dtype)
        return found


def expected_groups(training: Training, present: Mapping[str, Any]) -> list[GroupPlan]:
    """What a step comes to by the documented rules, over the parameters that have a gradient."""
    plans = []
    for group in training.groups:
        options = group.options
        tensors = tuple(
            _expected_tensor(training, options, param)
            for param in group.params
            if param.name in present
        )
        if tensors:
            plans.append(
                GroupPlan(
                    tensors,
                    options.get("beta1", training.beta1),
                    options.get("beta2", training.beta2),
                    options.get("epsilon", training.epsilon),
                    options.get("grad_clip", training.clip),
                )
            )
    return plans


def _expected_tensor(training: Training, options: Mapping[str, Any], param: Param) -> TensorPlan:
    decay = options.get("weight_decay", training.decay)
    if training.decoupled and decay.kind is not _NONE:
        decay = replace(decay, kind=DecayKind.DECOUPLED)
    if param.regularizer is not None and "weight_decay" not in options:
        decay = param.regularizer
    attribute = 1.0 if param.learning_rate is None else param.learning_rate
    return TensorPlan(
        param.name,
        param.shape,
        param.dtype,
        param.dtype,
        _F64 if param.dtype is _F64 else _F32,
        training.multi_precision and param.dtype in (_BF16, _F16),
        options.get("learning_rate", attribute),
        decay,
        param.need_clip,
    )


def make_optimizer(training: Training, given: Mapping[str, Any], rate: Any) -> Any:
    """The optimizer; ``given`` are parameters or their names, by name."""
    parameters: list[Any] = [
        {"params": [given[param.name] for param in group.params], **_group_options(training, group)}
        for group in training.groups
    ]
    return rc.RAdam(
        rate,
        training.beta1,
        training.beta2,
        training.epsilon,
        parameters if training.grouped else parameters[0]["params"],
        _decay_argument(training.decay, training.decay_form),
        _clip_argument(training.clip),
        multi_precision=training.multi_precision,
        decoupled_weight_decay=training.decoupled,
    )


def _group_options(training: Training, group: Group) -> dict[str, Any]:
    """A group's options as Paddle takes them."""
    options = dict(group.options)
    if "weight_decay" in options:
        options["weight_decay"] = _decay_argument(options["weight_decay"], training.decay_form)
    if "grad_clip" in options:
        options["grad_clip"] = _clip_argument(options["grad_clip"])
    return options


def attributes(param: Param) -> dict[str, Any]:
    """What to hand to ``ParamAttr``."""
    found: dict[str, Any] = {"need_clip": param.need_clip, "trainable": param.trainable}
    if param.learning_rate is not None:
        found["learning_rate"] = param.learning_rate
    if param.regularizer is not None:
        found["regularizer"] = _decay_argument(param.regularizer, "object")
    return found


def _decay_argument(decay: Decay, form: str) -> Any:
    if decay.kind is _NONE:
        return None
    if decay.kind is _L1:
        return L1Decay(decay.coefficient)
    if form == "tensor":
        return paddle.full([], decay.coefficient, "float64")
    return decay.coefficient if form == "number" else L2Decay(decay.coefficient)


def _clip_argument(clip: Clip) -> Any:
    if clip.kind is ClipKind.NONE:
        return None
    if clip.kind is ClipKind.VALUE:
        return ClipGradByValue(clip.bound, clip.lower)
    return {_GLOBAL: ClipGradByGlobalNorm, ClipKind.NORM: ClipGradByNorm}[clip.kind](clip.bound)


@st.composite
def trainings(draw: st.DrawFn, static: bool) -> Training:
    """A training; ``static`` ones miss no gradients."""
    mode = draw(st.sampled_from(("plain",) * 4 + ("master", "skip", "decoupled")))
    families = draw(
        st.lists(
            st.sampled_from(
                {
                    "plain": FAMILIES,
                    "master": MASTER_FAMILIES,
                    "skip": SKIP_FAMILIES,
                    "decoupled": DECOUPLED_FAMILIES,
                }[mode]
            ),
            min_size=1,
            max_size=3,
        )
    )
    grouped = len(families) > 1 or draw(st.booleans())
    decay = draw(_default_decays(families, grouped, mode == "decoupled"))
    clip = draw(_clips(families[0][0] if not grouped else draw(st.sampled_from(tuple(ClipKind)))))
    groups: list[Group] = []
    for number, family in enumerate(families):
        groups.append(draw(_groups(f"g{number}", family, grouped, decay, clip, mode)))
    steps = 8
    if draw(st.integers(0, 9)) == 0:
        groups[0] = replace(
            groups[0],
            params=(
                *groups[0].params,
                replace(groups[0].params[0], name="frozen", trainable=False),
            ),
        )
    missing: frozenset[tuple[int, str]] = frozenset()
    if not static:
        missing = draw(_missing(tuple(groups), steps))
    return Training(
        groups=tuple(groups),
        grouped=grouped,
        beta1=draw(st.sampled_from((0.9, 0.0, 0.5, 0.99))),
        beta2=draw(st.sampled_from((0.999, 0.9, 0.95, 0.99, 0.9999, 0.5, 0.0, 1 - 1e-8))),
        epsilon=draw(st.sampled_from((1e-8, 1e-6, 1e-2))),
        decay=decay,
        clip=clip,
        decay_form=draw(
            st.sampled_from(("number", "tensor", *(("object",) if mode != "decoupled" else ())))
        ),
        multi_precision=mode == "master",
        decoupled=mode == "decoupled",
        skipped=draw(_skips(steps)) if mode == "skip" else None,
        rate=draw(st.sampled_from(tuple(RATES))),
        steps=steps,
        missing=missing,
        seed=draw(st.integers(0, 2**31)),
    )


def _skips(steps: int) -> st.SearchStrategy[tuple[bool, ...]]:
    return st.lists(st.booleans(), min_size=steps, max_size=steps).map(tuple)


@st.composite
def _default_decays(
    draw: st.DrawFn, families: Sequence[Family], grouped: bool, decoupled: bool
) -> Decay:
    """The optimizer's decay, such that each parameter's can be had beside it."""
    wanted = [{kind for _, kind in classes} for _, classes in families]
    if decoupled:
        # Under this flag, numbers are decoupled; what else there is, parameters say themselves.
        return Decay(_L2, draw(_coefficients()))
    if any(len(kinds) > 1 and _NONE in kinds for kinds in wanted):
        return Decay()
    if not grouped and wanted[0] == {_NONE}:
        return Decay()
    kind = draw(st.sampled_from((_NONE, _L2, _L1)))
    return Decay(kind, 0.0 if kind is _NONE else draw(_coefficients()))


@st.composite
def _clips(draw: st.DrawFn, kind: ClipKind) -> Clip:
    if kind is ClipKind.NONE:
        return Clip()
    bound = draw(st.sampled_from((0.05, 0.7, 3.0, 1e6)))
    if kind is ClipKind.VALUE:
        return Clip(kind, bound, draw(st.sampled_from((-bound, -0.01, 0.01))))
    return Clip(kind, bound)


def _coefficients() -> st.SearchStrategy[float]:
    return st.sampled_from((0.01, 0.0, 0.1, 0.5))


@st.composite
def _groups(
    draw: st.DrawFn,
    prefix: str,
    family: Family,
    grouped: bool,
    decay: Decay,
    clip: Clip,
    mode: str,
) -> Group:
    clip_kind, classes = family
    options: dict[str, Any] = {}
    if grouped:
        simple = (("learning_rate", (0.1, 0.0, 2)), ("beta1", (0.8, 0.0)), ("beta2", (0.95, 0.9)))
        for option, values in (*simple, ("epsilon", (1e-7, 1e-3))):
            if draw(st.integers(0, 2)) == 0:
                options[option] = draw(st.sampled_from(values))
        if clip.kind is not clip_kind or draw(st.booleans()):
            options["grad_clip"] = draw(_clips(clip_kind))
        kinds = {kind for _, kind in classes}
        (kind, *others) = kinds
        unreachable = kind is _NONE and decay.kind is not _NONE
        if not others and (unreachable or draw(st.booleans())):
            stored = _L2 if kind is DecayKind.DECOUPLED else kind
            options["weight_decay"] = Decay(stored, 0.0 if kind is _NONE else draw(_coefficients()))
    count = draw(st.integers(len(classes), len(classes) + 3))
    params = []
    for number in range(count):
        dtype, kind = classes[number] if number < len(classes) else draw(st.sampled_from(classes))
        params.append(
            Param(
                f"{prefix}_p{number}",
                draw(st.sampled_from(SHAPES)),
                dtype,
                draw(st.sampled_from((None, None, 0.25, 2.0, 0.0))),
                draw(_regularizers(kind, decay, "weight_decay" in options, mode)),
                draw(st.integers(0, 3)) > 0,
            )
        )
    return Group(tuple(params), options, len(classes) if len(classes) > 1 else 0)


@st.composite
def _regularizers(
    draw: st.DrawFn, kind: DecayKind, decay: Decay, overruled: bool, mode: str
) -> Decay | None:
    """What a parameter says itself, so that its decay is of a kind; anything where overruled."""
    if overruled:
        return draw(st.sampled_from((None, Decay(_L2, 0.3), Decay(_L1, 0.2))))
    if kind in (_NONE, DecayKind.DECOUPLED):
        return None
    inherited = decay.kind is kind and mode != "decoupled"
    own = Decay(kind, draw(_coefficients()))
    return draw(st.sampled_from((None, own))) if inherited else own


@st.composite
def _missing(draw: st.DrawFn, groups: tuple[Group, ...], steps: int) -> frozenset[tuple[int, str]]:
    """Gradients to leave out, such that a group keeps the classes of its kernel, or is left out."""
    if draw(st.booleans()):
        return frozenset()
    found: set[tuple[int, str]] = set()
    for group in groups:
        # Paddle cannot take a gradient of no elements away again.
        names = [param.name for param in group.params if 0 not in param.shape]
        together = {param.name for param in group.params[: group.together]}
        for step in range(1, steps + 1):
            if len(names) == len(group.params) and draw(st.integers(0, 7)) == 0:
                absent = names
            else:
                absent = [name for name in names if name not in together and draw(st.booleans())]
            found.update((step, name) for name in absent)
    return frozenset(found)


class Follower:
    """The reference's state of a training, by parameter."""

    def __init__(self, training: Training) -> None:
        self._training = training
        self._states = {
            param.name: ReferenceState(
                wide(value).reshape(param.shape), np.zeros(param.shape), np.zeros(param.shape)
            )
            for param, value in zip(training.params, training.start())
        }

    def step(self, number: int, rate: float) -> None:
        """Advance by a step."""
        skipped = self._training.skipped
        if skipped is not None and skipped[number - 1]:
            return
        grads = self._training.gradients(number)
        for plan in expected_groups(self._training, grads):
            reference_step(
                plan,
                [self._states[tensor.name] for tensor in plan.tensors],
                [wide(grads[tensor.name]) for tensor in plan.tensors],
                rate,
            )

    def compare(
        self,
        number: int,
        values: Mapping[str, Array],
        masters: Mapping[str, Array],
        steps: Mapping[str, int],
    ) -> None:
        """Demand that parameters, master weights and step counts are the reference's.

        Args:
            number: of the step.
            values: parameters by name; bfloat16 as uint16.
            masters: all float32 master weights by name of the parameter.
            steps: how often each parameter has stepped, of those that have state.
        """
        half = (_BF16, _F16)
        assert set(masters) == {
            param.name
            for param in self._training.params
            if self._training.multi_precision and param.dtype in half and param.name in steps
        }
        for param in self._training.params:
            state, value = self._states[param.name], values[param.name]
            at = f"step {number}, {param.name!r}"
            assert value.shape == param.shape, at
            assert steps.get(param.name, 0) == state.step, at
            if param.name in masters:
                np.testing.assert_array_equal(
                    value, encode(masters[param.name], param.dtype), err_msg=at
                )
                np.testing.assert_allclose(masters[param.name], state.param, 2e-5, 2e-6, err_msg=at)
                continue
            relative, absolute = _BOUNDS[param.dtype]
            np.testing.assert_allclose(wide(value), state.param, relative, absolute, err_msg=at)
            if param.dtype in half:
                # What was rounded away is gone, as it is meant to be.
                state.param = wide(value)


#: Relative and absolute bounds; of halves that are rounded at each step, after one step.
_BOUNDS = {
    _F64: (1e-10, 1e-10),
    _F32: (2e-5, 2e-6),
    _BF16: (2.0**-8 * 1.01, 2e-6),
    _F16: (2.0**-11 * 1.01, 2e-6),
}
