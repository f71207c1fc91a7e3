"""Programs that do nothing but updates, run in the thread that calls the Executor.

Paddle hands a program's operators to threads of its own. That gains nothing where they only follow
each other, and to wake two threads takes as long as a step over some hundred thousand elements.
"""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

import paddle
from paddle.base import core

from radam_codegen.program.operator import STEP_OP
from radam_codegen.toolchain.forks import ForkSafeLock, in_forked_child

__all__ = ["LEGACY_RUN", "PIR_FIRST_RUN", "does_only_updates", "in_calling_thread"]

#: What has a legacy program run in the calling thread while it is set.
LEGACY_RUN = "FLAGS_new_executor_serial_run"
#: What has a PIR program do so from its first run on, if it is set in that one.
PIR_FIRST_RUN = "FLAGS_enable_pir_in_executor_trace_run"

_UPDATE = f"custom_op.{STEP_OP}_"
#: What only names values or puts them side by side.
_PASSIVE = frozenset(("builtin.combine", "builtin.parameter", "pd_op.data"))


def does_only_updates(program: Any) -> bool:
    """Whether a program has our updates and no other operators that would do anything.

    Args:
        program: A ``paddle.pir.Program``, or a ``paddle.static.Program`` of the legacy IR, of which
            this takes no longer than a look at the first operator as a rule.
    """
    operations = program.global_block().ops
    if not isinstance(program, paddle.pir.Program):
        return bool(operations) and all(each.type == STEP_OP for each in operations)
    names = {operation.name() for operation in operations}
    return _UPDATE in names and names <= _PASSIVE | {_UPDATE}


class _Held:
    """A flag that is set while anybody holds it, and then what it was before."""

    def __init__(self, flag: str) -> None:
        self._flag = flag
        self._lock = ForkSafeLock()
        self._holders = 0
        self._before: Any = None
        in_forked_child(self._let_go)

    def take(self) -> None:
        with self._lock:
            if self._holders == 0:
                self._before = core.globals()[self._flag]
                core.globals()[self._flag] = True
            self._holders += 1

    def give_back(self) -> None:
        with self._lock:
            self._holders -= 1
            if self._holders == 0:
                core.globals()[self._flag] = self._before

    def _let_go(self) -> None:
        """Forget threads that held it, and are not there in a forked child."""
        if self._holders > 0:
            core.globals()[self._flag] = self._before
            self._holders = 0


_held = {flag: _Held(flag) for flag in (LEGACY_RUN, PIR_FIRST_RUN)}


@contextmanager
def in_calling_thread(flag: str) -> Iterator[None]:
    """Set a flag of Paddle's, one of the above, and set it back.

    It is the process's: what other threads run meanwhile may run in one thread likewise, and comes
    to the same. Nothing is done where this Paddle has no such flag.
    """
    if flag not in core.globals():
        yield
        return
    held = _held[flag]
    held.take()
    try:
        yield
    finally:
        held.give_back()
