"""One step in dynamic graph: the kernel is called directly on the tensors' memory.

Paddle's own way to call an operator would refuse to update a leaf parameter in place, after having
done so. Here no operator is in between: addresses are collected, the kernel runs, and the versions
of what it has updated are bumped, so that autograd notices a stale use.
"""

from __future__ import annotations

import ctypes
import itertools
import weakref
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from operator import attrgetter, itemgetter
from typing import Any

import numpy as np
import numpy.typing as npt
import paddle

from radam_codegen.errors import ProgramError, UnsupportedError
from radam_codegen.frontend.groups import GroupOptions, Groups
from radam_codegen.frontend.read_plan import PlannedGroup, read_plan
from radam_codegen.ir.dtypes import DType
from radam_codegen.ir.launch import LaunchSpec
from radam_codegen.ir.plan import TensorPlan, UpdatePlan
from radam_codegen.program import kernels
from radam_codegen.runtime import OperatorLibrary

__all__ = ["DygraphState", "DygraphStepper"]

# Plain functions, as map() calls them faster than a comprehension calls methods.
_address = paddle.Tensor.data_ptr
_bump = paddle.Tensor._bump_inplace_version
_is_sparse = paddle.Tensor.is_selected_rows
_is_contiguous = paddle.Tensor.is_contiguous
_memory_of = paddle.Tensor._holder_size
_have_same_shape = paddle.Tensor.is_same_shape
_dtype_of = attrgetter("dtype")
_need_clip_of = attrgetter("need_clip")
_regularizer_of = attrgetter("regularizer")
_attributes_of = attrgetter("optimize_attr")
_scale_of = itemgetter("learning_rate")

#: Keys of launches in dynamic graph; those of programs are positive.
_keys = itertools.count(-1, -1)

#: How many sets of parameters are remembered.
_KEPT = 8

#: Fields of ``radam_tensor``, 8 bytes each.
_PARAM, _GRAD, _MOMENT1, _MOMENT2, _MASTER, _NUMEL = range(6)


@dataclass(frozen=True)
class DygraphState:
    """State of one parameter in dynamic graph: Paddle tensors."""

    moment1: Any
    moment2: Any
    #: float32 master weight, or None.
    master: Any
    #: Step counts of the parameter's group, int64.
    step: Any
    #: The parameter's place in ``step``.
    index: int


@dataclass(frozen=True)
class _Launch:
    """A group of the plan, registered with the operator library under ``key``."""

    key: int
    group: PlannedGroup
    moment1: tuple[Any, ...]
    #: Tensors that are updated, by the field of ``radam_tensor`` and the rows that they stand in.
    updated: tuple[tuple[int, Any, tuple[Any, ...]], ...]
    #: A ``radam_tensor`` per row.
    table: npt.NDArray[np.int64]
    step: Any
    #: Places of the tensors in the step counts; None where these are all, in order.
    places: npt.NDArray[np.int64] | None


@dataclass(frozen=True, eq=False)
class _Prepared:
    """Launches for one set of parameters, and what they rest on."""

    fingerprint: tuple[Any, ...]
    plan: UpdatePlan
    launches: tuple[_Launch, ...]
    #: First moments, in the order of the parameters that were given.
    moment1: tuple[Any, ...]


