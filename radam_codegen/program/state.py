"""Optimizer state: the one place that knows how it is laid out.

Per parameter a ``moment1`` and a ``moment2``, named as the native optimizer names them
(``<param>_moment1_0``), a float32 master weight where one is wanted, and per group the step counts,
int64, one entry per parameter.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import paddle
from paddle.base import framework, unique_name
from paddle.base.layer_helper import LayerHelper

from radam_codegen.errors import CheckpointError, ProgramError
from radam_codegen.frontend.read_plan import PlannedGroup
from radam_codegen.ir.plan import TensorPlan
from radam_codegen.program.checkpoint_keys import MASTER
from radam_codegen.program.dygraph import DygraphState
from radam_codegen.program.step_counts import StepCount
from radam_codegen.program.variables import ProgramVariables, check_new, initializes

__all__ = ["MOMENTS", "STEP", "GroupState", "StateMaker", "StaticState"]

#: Names of the accumulators, as in the native optimizer.
MOMENTS = ("moment1", "moment2")
#: Under which the step counts stand among the optimizer's accumulators, by group.
STEP = "step"
#: What the names of step counts in programs begin with.
_STATIC_STEP = "radam_step"


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


@dataclass(frozen=True)
class StaticState:
    """Where the state of one parameter stands in a scope: names of variables."""

    shape: tuple[int, ...]
    #: Type of the moments.
    dtype: str
    moment1: str
    moment2: str
    #: float32 master weight, or None.
    master: str | None
    #: Step counts of the parameter's group.
    step: str
    #: Number of counts in there.
    size: int
    #: The parameter's place among them.
    index: int


class StateMaker:
    """Makes the state of one optimizer and keeps it in the optimizer's accumulators."""

    def __init__(self, optimizer: Any) -> None:
        self._optimizer = optimizer
        #: State in programs, by name of parameter.
        self.static: dict[str, StaticState] = {}
        #: Parameters that a checkpoint of the native optimizer was expected to have, and had not.
        self.missing: frozenset[str] = frozenset()

    def of_group(self, group: PlannedGroup) -> GroupState:
        """Return a group's state in the current main program, made where it is missing.

        A parameter that the optimizer updates in the program already keeps its state. What is made
        is set to 0 by the current startup program.

        Raises:
            ProgramError: a name that the state would have is taken.
        """
        variables = ProgramVariables(paddle.static.default_main_program())
        taken = variables.names()
        tensors = group.plan.tensors
        held = {each.name: self.static[each.name] for each in tensors if each.name in self.static}
        held = {name: state for name, state in held.items() if state.moment1 in variables}
        new = [pair for pair in zip(group.params, tensors) if pair[1].name not in held]
        if new:
            check_new(_STATIC_STEP, taken, "step counts")
            step = _static_step(len(new))
            for index, (param, tensor) in enumerate(new):
                kinds = (*map(self._key, MOMENTS), *([MASTER] if tensor.master else []))
                for kind in kinds:
                    check_new(f"{tensor.name}_{kind}", taken, f"state of parameter {tensor.name!r}")
                held[tensor.name] = self._make(param, tensor, step.name, len(new), index)
            self.static.update(held)
        states = [held[tensor.name] for tensor in tensors]
        masters = tuple(variables.get(each.master) for each in states if each.master is not None)
        counts = tuple(StepCount(variables.get(each.step), each.index) for each in states)
        first = states[0]
        in_order = [(first.step, index) for index in range(first.size)]
        whole = [(each.step, each.index) for each in states] == in_order
        return GroupState(
            moment1=tuple(variables.get(each.moment1) for each in states),
            moment2=tuple(variables.get(each.moment2) for each in states),
            master=masters or None,
            step=counts[0].variable if whole else None,
            counts=() if whole else counts,
        )

    def _make(
        self, param: Any, tensor: TensorPlan, step: str, size: int, index: int
    ) -> StaticState:
        """Create a parameter's moments and master weight; the step counts are there already."""
        # Paddle would refuse, or hand out what belongs to another program.
        for name in MOMENTS:
            self._optimizer._accumulators.get(self._key(name), {}).pop(param.name, None)
        self._optimizer._master_weights.pop(param.name, None)
        dtype = tensor.moment_dtype.value
        moment1, moment2 = (self._moment(name, param, dtype) for name in MOMENTS)
        master = self._master(param) if tensor.master else None
        return StaticState(
            shape=tensor.shape,
            dtype=dtype,
            moment1=moment1.name,
            moment2=moment2.name,
            master=None if master is None else master.name,
            step=step,
            size=size,
            index=index,
        )

    def _master(self, param: Any) -> Any:
        if not initializes(paddle.static.default_startup_program(), param.name):
            raise ProgramError(
                f"parameter {param.name!r} cannot have a master weight, as the startup program "
                "does not initialize it: give minimize() the startup program that it was created in"
            )
        return self._optimizer._create_master_weight(param)

    def of_parameter(self, param: Any, master: bool) -> DygraphState:
        """Return the state of one parameter in dynamic graph, made where it is missing."""
        dtype = self.moment_dtype(param)
        moment1, moment2 = (self._moment(name, param, dtype) for name in MOMENTS)
        weight = self._optimizer._create_master_weight(param) if master else None
        step, index = self.step_of(param)
        return DygraphState(moment1, moment2, weight, step, index)

    def held(self, param: Any) -> DygraphState | None:
        """Return the state of one parameter in dynamic graph, None where it has none."""
        accumulators = self._optimizer._accumulators
        moments = [accumulators.get(self._key(name), {}).get(param.name) for name in MOMENTS]
        if any(each is None for each in moments):
            return None
        weight = self._optimizer._master_weights.get(param.name)
        step, index = self.step_of(param)
        return DygraphState(moments[0], moments[1], weight, step, index)

    def adopt(self, param: Any, moment1: Any, moment2: Any, master: Any) -> None:
        """Make tensors the state of a parameter in dynamic graph, under new names."""
        optimizer = self._optimizer
        for name, moment in zip(MOMENTS, (moment1, moment2)):
            moment.name = unique_name.generate(f"{param.name}_{self._key(name)}")
            optimizer._accumulators[self._key(name)][param.name] = moment
        if master is not None:
            master.name = unique_name.generate(f"{param.name}_{MASTER}")
            optimizer._master_weights[param.name] = master

    def forget(self, param: Any) -> None:
        """Leave a parameter in dynamic graph without state, as before its first gradient."""
        for name in MOMENTS:
            self._optimizer._accumulators.get(self._key(name), {}).pop(param.name, None)
        self._optimizer._master_weights.pop(param.name, None)
        step, index = self.step_of(param)
        step[index] = 0

    def check_loaded(self, params: Sequence[Any]) -> None:
        """Refuse the first step after loading if a checkpoint lacked a parameter that steps.

        The native optimizer has no state of parameters that never had a gradient, so whether one
        was lost only shows here.

        Raises:
            CheckpointError: it names the parameters.
        """
        lost = [param.name for param in params if param.name in self.missing]
        if lost:
            raise CheckpointError(
                "the checkpoint that was loaded holds no state of these parameters, but they have "
                f"gradients: {', '.join(map(repr, lost))}; nothing was updated. Load one that has "
                "it; or opt.set_state_dict(opt.state_dict()) has them begin anew"
            )
        self.missing = frozenset()

    @staticmethod
    def moment_dtype(param: Any) -> str:
        """Type of a parameter's moments in dynamic graph."""
        return "float64" if param.dtype == paddle.float64 else "float32"

    def _key(self, name: str) -> str:
        """Under which Paddle files a kind of state."""
        prefix = self._optimizer._name
        return name if prefix is None else f"{prefix}_{name}"

    def _moment(self, name: str, param: Any, dtype: str) -> Any:
        return self._optimizer._add_accumulator(name, param, getattr(paddle, dtype))

    def step_of(self, param: Any) -> tuple[Any, int]:
        """Step counts of a parameter's group in dynamic graph, and its place among them."""
        groups = self._optimizer._groups
        group, index = groups.place_of(param.name)
        steps = self._optimizer._accumulators[STEP]
        name = f"group_{group}"
        if name not in steps:
            steps[name] = paddle.zeros([groups.sizes[group]], "int64")
            steps[name].name = unique_name.generate("radam_step")
        return steps[name], index


def _static_step(count: int) -> Any:
    name = unique_name.generate(_STATIC_STEP)
    initializer = paddle.nn.initializer.Constant(value=0.0)
    if framework.in_pir_mode():
        return paddle.pir.core.create_persistable_value(
            paddle.int64, [count], name, initializer=initializer
        )
    helper = LayerHelper("radam_codegen")
    step = helper.create_global_variable(
        name=name, persistable=True, dtype="int64", shape=[count], belong_to_optimizer=True
    )
    step.stop_gradient = True
    helper.set_variable_initializer(step, initializer=initializer)
    return step
