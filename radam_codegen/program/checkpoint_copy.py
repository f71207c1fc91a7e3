"""Copying and pickling an optimizer, which carries its state in dynamic graph along.

Paddle files accumulators by the names of parameters, and gives copied parameters new names, so its
own optimizers' copies begin anew (or cannot be made, once a step was done). Here state goes with
its parameter: what is copied holds it by position.
"""

from __future__ import annotations

from collections import defaultdict
from typing import Any

from paddle.base import unique_name

from radam_codegen.program.dygraph import DygraphStepper
from radam_codegen.program.state import STEP, StateMaker

__all__ = ["copied_state", "restore_state"]

_HELD, _STEPS = "_held", "_steps"
#: What belongs to programs, or is made anew: empty in a copy.
_LEFT_OUT = (
    "helper",
    "clear_gradients",
    "_accumulators",
    "_accumulators_holder",
    "_already_create_accumulator",
    "_learning_rate_map",
    "_master_weights",
    "_opti_name_list",
    "_plan",
    "_state",
    "_stepper",
)


def copied_state(optimizer: Any) -> dict[str, Any]:
    """Return what a copy of an optimizer is made from.

    State in programs stays behind: a copy of an optimizer that was minimized is one that was not.
    """
    state = {name: value for name, value in vars(optimizer).items() if name not in _LEFT_OUT}
    steps = optimizer._accumulators.get(STEP)
    if steps:
        held = [optimizer._state.held(param) for param in optimizer._step_places.members]
        state[_HELD] = [each and (each.moment1, each.moment2, each.master) for each in held]
        state[_STEPS] = dict(steps)
    return state


def restore_state(optimizer: Any, state: dict[str, Any]) -> None:
    """Make an empty object the optimizer that the state was taken from."""
    state = dict(state)
    held, steps = state.pop(_HELD, ()), state.pop(_STEPS, {})
    vars(optimizer).update(state)
    optimizer.helper = None
    optimizer.clear_gradients = optimizer.clear_grad
    optimizer._accumulators = defaultdict(dict)
    optimizer._accumulators_holder = {}
    optimizer._already_create_accumulator = set()
    optimizer._learning_rate_map = {}
    optimizer._master_weights = {}
    optimizer._opti_name_list = []
    optimizer._plan = None
    optimizer._state = StateMaker(optimizer)
    optimizer._stepper = DygraphStepper()
    for group, counts in steps.items():
        counts.name = unique_name.generate("radam_step")
        optimizer._accumulators[STEP][group] = counts
    for param, tensors in zip(optimizer._step_places.members, held):
        if tensors:
            optimizer._state.adopt(param, *tensors)