class DygraphStepper:
    """Steps the parameters of one optimizer; what it remembers only saves time.

    It is copied and pickled with its optimizer, without what it remembers.
    """

    def __init__(self) -> None:
        # Several, the last used first: which parameters have gradients may alternate.
        self._prepared: list[_Prepared] = []

    def __getstate__(self) -> dict[str, Any]:
        return {"_prepared": []}

    def step(
        self,
        params: Sequence[Any],
        grads: Sequence[Any],
        groups: Groups,
        state_of: Callable[[Any, bool], DygraphState],
        lr: float,
        *,
        multi_precision: bool = False,
        found_inf: bool | None = None,
    ) -> UpdatePlan:
        """Update parameters by their gradients.

        Args:
            params: what to update, on the CPU, none of it frozen.
            grads: their gradients, of the same shapes.
            groups: the options of each parameter.
            state_of: gives the state of a parameter; told whether it wants a master weight.
            lr: learning rate of this step.
            multi_precision: keep master weights of bfloat16 and float16 parameters.
            found_inf: True skips the step; None when no such flag is in use.

        Returns:
            The plan of what was done.

        Raises:
            UnsupportedError: a gradient is sparse, has another shape than its parameter, or a type
                has no kernel. Nothing was updated then.
        """
        grads = _usable(params, grads)
        fingerprint = (
            tuple(map(id, params)),
            tuple(map(_memory_of, params)),
            tuple(map(_dtype_of, grads)),
            _attributes(params),
            tuple(map(_options_now, groups.options)),
            multi_precision,
            found_inf is None,
        )
        prepared = self._find(fingerprint)
        if prepared is None or not all(map(_have_same_shape, grads, prepared.moment1)):
            prepared = _prepare(
                params, grads, groups, state_of, multi_precision, found_inf is not None, fingerprint
            )
            self._prepared = [prepared, *self._prepared[: _KEPT - 1]]
        by_param = dict(zip(fingerprint[0], grads)) if len(prepared.launches) > 1 else None
        for launch in prepared.launches:
            ordered = grads if by_param is None else [by_param[id(p)] for p in launch.group.params]
            _run(launch, ordered, lr, bool(found_inf))
        return prepared.plan

    def _find(self, fingerprint: tuple[Any, ...]) -> _Prepared | None:
        for index, prepared in enumerate(self._prepared):
            if prepared.fingerprint == fingerprint:
                if index:
                    self._prepared.insert(0, self._prepared.pop(index))
                return prepared
        return None


def _attributes(params: Sequence[Any]) -> tuple[Any, ...]:
    """What of the parameters may be changed between steps and shapes the plan."""
    try:
        return (
            tuple(map(_need_clip_of, params)),
            tuple(map(_regularizer_of, params)),
            tuple(map(_scale_of, map(_attributes_of, params))),
        )
    except AttributeError:  # plain tensors, which have no such attributes
        names = ("need_clip", "regularizer", "optimize_attr")
        return tuple(str(getattr(each, name, None)) for each in params for name in names)


def _options_now(options: GroupOptions) -> tuple[Any, ...]:
    """What of a group may be changed between steps: a tensor's value, a clip's bounds."""
    decay, clip = options.weight_decay, options.grad_clip
    decay_now = decay.item() if isinstance(decay, paddle.Tensor) else decay
    return decay_now, None if clip is None else tuple(vars(clip).values())


def _usable(params: Sequence[Any], grads: Sequence[Any]) -> Sequence[Any]:
    """Gradients as the kernel can read them; refuses what it cannot."""
    if any(map(_is_sparse, grads)):
        index = [bool(_is_sparse(grad)) for grad in grads].index(True)
        raise UnsupportedError(
            f"the gradient of parameter {params[index].name!r} is sparse (SelectedRows), which "
            "RAdam does not support; build its Embedding with sparse=False"
        )
    if all(map(_is_contiguous, grads)):
        return grads
    return [grad.contiguous() for grad in grads]


@paddle.no_grad()  # type: ignore[untyped-decorator]
def _prepare(
    params: Sequence[Any],
    grads: Sequence[Any],
    groups: Groups,
    state_of: Callable[[Any, bool], DygraphState],
    multi_precision: bool,
    skip: bool,
    fingerprint: tuple[Any, ...],
) -> _Prepared:
    for param, grad in zip(params, grads):
        if not _have_same_shape(param, grad):
            raise UnsupportedError(
                f"the gradient of parameter {param.name!r} has the shape {list(grad.shape)}, but "
                f"the parameter has {list(param.shape)}"
            )
        if not param.is_contiguous():
            raise UnsupportedError(
                f"parameter {param.name!r} is a view with strides {param.strides}, which kernels "
                "cannot update in place; make it from contiguous()"
            )
    plan, planned = read_plan(
        list(zip(params, grads)), groups, multi_precision=multi_precision, skip=skip
    )
    launches = tuple(_prepare_launch(group, state_of) for group in planned)
    moment1 = {
        id(param): moment
        for launch in launches
        for param, moment in zip(launch.group.params, launch.moment1)
    }
    ordered = tuple(moment1[id(param)] for param in params)
    prepared = _Prepared(fingerprint, plan, launches, ordered)
    keys = tuple(launch.key for launch in launches)
    weakref.finalize(prepared, _forget, kernels.operator(), keys).atexit = False
    return prepared


