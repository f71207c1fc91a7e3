"""Optimizer state in programs: the one place that makes it, and knows where it is.

Moments lie in one of two layouts. Flat: per group and type one ``moment1`` and one ``moment2``, all
parameters in a row, for every variable costs the Executor time in every run. Per parameter: one of
each, named as the native optimizer names them (``<param>_moment1_0``), in the parameter's shape.
Beside them there is a float32 master weight per parameter that wants one, and per group the step
counts, int64, one entry per parameter.
"""

from __future__ import annotations

from collections.abc import Collection, Sequence
from dataclasses import dataclass
from functools import partial
from typing import Any

import paddle

from radam_codegen.config import current
from radam_codegen.errors import ProgramError
from radam_codegen.frontend.read_plan import PlannedGroup
from radam_codegen.ir.moments import MomentPlace, Moments
from radam_codegen.ir.plan import StateLayout, TensorPlan
from radam_codegen.program.checkpoint_keys import MASTER, MOMENTS
from radam_codegen.program.flat_moments import FlatStorage, FlatTensor, lay_out_flat
from radam_codegen.program.state_variables import create_zeros
from radam_codegen.program.step_counts import StepCount
from radam_codegen.program.variables import ProgramVariables, check_new, initializes

__all__ = [
    "GroupState",
    "MomentVariables",
    "StaticState",
    "StaticStates",
    "create_step",
    "wanted_layout",
]

#: What the names of step counts in programs begin with.
_STEP = "radam_step"

_Pairs = Sequence[tuple[Any, TensorPlan]]


@dataclass(frozen=True)
class GroupState:
    """Variables (legacy) or values (PIR) of one group in the main program."""

    moment1: tuple[Any, ...]
    moment2: tuple[Any, ...]
    #: float32 master weights; None where the group has none.
    master: tuple[Any, ...] | None
    #: Step counts: int64, shape [number of parameters].
    step: Any
    #: The parameters' own counts, where ``step`` is to be gathered from those and None as yet.
    counts: tuple[StepCount, ...] = ()
    #: Where in ``moment1`` and ``moment2`` each parameter's are; None: there is one of each for
    #: every parameter.
    moments: Moments | None = None


@dataclass(frozen=True)
class MomentVariables:
    """Where the moments of one parameter stand: names of two variables."""

    moment1: str
    moment2: str
    #: Elements of either.
    size: int
    #: Elements before the parameter's; None: all are its own, and the variables have its shape.
    offset: int | None = None

    @property
    def names(self) -> tuple[str, str]:
        """Both."""
        return self.moment1, self.moment2


@dataclass(frozen=True)
class StaticState:
    """Where the state of one parameter stands in a scope: names of variables."""

    shape: tuple[int, ...]
    #: Type of the moments.
    dtype: str
    moments: MomentVariables
    #: float32 master weight, or None.
    master: str | None
    #: Step counts of the parameter's group.
    step: str
    #: Number of counts in there.
    size: int
    #: The parameter's place among them.
    index: int


