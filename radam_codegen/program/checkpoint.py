"""What ``state_dict``, ``set_state_dict`` and ``native_state_dict`` of the optimizer do.

A state dict has, per parameter, the moments under the names of their variables
(``<parameter>_moment1_0``), and the step count (``<parameter>_step_0``, int64, shape [1]): in
memory and in programs a group's counts are one tensor, but a checkpoint says of each whose it is.
Master weights and the scheduler's state stand where Paddle's optimizers have them.
"""

from __future__ import annotations

import copy
import warnings
from collections.abc import Mapping
from typing import Any

from paddle.base import framework
from paddle.optimizer.lr import LambdaDecay, LRScheduler

from radam_codegen.errors import ArgumentError, ProgramError
from radam_codegen.program.checkpoint_dygraph import DygraphStore
from radam_codegen.program.checkpoint_read import SCHEDULER, read_checkpoint
from radam_codegen.program.checkpoint_static import StaticStore

__all__ = ["native_state_dict", "set_state_dict", "state_dict"]


def state_dict(optimizer: Any, scope: Any = None) -> dict[str, Any]:
    """Return the state of an optimizer; see :meth:`radam_codegen.RAdam.state_dict`."""
    store = _store(optimizer, scope)
    entries = {} if store is None else store.entries()
    return {**entries, **_scheduler_entry(optimizer)}


def native_state_dict(optimizer: Any, scope: Any = None) -> dict[str, Any]:
    """Return the state in native form; see :meth:`radam_codegen.RAdam.native_state_dict`."""
    store = _store(optimizer, scope)
    entries = {} if store is None else store.native_entries()
    # Programs warn of, or refuse, what is no variable of theirs.
    return {**entries, **({} if optimizer._state.static.by_name else _scheduler_entry(optimizer))}


def set_state_dict(optimizer: Any, checkpoint: Mapping[str, Any], scope: Any = None) -> None:
    """Take over a checkpoint; see :meth:`radam_codegen.RAdam.set_state_dict`."""
    store = _store(optimizer, scope)
    if store is None:
        raise ProgramError(
            "there is no state to load into yet; call minimize() first, then set_state_dict()"
        )
    faults = _scheduler_faults(optimizer._learning_rate, checkpoint)
    loaded = read_checkpoint(
        checkpoint,
        store.expected(),
        optimizer._name,
        is_foreign=store.is_foreign,
        faults=faults,
    )
    if isinstance(optimizer._learning_rate, LRScheduler) and checkpoint.get(SCHEDULER):
        optimizer._learning_rate.set_state_dict(checkpoint[SCHEDULER])
    store.write(loaded)


def _store(optimizer: Any, scope: Any) -> DygraphStore | StaticStore | None:
    if optimizer._state.static.by_name:
        return StaticStore(optimizer, scope)
    if scope is not None:
        raise ArgumentError("a scope is for an optimizer that was minimized in a static program")
    return DygraphStore(optimizer) if framework.in_dygraph_mode() else None


def _scheduler_entry(optimizer: Any) -> dict[str, Any]:
    scheduler = optimizer._learning_rate
    return {SCHEDULER: scheduler.state_dict()} if isinstance(scheduler, LRScheduler) else {}


def _scheduler_faults(scheduler: Any, checkpoint: Any) -> list[str]:
    """Whether a scheduler can take over its part of a checkpoint, tried on a copy."""
    if not isinstance(scheduler, LRScheduler) or not isinstance(checkpoint, Mapping):
        return []
    state = checkpoint.get(SCHEDULER)
    if not state:
        lacks = not isinstance(scheduler, LambdaDecay)  # Paddle makes this exception too
        return [f"{SCHEDULER!r}: missing, but the learning rate is a scheduler"] if lacks else []
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            copy.deepcopy(scheduler).set_state_dict(state)
    except Exception as error:
        return [f"{SCHEDULER!r}: {type(scheduler).__name__} refuses it: {error}"]
    return []