def _prepare_launch(group: PlannedGroup, state_of: Callable[[Any, bool], DygraphState]) -> _Launch:
    states = tuple(
        state_of(param, tensor.master) for param, tensor in zip(group.params, group.plan.tensors)
    )
    for param, tensor, state in zip(group.params, group.plan.tensors, states):
        _check_state(param, tensor, state)
    spec = LaunchSpec.from_group(group.plan)
    key = next(_keys)
    kernels.register(key, spec)
    table = np.zeros((len(states), 6), np.int64)
    table[:, _NUMEL] = [tensor.numel for tensor in group.plan.tensors]
    with_master = [row for row, state in enumerate(states) if state.master is not None]
    every = slice(None)
    moment1 = tuple(state.moment1 for state in states)
    updated: list[tuple[int, Any, tuple[Any, ...]]] = [
        (_PARAM, every, group.params),
        (_MOMENT1, every, moment1),
        (_MOMENT2, every, tuple(state.moment2 for state in states)),
    ]
    if with_master:
        updated.append((_MASTER, with_master, tuple(states[row].master for row in with_master)))
    places = np.array([state.index for state in states], np.int64)
    step = states[0].step
    in_order = np.array_equal(places, np.arange(step.shape[0]))
    return _Launch(key, group, moment1, tuple(updated), table, step, None if in_order else places)


def _check_state(param: Any, tensor: TensorPlan, state: DygraphState) -> None:
    """Refuse state that was made when the parameter had another shape or type."""
    kept = {"moment1": state.moment1, "moment2": state.moment2}
    wanted = dict.fromkeys(kept, tensor.moment_dtype)
    if tensor.master:
        kept["master weight"], wanted["master weight"] = state.master, DType.FLOAT32
    for what, array in kept.items():
        if not _have_same_shape(param, array) or array.dtype != getattr(paddle, wanted[what].value):
            raise ProgramError(
                f"parameter {param.name!r} is now {tensor.param_dtype} of shape "
                f"{list(param.shape)}, for which its {what} must be {wanted[what]}; it is "
                f"{array.dtype} of shape {list(array.shape)}, from before the parameter was "
                "changed. Make a new optimizer after converting a model"
            )


def _forget(library: OperatorLibrary, keys: tuple[int, ...]) -> None:
    # The garbage collector may call this anywhere, so it takes no lock of ours.
    for key in keys:
        library.forget(key)


def _run(launch: _Launch, grads: Sequence[Any], lr: float, found_inf: bool) -> None:
    library, table = kernels.operator(), launch.table
    # Addresses are read anew: whoever loads a checkpoint or moves a tensor changes them.
    for field, rows, tensors in (*launch.updated, (_GRAD, slice(None), grads)):
        table[rows, field] = np.fromiter(map(_address, tensors), np.int64, len(tensors))
    counts = _step_counts(launch.step)
    step = counts if launch.places is None else counts[launch.places]
    library.run(
        launch.key,
        library.ffi.cast("radam_tensor *", table.ctypes.data),
        len(table),
        library.ffi.cast("int64_t *", step.ctypes.data),
        lr,
        found_inf,
    )
    if found_inf:
        return
    if launch.places is not None:
        counts[launch.places] = step
    for _ in map(_bump, launch.group.params):
        pass


def _step_counts(step: Any) -> npt.NDArray[np.int64]:
    """The step counts as an array on the tensor's own memory."""
    memory = (ctypes.c_int64 * int(step.shape[0])).from_address(_address(step))
    return np.ctypeslib.as_array(memory)
