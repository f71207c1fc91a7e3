"""PIR programs that do nothing but updates, run in the thread that calls the Executor.

Paddle hands a program's operators to threads of its own. That gains nothing where they only follow
each other, and to wake two threads takes as long as a step over some hundred thousand elements. How
a program runs is settled at its first run, by a flag of Paddle's.
"""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

from paddle.base import core

from radam_codegen.program.operator import STEP_OP

__all__ = ["does_only_updates", "in_calling_thread"]

_FLAG = "FLAGS_enable_pir_in_executor_trace_run"
_UPDATE = f"custom_op.{STEP_OP}_"
#: What only names values or puts them side by side.
_PASSIVE = frozenset(("builtin.combine", "builtin.parameter", "pd_op.data"))


def does_only_updates(program: Any) -> bool:
    """Whether a PIR program has our updates and no other operators that would do anything.

    Args:
        program: A ``paddle.pir.Program``.
    """
    names = {operation.name() for operation in program.global_block().ops}
    return _UPDATE in names and names <= _PASSIVE | {_UPDATE}


@contextmanager
def in_calling_thread() -> Iterator[None]:
    """Have PIR programs whose first run is in here run in the calling thread, now and later.

    The flag is the process's: what another thread runs for the first time meanwhile does likewise.
    """
    flags = core.globals()
    if _FLAG not in flags:
        yield
        return
    before = flags[_FLAG]
    flags[_FLAG] = True
    try:
        yield
    finally:
        flags[_FLAG] = before