class StaticStates:
    """Makes the state of one optimizer in programs, and knows it by the parameters' names.

    Args:
        optimizer: where Paddle looks for what belongs to one parameter alone.
    """

    def __init__(self, optimizer: Any) -> None:
        self._optimizer = optimizer
        self.by_name: dict[str, StaticState] = {}

    def of_group(self, group: PlannedGroup, layout: StateLayout) -> GroupState:
        """Return a group's state in the current main program, made where it is missing.

        A parameter that the optimizer updates in the program already keeps its state. What is made
        is set to 0 by the current startup program.

        Args:
            group: the parameters.
            layout: of the moments that are made.

        Raises:
            ProgramError: a name that the state would have is taken.
        """
        variables = ProgramVariables(paddle.static.default_main_program())
        tensors = group.plan.tensors
        known = {each.name: self.by_name.get(each.name) for each in tensors}
        held = {
            name: state
            for name, state in known.items()
            if state is not None and state.moments.moment1 in variables
        }
        new = [pair for pair in zip(group.params, tensors) if pair[1].name not in held]
        if new:
            self._check_names([tensor for _, tensor in new], layout, variables.names())
            held.update(self._make(new, layout))
            self.by_name.update(held)
        return _state_of_group([held[tensor.name] for tensor in tensors], variables)

    def _check_names(
        self, tensors: Sequence[TensorPlan], layout: StateLayout, taken: Collection[str]
    ) -> None:
        check_new(_STEP, taken, "step counts")
        if layout is StateLayout.FLAT:
            for place in lay_out_flat(list(map(_flat_tensor, tensors))):
                for prefix in place.storage.prefixes:
                    check_new(prefix, taken, "moments")
        for tensor in tensors:
            # Checkpoints have the moments by these names, in either layout.
            for kind in (*map(self._key, MOMENTS), *([MASTER] if tensor.master else [])):
                check_new(f"{tensor.name}_{kind}", taken, f"state of parameter {tensor.name!r}")

    def _make(self, pairs: _Pairs, layout: StateLayout) -> dict[str, StaticState]:
        for param, _ in pairs:
            # Paddle would refuse to make one anew, or hand out what belongs to another program.
            for name in MOMENTS:
                self._optimizer._accumulators.get(self._key(name), {}).pop(param.name, None)
            self._optimizer._master_weights.pop(param.name, None)
        step = create_step(len(pairs)).name
        places = self._flat(pairs) if layout is StateLayout.FLAT else self._per_parameter(pairs)
        return {
            tensor.name: StaticState(
                shape=tensor.shape,
                dtype=tensor.moment_dtype.value,
                moments=place,
                master=self._master(param) if tensor.master else None,
                step=step,
                size=len(pairs),
                index=index,
            )
            for index, ((param, tensor), place) in enumerate(zip(pairs, places))
        }

    def _flat(self, pairs: _Pairs) -> list[MomentVariables]:
        places = lay_out_flat([_flat_tensor(tensor) for _, tensor in pairs])
        made: dict[FlatStorage, tuple[str, str]] = {}
        for storage in dict.fromkeys(place.storage for place in places):
            moment1, moment2 = (
                str(create_zeros(prefix, [storage.size], storage.dtype).name)
                for prefix in storage.prefixes
            )
            made[storage] = moment1, moment2
            self._optimizer._opti_name_list += made[storage]  # as Paddle lists accumulators
        return [
            MomentVariables(*made[place.storage], place.storage.size, place.offset)
            for place in places
        ]

    def _per_parameter(self, pairs: _Pairs) -> list[MomentVariables]:
        variables = []
        for param, tensor in pairs:
            dtype = getattr(paddle, tensor.moment_dtype.value)
            add = partial(self._optimizer._add_accumulator, param=param, dtype=dtype)
            moment1, moment2 = (add(name).name for name in MOMENTS)
            variables.append(MomentVariables(moment1, moment2, tensor.numel))
        return variables

    def _master(self, param: Any) -> str:
        if not initializes(paddle.static.default_startup_program(), param.name):
            raise ProgramError(
                f"parameter {param.name!r} cannot have a master weight, as the startup program "
                "does not initialize it: give minimize() the startup program that it was created in"
            )
        return str(self._optimizer._create_master_weight(param).name)

    def _key(self, name: str) -> str:
        """Under which Paddle files a kind of state."""
        prefix = self._optimizer._name
        return name if prefix is None else f"{prefix}_{name}"


def wanted_layout() -> StateLayout:
    """Return the layout of moments that are made now, by the settings."""
    return StateLayout(current().state_layout)


def create_step(count: int) -> Any:
    """Add step counts for so many parameters to the current programs: int64, 0 at first."""
    return create_zeros(_STEP, [count], "int64")


def _flat_tensor(tensor: TensorPlan) -> FlatTensor:
    return FlatTensor(tensor.name, tensor.shape, tensor.moment_dtype.value)


def _state_of_group(states: Sequence[StaticState], variables: ProgramVariables) -> GroupState:
    storages = dict.fromkeys(
        (each.moments.moment1, each.moments.moment2, each.moments.size) for each in states
    )
    number = {moment1: index for index, (moment1, _, _) in enumerate(storages)}
    moments = None
    if any(each.moments.offset is not None for each in states):
        moments = Moments(
            tuple(size for _, _, size in storages),
            tuple(
                MomentPlace(number[each.moments.moment1], each.moments.offset or 0)
                for each in states
            ),
        )
    masters = tuple(variables.get(each.master) for each in states if each.master is not None)
    counts = tuple(StepCount(variables.get(each.step), each.index) for each in states)
    first = states[0]
    in_order = [(first.step, index) for index in range(first.size)]
    whole = [(each.step, each.index) for each in states] == in_order
    return GroupState(
        moment1=tuple(variables.get(moment1) for moment1, _, _ in storages),
        moment2=tuple(variables.get(moment2) for _, moment2, _ in storages),
        master=masters or None,
        step=counts[0].variable if whole else None,
        counts=() if whole else counts,
        moments=moments,
    )
