"""One step in dynamic graph: the kernel is called directly on the tensors' memory.

Paddle's own way to call an operator would refuse to update a leaf parameter in place, after having
done so. Here no operator is in between: addresses are read, the kernel runs, and the versions of
what it has updated are bumped, so that autograd notices a stale use.
"""

from __future__ import annotations

import ctypes
import itertools
import sys
import weakref
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from operator import attrgetter, itemgetter
from typing import Any

import numpy as np
import numpy.typing as npt
import paddle

from radam_codegen.errors import ArgumentTypeError, ProgramError, UnsupportedError
from radam_codegen.frontend.groups import Groups
from radam_codegen.frontend.read_plan import PlannedGroup, read_plan
from radam_codegen.ir.dtypes import DType
from radam_codegen.ir.launch import LaunchSpec
from radam_codegen.ir.plan import TensorPlan, UpdatePlan
from radam_codegen.program import kernels
from radam_codegen.program.dygraph_tensors import LaunchTensors
from radam_codegen.program.dygraph_views import StridedParameters
from radam_codegen.program.shared_memory import named
from radam_codegen.runtime import OperatorLibrary

__all__ = ["DygraphState", "DygraphStepper"]

# Plain functions, as map() calls them faster than a comprehension calls methods.
_bump = paddle.Tensor._bump_inplace_version
_need_clip_of = attrgetter("need_clip")
_regularizer_of = attrgetter("regularizer")
_attributes_of = attrgetter("optimize_attr")
_scale_of = itemgetter("learning_rate")

#: Keys of launches in dynamic graph; those of programs are positive.
_keys = itertools.count(-1, -1)

#: How many sets of parameters are remembered.
_KEPT = 8


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
class _Counts:
    """Step counts of a launch that stand in one tensor."""

    step: Any
    #: Places of the counts among those of the launch.
    of_launch: npt.NDArray[np.int64]
    #: Their places in the tensor.
    of_step: npt.NDArray[np.int64]


@dataclass(frozen=True)
class _Launch:
    """A group of the plan, registered with the operator library under ``key``."""

    key: int
    #: Places of the group's parameters among those of the step; None where these are all, in order.
    order: Sequence[int] | None
    tensors: LaunchTensors
    counts: tuple[_Counts, ...]
    #: Whether the counts are those of one tensor, all of them and in order.
    counts_in_place: bool


