"""Optimizer state: the one place that knows how it is laid out.

Per parameter a ``moment1`` and a ``moment2``, named as the native optimizer names them
(``<param>_moment1_0``), a float32 master weight where one is wanted, and per group the step counts,
int64, one entry per parameter.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import paddle
from paddle.base import framework, unique_name
from paddle.base.layer_helper import LayerHelper

from radam_codegen.frontend.read_plan import PlannedGroup
from radam_codegen.program.dygraph import DygraphState

__all__ = ["MOMENTS", "STEP", "GroupState", "StateMaker"]

#: Names of the accumulators, as in the native optimizer.
MOMENTS = ("moment1", "moment2")
#: Under which the step counts stand among the optimizer's accumulators, by group.
STEP = "step"


@dataclass(frozen=True)
class GroupState:
    """Variables (legacy) or values (PIR) of one group in the main program."""

    moment1: tuple[Any, ...]
    moment2: tuple[Any, ...]
    #: float32 master weights; None where the group has none.
    master: tuple[Any, ...] | None
    #: Step counts: int64, shape [number of parameters].
    step: Any


class StateMaker:
    """Makes the state of one optimizer and keeps it in the optimizer's accumulators."""

    def __init__(self, optimizer: Any) -> None:
        self._optimizer = optimizer

    def of_group(self, group: PlannedGroup) -> GroupState:
        """Create a group's state in the current main and startup program, set to 0."""
        moment1, moment2 = (
            tuple(
                self._moment(name, param, tensor.moment_dtype.value)
                for param, tensor in zip(group.params, group.plan.tensors)
            )
            for name in MOMENTS
        )
        masters = tuple(
            self._optimizer._create_master_weight(param)
            for param, tensor in zip(group.params, group.plan.tensors)
            if tensor.master
        )
        return GroupState(moment1, moment2, masters or None, _static_step(len(group.params)))

    def of_parameter(self, param: Any, master: bool) -> DygraphState:
        """Return the state of one parameter in dynamic graph, made where it is missing."""
        dtype = "float64" if param.dtype == paddle.float64 else "float32"
        moment1, moment2 = (self._moment(name, param, dtype) for name in MOMENTS)
        weight = self._optimizer._create_master_weight(param) if master else None
        step, index = self._dygraph_step(param)
        return DygraphState(moment1, moment2, weight, step, index)

    def _moment(self, name: str, param: Any, dtype: str) -> Any:
        return self._optimizer._add_accumulator(name, param, getattr(paddle, dtype))

    def _dygraph_step(self, param: Any) -> tuple[Any, int]:
        groups = self._optimizer._groups
        group, index = groups.place_of(param.name)
        steps = self._optimizer._accumulators[STEP]
        name = f"group_{group}"
        if name not in steps:
            steps[name] = paddle.zeros([groups.sizes[group]], "int64")
            steps[name].name = unique_name.generate("radam_step")
        return steps[name], index


def _static_step(count: int) -> Any:
    name = unique_name.generate("radam_step")
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
