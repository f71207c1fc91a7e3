"""Telling Paddle that our operators have no gradient, in the legacy IR.

A loss that is built after an update reads the updated parameters, so its backward pass comes by the
operator that wrote them. Native optimizers' operators are registered as ends of that way; an
operator from outside of Paddle cannot be, and Paddle would refuse the backward pass.
"""

from __future__ import annotations

import functools
import threading
from collections.abc import Callable

from paddle.base import core

from radam_codegen.program.operator import BUILD_OP, STEP_OP

__all__ = ["end_gradients_at_updates"]

_lock = threading.Lock()


def end_gradients_at_updates() -> None:
    """Replace ``paddle.base.core.has_empty_grad_op_maker``, unless it has been already.

    Backward passes ask it of each operator on their way; for ours it answers yes.
    """
    with _lock:
        if not hasattr(core.has_empty_grad_op_maker, "__wrapped__"):
            core.has_empty_grad_op_maker = _with_ours(core.has_empty_grad_op_maker)


def _with_ours(original: Callable[[str], bool]) -> Callable[[str], bool]:
    @functools.wraps(original)
    def has_empty_grad_op_maker(op_type: str) -> bool:
        return op_type in (BUILD_OP, STEP_OP) or original(op_type)

    return has_empty_grad_op_maker
