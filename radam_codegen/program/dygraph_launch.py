"""One launch of a step in dynamic graph: a group of the plan with its tensors and step counts."""

from __future__ import annotations

import ctypes
import itertools
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import numpy.typing as npt
import paddle

from radam_codegen.errors import ProgramError, UnsupportedError
from radam_codegen.frontend.read_plan import PlannedGroup
from radam_codegen.ir.dtypes import DType
from radam_codegen.ir.launch import LaunchSpec
from radam_codegen.ir.plan import TensorPlan
from radam_codegen.program import kernels
from radam_codegen.program.dygraph_tensors import LaunchTensors
from radam_codegen.program.dygraph_views import StridedParameters
from radam_codegen.program.shared_memory import named
from radam_codegen.runtime import OperatorLibrary

__all__ = ["DygraphState", "Launch", "forget", "prepare_launch"]

# A plain function, as map() calls it faster than a comprehension calls a method.
_bump = paddle.Tensor._bump_inplace_version

#: Keys of launches in dynamic graph; those of programs are positive.
_keys = itertools.count(-1, -1)


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
class Launch:
    """A group of the plan, registered with the operator library under ``key``."""

    key: int
    #: Places of the group's parameters among those of the step; None where these are all, in order.
    order: Sequence[int] | None
    tensors: LaunchTensors
    counts: tuple[_Counts, ...]
    #: Whether the counts are those of one tensor, all of them and in order.
    counts_in_place: bool

    def read(self, grads: Sequence[Any]) -> bool:
        """Read the tensors; whether they still are what this was made for.

        Args:
            grads: the gradients of the step, in its order.
        """
        return self.tensors.read(self.ordered(grads))

    def ordered(self, grads: Sequence[Any]) -> Sequence[Any]:
        """Return those gradients of a step that belong to this launch, in its order."""
        return grads if self.order is None else [grads[place] for place in self.order]

    def check(self) -> None:
        """Refuse tensors that share memory in a way that no order of updates makes good.

        Raises:
            UnsupportedError: it names the parameters.
        """
        try:
            kernels.operator().check(self.key, self.tensors.pointer, len(self.tensors))
        except UnsupportedError as refusal:
            raise self._named(refusal) from None

    def run(self, lr: float, found_inf: bool) -> None:
        """Run the kernel on the tensors as they were last read.

        Args:
            lr: learning rate of this step.
            found_inf: True leaves everything as it is.

        Raises:
            UnsupportedError: as :meth:`check` does; nothing was updated.
        """
        # Step counts are updated where they are, or some of them in a copy.
        if self.counts_in_place:
            self._call_kernel(self.counts[0].step.data_ptr(), lr, found_inf)
        else:
            copied = np.empty(len(self.tensors), np.int64)
            for counts in self.counts:
                copied[counts.of_launch] = _step_counts(counts.step)[counts.of_step]
            self._call_kernel(copied.ctypes.data, lr, found_inf)
            for counts in self.counts:
                _step_counts(counts.step)[counts.of_step] = copied[counts.of_launch]
        if not found_inf:
            for _ in map(_bump, self.tensors.params):
                pass

    def _call_kernel(self, step: int, lr: float, found_inf: bool) -> None:
        library, tensors = kernels.operator(), self.tensors
        counts = library.ffi.cast("int64_t *", step)
        try:
            library.run(self.key, tensors.pointer, len(tensors), counts, lr, found_inf)
        except UnsupportedError as refusal:
            raise self._named(refusal) from None

    def _named(self, refusal: UnsupportedError) -> UnsupportedError:
        return named(str(refusal), [param.name for param in self.tensors.params])


def prepare_launch(
    group: PlannedGroup,
    order: Sequence[int],
    grads: Sequence[Any],
    state_of: Callable[[Any, bool], DygraphState],
    views: StridedParameters,
) -> Launch:
    """Register a group of a plan with the operator library, and find its state.

    Args:
        group: what is updated.
        order: places of its parameters among those of the step.
        grads: the gradients of the step, in its order.
        state_of: gives the state of a parameter; told whether it wants a master weight.
        views: which parameters are stepped on copies.

    Raises:
        UnsupportedError: a kernel cannot take one of the tensors.
        ProgramError: state is from before a parameter was changed.
    """
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
    return Launch(
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


def forget(library: OperatorLibrary, keys: tuple[int, ...]) -> None:
    """Have the operator library forget launches."""
    # The garbage collector may call this anywhere, so it takes no lock of ours.
    for key in keys:
        library.forget(key)


def _step_counts(step: Any) -> npt.NDArray[np.int64]:
    """The step counts as an array on the tensor's own memory."""
    memory = (ctypes.c_int64 * int(step.shape[0])).from_address(step.data_ptr())
    return np.ctypeslib.as_array(memory)
