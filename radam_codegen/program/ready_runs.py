"""Runs of programs with operators of this package, without what Paddle need not do anew.

Paddle's Executor looks up what it has made ready for a PIR program by its text, the names of feeds
and fetches, and the scope. For programs whose text is known
(:mod:`~radam_codegen.program.program_key`)

- the text's hash stands for the text;
- of the program's inputs only those are looked through in every run that can be fed in it;
- a program of nothing but updates runs in the calling thread
  (:mod:`~radam_codegen.program.calling_thread`), as one of the legacy IR does.
"""

from __future__ import annotations

from collections.abc import Callable
from functools import lru_cache, partial
from typing import Any

import paddle
from paddle.base import executor as paddles
from paddle.base.executor import _ExecutorCache, _get_program_cache_key, as_numpy
from paddle.base.framework import Program, in_pir_mode

from radam_codegen.program.calling_thread import (
    LEGACY_RUN,
    PIR_FIRST_RUN,
    does_only_updates,
    in_calling_thread,
)
from radam_codegen.program.program_key import KnownProgram, known_texts
from radam_codegen.program.untranslated import run_untranslated
from radam_codegen.toolchain.forks import ForkSafeLock

__all__ = ["ready_run"]

#: As many as Paddle keeps ready.
_CAPACITY = 8

#: Held while a program is made ready, once for each that an Executor keeps: Paddle appends fetches
#: at an insertion point that all threads of the process have in common.
_insertion_point = ForkSafeLock()


def ready_run(original: Callable[..., Any]) -> Callable[..., Any]:
    """Return what does as ``Executor.run`` does, and less of what has been done.

    Args:
        original: ``Executor.run``, of Paddle or of somebody who has wrapped it.
    """
    # Somebody else may look into the program, and is given no other thing in its place.
    code = getattr(original, "__code__", None)
    is_paddles = code is not None and code.co_filename == paddles.__file__

    def legacy_run(executor: Any, args: Any, kwargs: Any, program: Any) -> Any:
        args, kwargs = (program, *args[1:]), {k: v for k, v in kwargs.items() if k != "program"}
        if _runs_here(executor, program):
            with in_calling_thread(LEGACY_RUN):
                return original(executor, *args, **kwargs)
        return original(executor, *args, **kwargs)

    def run(executor: Any, *args: Any, **kwargs: Any) -> Any:
        program = args[0] if args else kwargs.get("program")
        if program is None:
            program = paddle.static.default_main_program()
        if not in_pir_mode():
            return run_untranslated(program, partial(legacy_run, executor, args, kwargs))
        if not isinstance(program, paddle.pir.Program):
            return original(executor, *args, **kwargs)
        _make_ready_by(_KeyedRun if is_paddles else _FoundRun, executor)
        known = known_texts.known(program) if is_paddles else None
        if known is None:
            return original(executor, *args, **kwargs)
        if args:
            return original(executor, known, *args[1:], **kwargs)
        return original(executor, **{**kwargs, "program": known})

    return run


def _runs_here(executor: Any, program: Any) -> bool:
    """Whether a run of a legacy program is to be in the calling thread."""
    return (
        known_texts.enabled
        and isinstance(program, Program)
        and isinstance(executor.place, paddle.CPUPlace)
        and does_only_updates(program)
    )


def _make_ready_by(keyed: type[_KeyedRun], executor: Any) -> None:
    """Have an Executor make PIR runs ready as above; it costs nothing when it does already."""
    cache = executor._executor_cache
    if cache._CachedData is not keyed:
        cache._get_cached_program_and_executor_pir_mode = lru_cache(maxsize=_CAPACITY)(
            partial(_make_ready, cache)
        )
        cache._CachedData = keyed


class _KeyedRun(_ExecutorCache._CachedData):  # type: ignore[misc]
    """A run, as Paddle's cache of executors looks it up: equal keys are one entry.

    A program that is not known was looked at before, and is Paddle's to print.
    """

    def __init__(
        self,
        program: Any,
        feed: Any,
        fetch_list: Any,
        feed_var_name: str,
        fetch_var_name: str,
        place: Any,
        scope: Any,
        plan: Any = None,
    ) -> None:
        self.is_known = isinstance(program, KnownProgram)
        if not self.is_known:
            super().__init__(
                program, feed, fetch_list, feed_var_name, fetch_var_name, place, scope, plan
            )
            return
        self.program = program.program
        self.feed = feed
        self.fetch_list = fetch_list
        self.feed_var_name = feed_var_name
        self.fetch_var_name = fetch_var_name
        self.place = place
        self.scope = scope
        self.plan = plan
        # What Paddle has in its key, in its place the text's hash for the text.
        names = _get_program_cache_key(feed, fetch_list)
        self.key = hash((program.text_hash, scope.raw_address(), names))


class _FoundRun(_KeyedRun):
    """Likewise where somebody else's wrapper lies before Paddle, which is given programs only."""

    def __init__(self, program: Any, *rest: Any) -> None:
        known = known_texts.known(program) if isinstance(program, paddle.pir.Program) else None
        super().__init__(program if known is None else known, *rest)


def _make_ready(cache: Any, run: _KeyedRun) -> tuple[Any, Any, list[Any]]:
    """What Paddle makes ready for a run: a copy of the program, its executor, and its inputs."""
    with _insertion_point:
        program, executor, inputs = cache._get_pir_program_and_executor(run)
    if not run.is_known:
        return program, executor, inputs
    # The names that are fed are in the key. Paddle passes over what is persistable and not fed.
    inputs = [each for each in inputs if each[0] in run.feed or not each[3]]
    if run.plan is None:
        in_thread = isinstance(run.place, paddle.CPUPlace) and does_only_updates(run.program)
        executor = _ReadyExecutor(executor, in_thread)
    return program, executor, inputs


class _ReadyExecutor:
    """Paddle's executor of one program, which is not split into micro-batches.

    Args:
        executor: Paddle's.
        in_thread: Whether to run in the calling thread.
    """

    def __init__(self, executor: Any, in_thread: bool) -> None:
        self._executor = executor
        self._start_in_thread = in_thread

    def run(
        self,
        feed_names: Any,
        return_numpy: bool = True,
        enable_job_schedule_profiler: bool = False,
    ) -> Any:
        if self._start_in_thread:
            with in_calling_thread(PIR_FIRST_RUN):
                tensors = self._executor.run(feed_names, False, enable_job_schedule_profiler)
            self._start_in_thread = False
        else:
            tensors = self._executor.run(feed_names, False, enable_job_schedule_profiler)
        # As Paddle does it, but for a look at a flag that concerns micro-batches alone.
        return as_numpy(tensors, copy=True) if return_numpy else tensors

    def __getattr__(self, name: str) -> Any:
        return getattr(self._executor, name)
