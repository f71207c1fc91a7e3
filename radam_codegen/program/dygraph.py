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

from radam_codegen.errors import UnsupportedError
from radam_codegen.frontend.groups import Groups
from radam_codegen.frontend.read_plan import PlannedGroup, read_plan
from radam_codegen.ir.launch import LaunchSpec
from radam_codegen.ir.plan import UpdatePlan
from radam_codegen.program import kernels

__all__ = ["DygraphState", "DygraphStepper"]

# Plain functions, as map() calls them faster than a comprehension calls methods.
_address = paddle.Tensor.data_ptr
_bump = paddle.Tensor._bump_inplace_version
_is_sparse = paddle.Tensor.is_selected_rows
_is_contiguous = paddle.Tensor.is_contiguous
_dtype_of = attrgetter("dtype")
_shape_of = attrgetter("shape")
_need_clip_of = attrgetter("need_clip")
_regularizer_of = attrgetter("regularizer")
_attributes_of = attrgetter("optimize_attr")
_scale_of = itemgetter("learning_rate")

#: Keys of launches in dynamic graph; those of programs are positive.
_keys = itertools.count(-1, -1)

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


class DygraphStepper:
    """Steps the parameters of one optimizer; what it remembers only saves time.

    It is copied and pickled with its optimizer, without what it remembers.
    """

    def __init__(self) -> None:
        self._prepared: _Prepared | None = None

    def __getstate__(self) -> dict[str, Any]:
        return {"_prepared": None}

    def forget(self) -> None:
        """Look at everything anew in the next step, as state has been replaced."""
        self._prepared = None

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
            tuple(map(_dtype_of, grads)),
            tuple(map(_shape_of, grads)),
            _attributes(params),
            tuple(map(_decay_now, groups.options)),
            multi_precision,
            found_inf is None,
        )
        prepared = self._prepared
        if prepared is None or prepared.fingerprint != fingerprint:
            prepared = _prepare(
                params, grads, groups, state_of, multi_precision, found_inf is not None, fingerprint
            )
            self._prepared = prepared
        by_param = dict(zip(fingerprint[0], grads)) if len(prepared.launches) > 1 else None
        for launch in prepared.launches:
            ordered = grads if by_param is None else [by_param[id(p)] for p in launch.group.params]
            _run(launch, ordered, lr, bool(found_inf))
        return prepared.plan


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


def _decay_now(options: Any) -> Any:
    """A group's weight decay; the present value of one that is a tensor."""
    decay = options.weight_decay
    return float(decay) if isinstance(decay, paddle.Tensor) else decay


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
        if param.shape != grad.shape:
            raise UnsupportedError(
                f"the gradient of parameter {param.name!r} has the shape {grad.shape}, but the "
                f"parameter has {param.shape}"
            )
    plan, planned = read_plan(
        list(zip(params, grads)), groups, multi_precision=multi_precision, skip=skip
    )
    launches = tuple(_prepare_launch(group, state_of) for group in planned)
    prepared = _Prepared(fingerprint, plan, launches)
    keys = tuple(launch.key for launch in launches)
    weakref.finalize(prepared, _forget, keys).atexit = False
    return prepared


def _prepare_launch(group: PlannedGroup, state_of: Callable[[Any, bool], DygraphState]) -> _Launch:
    spec = LaunchSpec.from_group(group.plan)
    key = next(_keys)
    kernels.register(key, spec)
    states = tuple(
        state_of(param, tensor.master) for param, tensor in zip(group.params, group.plan.tensors)
    )
    table = np.zeros((len(states), 6), np.int64)
    table[:, _NUMEL] = [tensor.numel for tensor in group.plan.tensors]
    with_master = [row for row, state in enumerate(states) if state.master is not None]
    every = slice(None)
    updated: list[tuple[int, Any, tuple[Any, ...]]] = [
        (_PARAM, every, group.params),
        (_MOMENT1, every, tuple(state.moment1 for state in states)),
        (_MOMENT2, every, tuple(state.moment2 for state in states)),
    ]
    if with_master:
        updated.append((_MASTER, with_master, tuple(states[row].master for row in with_master)))
    places = np.array([state.index for state in states], np.int64)
    step = states[0].step
    in_order = np.array_equal(places, np.arange(step.shape[0]))
    return _Launch(key, group, tuple(updated), table, step, None if in_order else places)


def _forget(keys: tuple[int, ...]) -> None:
    library = kernels.operator()
    for key in keys:
        library.forget(key)


def _run(launch: _Launch, grads: Sequence[Any], lr: float, found_inf: bool) -> None:
    library, table = kernels.operator(), launch.table
    # Addresses are read anew: whoever loads a checkpoint or moves a tensor changes them.
    for field, rows, tensors in launch.updated:
        table[rows, field] = list(map(_address, tensors))
    table[:, _GRAD] = list(map(_address, grads))
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
    for _, _, tensors in launch.updated:
        for tensor in tensors:
            _bump(tensor)


def _step_counts(step: Any) -> npt.NDArray[np.int64]:
    """The step counts as an array on the tensor's own memory."""
    memory = (ctypes.c_int64 * int(step.shape[0])).from_address(_address(step))
    return np.ctypeslib.as_array(memory)
