"""Optimizer state in programs: the one place that knows how it is laid out.

Per parameter a ``moment1`` and a ``moment2``, named as the native optimizer names them
(``<param>_moment1_0``), and per group the step counts, int64, one entry per parameter.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import paddle
from paddle.base import unique_name
from paddle.base.framework import in_pir_mode
from paddle.base.layer_helper import LayerHelper

from radam_codegen.frontend.read_plan import PlannedGroup

__all__ = ["GroupState", "create_step_counts"]


@dataclass(frozen=True)
class GroupState:
    """Variables (legacy) or values (PIR) of one group in the main program."""

    moment1: tuple[Any, ...]
    moment2: tuple[Any, ...]
    #: Shape [number of parameters].
    step: Any


def create_step_counts(group: PlannedGroup) -> Any:
    """Create a group's step counts in the current main and startup program, set to 0."""
    name = unique_name.generate("radam_step")
    shape = [len(group.params)]
    initializer = paddle.nn.initializer.Constant(value=0.0)
    if in_pir_mode():
        return paddle.pir.core.create_persistable_value(
            paddle.int64, shape, name, initializer=initializer
        )
    helper = LayerHelper("radam_codegen")
    step = helper.create_global_variable(
        name=name, persistable=True, dtype="int64", shape=shape, belong_to_optimizer=True
    )
    step.stop_gradient = True
    helper.set_variable_initializer(step, initializer=initializer)
    return step