@dataclass(frozen=True, eq=False)
class _Prepared:
    """Launches for one set of parameters, and what they rest on besides the tensors."""

    fingerprint: tuple[Any, ...]
    plan: UpdatePlan
    launches: tuple[_Launch, ...]
    #: Rounds the learning rate, to the type that programs have it in.
    lr_type: type[ctypes.c_float] | type[ctypes.c_double]
    #: Parameters that are stepped on copies.
    views: StridedParameters


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
            ArgumentTypeError: a gradient is no tensor.
            UnsupportedError: a gradient is sparse, has another shape than its parameter, or a type
                has no kernel; or tensors share memory in a way that no order of updates makes good.
            ProgramError: state is from before a parameter was changed.

        Nothing was updated when this raises.
        """
        # Paddle's tracer of bytecode, where it follows a step that a traced function calls, would
        # fail at what it knows nothing of. Where it was never imported, nothing is traced.
        tracer = sys.modules.get("paddle.jit.sot")
        if tracer is not None:
            tracer.psdb.fallback(recursive=True)
        fingerprint = (
            np.fromiter(params, object, len(params)).tobytes(),  # quicker than the id of each
            _attributes(params),
            groups.settings,
            groups.sizes,
            tuple(map(_clip_now, groups.settings.clips)),
            tuple(map(_decay_now, groups.settings.decays)),
            multi_precision,
            found_inf is None,
        )
        prepared = self._find(fingerprint, grads)
        if prepared is None:
            grads = _usable(params, grads)
            # Views can be read once they are copied.
            prepared = self._find(fingerprint, grads)
        if prepared is None:
            prepared = _prepare(
                params, grads, groups, state_of, multi_precision, found_inf is not None, fingerprint
            )
            self._prepared = [prepared, *self._prepared[: _KEPT - 1]]
        if len(prepared.launches) > 1:
            # What the last one would refuse is refused before the first one has run.
            for launch in prepared.launches:
                _check(launch)
        rounded_lr = prepared.lr_type(lr).value
        if prepared.views:
            _load_views(prepared, grads)
        for launch in prepared.launches:
            _run(launch, rounded_lr, bool(found_inf))
        if not found_inf:
            prepared.views.store()
        return prepared.plan

    def _find(self, fingerprint: tuple[Any, ...], grads: Sequence[Any]) -> _Prepared | None:
        for index, prepared in enumerate(self._prepared):
            if prepared.fingerprint == fingerprint and _read(prepared, grads):
                if index:
                    self._prepared.insert(0, self._prepared.pop(index))
                return prepared
        return None


def _read(prepared: _Prepared, grads: Sequence[Any]) -> bool:
    """Read the tensors of all launches; whether they still are what these were made for."""
    if not prepared.views.fit():
        return False
    for launch in prepared.launches:
        order = launch.order
        ordered = grads if order is None else [grads[place] for place in order]
        if not launch.tensors.read(ordered):
            return False
    return True


def _load_views(prepared: _Prepared, grads: Sequence[Any]) -> None:
    """Fill the copies that are stepped; refuses views that share elements with something else."""

    def others(begin: int, end: int) -> Iterator[tuple[str, Any]]:
        for launch in prepared.launches:
            order = launch.order
            ordered = grads if order is None else [grads[place] for place in order]
            yield from launch.tensors.between(begin, end, ordered)

    prepared.views.load(others)


def _attributes(params: Sequence[Any]) -> tuple[Any, ...]:
    """What of the parameters may be changed between steps and shapes the plan."""
    try:
        regularizers = tuple(map(_regularizer_of, params))
        return (
            tuple(map(_need_clip_of, params)),
            regularizers,
            tuple(map(_scale_of, map(_attributes_of, params))),
            any(regularizers) and tuple(map(_decay_now, regularizers)),
        )
    except AttributeError:  # plain tensors, which have no such attributes
        names = ("need_clip", "regularizer", "optimize_attr")
        return tuple(str(getattr(each, name, None)) for each in params for name in names)


def _clip_now(clip: Any) -> tuple[Any, ...]:
    """What of a clip may be changed between steps."""
    return type(clip), *vars(clip).values()


def _decay_now(decay: Any) -> Any:
    """What of a tensor or of a regularizer may be changed between steps."""
    if isinstance(decay, paddle.Tensor):
        return decay.item()
    return type(decay), getattr(decay, "_coeff", None)


def _usable(params: Sequence[Any], grads: Sequence[Any]) -> Sequence[Any]:
    """Gradients as the kernel can read them; refuses what it cannot."""
    for param, grad in zip(params, grads):
        if not isinstance(grad, paddle.Tensor):
            raise ArgumentTypeError(
                f"the gradient of parameter {param.name!r} is of type {type(grad).__name__}; it "
                "must be a paddle.Tensor"
            )
        if grad.is_selected_rows():
            raise UnsupportedError(
                f"the gradient of parameter {param.name!r} is sparse (SelectedRows), which "
                "RAdam does not support; build its Embedding with sparse=False"
            )
    return [
        grad.contiguous() if grad.is_dense() and not grad.is_contiguous() else grad
        for grad in grads
    ]


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
        if not param.is_same_shape(grad):
            raise UnsupportedError(
                f"the gradient of parameter {param.name!r} has the shape {list(grad.shape)}, but "
                f"the parameter has {list(param.shape)}"
            )
    plan, planned = read_plan(
        list(zip(params, grads)), groups, multi_precision=multi_precision, skip=skip
    )
    place_of = {id(param): place for place, param in enumerate(params)}
    views = StridedParameters(params)
    launches = tuple(
        _prepare_launch(
            group, [place_of[id(param)] for param in group.params], grads, state_of, views
        )
        for group in planned
    )
    # Not NumPy's types, which warn of a rate that overflows.
    lr_type = ctypes.c_double if plan.lr_dtype is DType.FLOAT64 else ctypes.c_float
    prepared = _Prepared(fingerprint, plan, launches, lr_type, views)
    keys = tuple(launch.key for launch in launches)
    weakref.finalize(prepared, _forget, kernels.operator(), keys).atexit = False
    return prepared


def _prepare_launch(
    group: PlannedGroup,
    order: Sequence[int],
    grads: Sequence[Any],
    state_of: Callable[[Any, bool], DygraphState],
    views: StridedParameters,
) -> _Launch:
    states = tuple(
        state_of(param, tensor.master) for param, tensor in zip(group.params, group.plan.tensors)
    )
    for param, tensor, state in zip(group.params, group.plan.tensors, states):
        _check_state(param, tensor, state)
    tensors = LaunchTensors(
        kernels.operator(),
        group.params,
        [state.moment1 for state in states],
        [state.moment2 for state in states],
        [state.master for state in states],
        [views.stepped(each) for each in group.params],
    )
    tensors.adopt([grads[place] for place in order])
    key = next(_keys)
    kernels.register(key, LaunchSpec.from_group(group.plan))
    counts = _counts_of(states)
    of_step = list(counts[0].of_step)
    return _Launch(
        key,
        None if _are_all(order, len(grads)) else order,
        tensors,
        counts,
        len(counts) == 1 and _are_all(of_step, counts[0].step.shape[0]),
    )


def _counts_of(states: Sequence[DygraphState]) -> tuple[_Counts, ...]:
    """Where the counts of a launch stand: parameters that were listed later have their own."""
    places: dict[int, list[int]] = {}
    for place, state in enumerate(states):
        places.setdefault(id(state.step), []).append(place)
    return tuple(
        _Counts(
            states[of_launch[0]].step,
            np.array(of_launch, np.int64),
            np.array([states[place].index for place in of_launch], np.int64),
        )
        for of_launch in places.values()
    )


def _are_all(places: Sequence[int], count: int) -> bool:
    """Whether places are all that there are, in order."""
    return list(places) == list(range(count))


def _check_state(param: Any, tensor: TensorPlan, state: DygraphState) -> None:
    """Refuse state that was made when the parameter had another shape or type."""
    kept = {"moment1": state.moment1, "moment2": state.moment2}
    wanted = dict.fromkeys(kept, tensor.moment_dtype)
    if tensor.master:
        kept["master weight"], wanted["master weight"] = state.master, DType.FLOAT32
    for what, array in kept.items():
        if not param.is_same_shape(array) or array.dtype != getattr(paddle, wanted[what].value):
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


def _run(launch: _Launch, lr: float, found_inf: bool) -> None:
    # Step counts are updated where they are, or some of them in a copy.
    if launch.counts_in_place:
        _call_kernel(launch, launch.counts[0].step.data_ptr(), lr, found_inf)
    else:
        copied = np.empty(len(launch.tensors), np.int64)
        for counts in launch.counts:
            copied[counts.of_launch] = _step_counts(counts.step)[counts.of_step]
        _call_kernel(launch, copied.ctypes.data, lr, found_inf)
        for counts in launch.counts:
            _step_counts(counts.step)[counts.of_step] = copied[counts.of_launch]
    if not found_inf:
        for _ in map(_bump, launch.tensors.params):
            pass


def _call_kernel(launch: _Launch, step: int, lr: float, found_inf: bool) -> None:
    library, tensors = kernels.operator(), launch.tensors
    counts = library.ffi.cast("int64_t *", step)
    try:
        library.run(launch.key, tensors.pointer, len(tensors), counts, lr, found_inf)
    except UnsupportedError as refusal:
        raise _named(refusal, launch) from None


def _check(launch: _Launch) -> None:
    try:
        kernels.operator().check(launch.key, launch.tensors.pointer, len(launch.tensors))
    except UnsupportedError as refusal:
        raise _named(refusal, launch) from None


def _named(refusal: UnsupportedError, launch: _Launch) -> UnsupportedError:
    return named(str(refusal), [param.name for param in launch.tensors.params])


def _step_counts(step: Any) -> npt.NDArray[np.int64]:
    """The step counts as an array on the tensor's own memory."""
    memory = (ctypes.c_int64 * int(step.shape[0])).from_address(step.data_ptr())
    return np.ctypeslib.as_array(memory)
