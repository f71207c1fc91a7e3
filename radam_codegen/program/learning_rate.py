"""The learning rate as a variable of a program, written by a scheduler or once."""

from __future__ import annotations

from typing import Any

import paddle
from paddle.base.layer_helper import LayerHelper
from paddle.optimizer import Optimizer
from paddle.optimizer.lr import LRScheduler

from radam_codegen.frontend.read_plan import read_dtype
from radam_codegen.ir.dtypes import DType
from radam_codegen.program.schedulers import SCHEDULER_ATTRIBUTES, attach_scheduler
from radam_codegen.program.variables import ProgramVariables, check_new

__all__ = ["create_learning_rate"]


def create_learning_rate(optimizer: Optimizer, program: Any, dtype: DType) -> Any:
    """Have an optimizer create its learning rate in the current programs, once per type.

    Paddle gives the program's only place for a scheduler to the last optimizer; here all of them
    keep theirs. Paddle also takes the type from the loss or from the default type. The Executor
    writes a bfloat16 rate as 0, and float16 has no rates below 6e-8.

    Args:
        optimizer: whose learning rate it is.
        program: the current main program.
        dtype: type of the variable, float32 or float64.

    Returns:
        The learning rate's variable (legacy) or value (PIR): shape [], of that type.

    Raises:
        ProgramError: the name that the learning rate would have is taken.
    """
    rates = optimizer._learning_rate_map
    # Mixed precision puts a rate of its own there.
    for present in (rates.get((program, dtype)), rates.get(program)):
        if present is not None and read_dtype("the learning rate", present.dtype) is dtype:
            return ProgramVariables(program).get(present.name)
    if optimizer.helper is None:
        optimizer.helper = LayerHelper(type(optimizer).__name__)
    check_new("learning_rate", ProgramVariables(program).names(), "learning rate")
    attributes = vars(program)
    before = {name: attributes[name] for name in SCHEDULER_ATTRIBUTES if name in attributes}
    # Paddle knows one rate per program, and makes none where there is one, of whatever type.
    rates.pop(program, None)
    optimizer._dtype = getattr(paddle, dtype.value)
    optimizer._create_global_learning_rate()
    variable = rates[program, dtype] = optimizer._global_learning_rate(program)
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
