"""Step counts of parameters that are updated by several operators of a program.

An operator takes the step counts of its parameters as one tensor. Where an optimizer minimizes a
second loss that reaches only some of the parameters of the first, or more, no tensor is there with
just these counts: they are gathered before the step and stored after it.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any

import numpy as np
import paddle
from paddle.base import core, framework

__all__ = ["GatheredSteps", "StepCount"]

_OPTIMIZE = int(core.op_proto_and_checker_maker.OpRole.Optimize)
#: Place of the step counts among the results of a step in PIR.
_STEP_OUT = 3


@dataclass(frozen=True)
class StepCount:
    """Where the step count of one parameter is kept."""

    #: Step counts of some parameters: int64, one dimension.
    variable: Any
    index: int


class GatheredSteps:
    """Step counts gathered into one tensor, in the order that an operator wants.

    Args:
        program: the current main program.
        counts: where each parameter's count is kept.
    """

    def __init__(self, program: Any, counts: Sequence[StepCount]) -> None:
        self._program = program
        self._counts = counts
        self._operations: list[Any] = []
        #: int64, shape [number of parameters].
        self.step = self._gather()

    def stored(self, step_operation: Any) -> list[Any]:
        """Store the counts after a step.

        Returns:
            All operators that belong to the step, in their order, the step itself among them.
        """
        self._operations.append(step_operation)
        pir = not isinstance(self._program, framework.Program)
        after = step_operation.results()[_STEP_OUT] if pir else self.step
        with self._recorded():
            for variable in self._variables():
                places = [
                    place for place, each in enumerate(self._counts) if each.variable is variable
                ]
                targets = [self._counts[place].index for place in places]
                updates = paddle.gather(after, _constant(places))
                stored = paddle.scatter(variable, _constant(targets), updates)
                paddle.assign(stored, output=variable)
        return self._operations

    def _gather(self) -> Any:
        with self._recorded():
            begin, begins = 0, {}
            for variable in self._variables():
                begins[id(variable)] = begin
                begin += int(variable.shape[0])
            places = [begins[id(each.variable)] + each.index for each in self._counts]
            return paddle.gather(paddle.concat(self._variables()), _constant(places))

    def _variables(self) -> list[Any]:
        return list({id(each.variable): each.variable for each in self._counts}.values())

    def as_many_in(self, startup: Any) -> Any:
        """Return as many counts in a startup program, for the operator that builds the kernel."""
        with paddle.static.program_guard(startup):
            return paddle.full([len(self._counts)], 0, "int64")

    @contextmanager
    def _recorded(self) -> Iterator[None]:
        legacy = isinstance(self._program, framework.Program)
        if legacy:
            block, role = self._program.current_block(), self._program._optimized_guard([])
        else:
            block = paddle.base.libpaddle.pir.get_current_insertion_point().block()
            role = framework.pir_op_role_guard(_OPTIMIZE)
        start = len(block.ops)
        with role:
            yield
        self._operations += block.ops[start:]


def _constant(numbers: list[int]) -> Any:
    return paddle.assign(np.array(numbers, np.int64))
