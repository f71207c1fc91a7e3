"""Optimizer state in dynamic graph, and the way to that in programs.

Per parameter a ``moment1`` and a ``moment2``, named as the native optimizer names them
(``<param>_moment1_0``), a float32 master weight where one is wanted, and per group the step counts,
int64, one entry per parameter.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import paddle
from paddle.base import unique_name

from radam_codegen.errors import ArgumentError, CheckpointError
from radam_codegen.program.checkpoint_keys import MASTER, MOMENTS
from radam_codegen.program.dygraph_launch import DygraphState
from radam_codegen.program.static_state import StaticStates

__all__ = ["STEP", "StateMaker"]

#: Under which the step counts stand among the optimizer's accumulators, by group.
STEP = "step"


class StateMaker:
    """Makes the state of one optimizer and keeps it in the optimizer's accumulators.

    Args:
        optimizer: whose state it is.
    """

    def __init__(self, optimizer: Any) -> None:
        self._optimizer = optimizer
        #: State in programs.
        self.static = StaticStates(optimizer)
        #: Parameters that a checkpoint of the native optimizer was expected to have, and had not.
        self.missing: frozenset[str] = frozenset()

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
        """Step counts of a parameter's group in dynamic graph, and its place among them.

        Raises:
            ArgumentError: the optimizer has no such parameter.
        """
        places = self._optimizer._step_places
        if param.name not in places:
            self._check_listed(param)
            places.add(param)
        tensor, index = places.of(param.name)
        steps = self._optimizer._accumulators[STEP]
        name = f"group_{tensor}"
        if name not in steps:
            steps[name] = paddle.zeros([places.size(tensor)], "int64")
            steps[name].name = unique_name.generate("radam_step")
        return steps[name], index

    def _check_listed(self, param: Any) -> None:
        """Refuse a parameter that is neither in the optimizer's groups nor in its list."""
        optimizer = self._optimizer
        for listed in (optimizer._groups.members, optimizer._parameter_list):
            if any(each is param for each in listed or ()):
                return
        raise ArgumentError(
            f"parameter {param.name!r} is none of those that the optimizer was given; add it to "
            "the optimizer's parameters"
        )
