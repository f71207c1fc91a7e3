"""The learning rate as a variable of a program, written by a scheduler or once."""

from __future__ import annotations

from typing import Any

from paddle.base.layer_helper import LayerHelper
from paddle.optimizer import Optimizer
from paddle.optimizer.lr import LRScheduler

from radam_codegen.program.schedulers import SCHEDULER_ATTRIBUTES, attach_scheduler
from radam_codegen.program.variables import ProgramVariables, check_new

__all__ = ["create_learning_rate"]


def create_learning_rate(optimizer: Optimizer, program: Any) -> Any:
    """Have an optimizer create its learning rate in the current programs, once per program.

    Paddle gives the program's only place for a scheduler to the last optimizer; here all of them
    keep theirs.

    Args:
        optimizer: whose learning rate it is.
        program: the current main program.

    Returns:
        The learning rate's variable (legacy) or value (PIR): shape [], float.

    Raises:
        ProgramError: the name that the learning rate would have is taken.
    """
    present = optimizer._global_learning_rate(program)
    if present is not None:
        return ProgramVariables(program).get(present.name)
    if optimizer.helper is None:
        optimizer.helper = LayerHelper(type(optimizer).__name__)
    check_new("learning_rate", ProgramVariables(program).names(), "learning rate")
    attributes = vars(program)
    before = {name: attributes[name] for name in SCHEDULER_ATTRIBUTES if name in attributes}
    optimizer._create_global_learning_rate()
    variable = optimizer._global_learning_rate(program)
    scheduler = optimizer._learning_rate
    if isinstance(scheduler, LRScheduler):
        name = scheduler._var_name
        for each in SCHEDULER_ATTRIBUTES:
            if each in before:
                setattr(program, each, before[each])
            elif hasattr(program, each):
                delattr(program, each)
        attach_scheduler(program, scheduler, variable, name)
    return variable
