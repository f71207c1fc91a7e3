"""Legacy programs that Paddle's Executor would translate to PIR, run by their own IR.

With ``FLAGS_enable_pir_in_executor`` the Executor translates every legacy program. Of a list of
tensors that a custom operator updates its translator keeps only the first, and the operator fails
when it is run ("The number of output shapes ... is wrong"). So a program with our updates is run
with that flag off, and so is one that was pruned, as pruning may drop an operator that takes a
feed. What such a process adds to programs for the translation is left out of a copy:
``paddle.static.data`` appends operators that only PIR can run.
"""

from __future__ import annotations

import threading
import weakref
from collections.abc import Callable
from typing import Any

from paddle.base import core, framework

from radam_codegen.program.operator import STEP_OP
from radam_codegen.program.prune_legacy import PRUNED
from radam_codegen.program.pruning import version_of
from radam_codegen.toolchain.forks import in_forked_child

__all__ = ["run_untranslated"]

_FLAG = "FLAGS_enable_pir_in_executor"
_INPUT_OP = "data"

#: Held by every run while the flag is set: it is the process's, and the Executor reads it several
#: times in a run, so no other run may be on its way when it changes.
_lock = threading.RLock()
_is_off = False
#: Copies, each with the version of the program that it was made of.
_copies: weakref.WeakKeyDictionary[Any, tuple[object, Any]] = weakref.WeakKeyDictionary()


def run_untranslated(program: Any, run: Callable[[Any], Any]) -> Any:
    """Do a run of a legacy program, without its translation if it has updates of ours.

    Args:
        program: What the Executor was given.
        run: Has the Executor run what it is given: the program, or a copy.
    """
    global _is_off
    flags = core.globals()
    if _FLAG not in flags:
        return run(program)
    with _lock:
        if flags[_FLAG]:
            if not isinstance(program, framework.Program) or not _is_ours(program):
                return run(program)
            flags[_FLAG], _is_off = False, True
            try:
                return run(_without_inputs(program))
            finally:
                flags[_FLAG], _is_off = True, False
    return run(program)


def _is_ours(program: Any) -> bool:
    return hasattr(program, PRUNED) or any(
        each.type == STEP_OP for block in program.blocks for each in block.ops
    )


def _without_inputs(program: Any) -> Any:
    version = version_of(program)
    known = _copies.get(program)
    if known is not None and known[0] == version:
        return known[1]
    copy = program.clone()
    block = copy.global_block()
    for at in reversed(range(len(block.ops))):
        if block.ops[at].type == _INPUT_OP:
            block._remove_op(at)
    _copies[program] = version, copy
    return copy


def _let_go_in_child() -> None:
    """A thread that held the lock, with the flag off, is not there in a forked child."""
    global _is_off, _lock
    _lock = threading.RLock()
    if _is_off:
        core.globals()[_FLAG], _is_off = True, False


in_forked_child(_let_go_in_child)
