"""The hook on ``paddle.static.Executor.run``.

One attribute of one class is replaced, once per process. What the hook does beyond Paddle's own:

- a run with optimize ops in its fetch list, or with ``use_prune=True``, runs a pruned copy of the
  program, in both IRs (:mod:`~radam_codegen.program.pruning`);
- a PIR program with our operators is printed for the Executor's key only when it has changed
  (:mod:`~radam_codegen.program.program_key`), and what else Paddle does anew for every run of it is
  left out (:mod:`~radam_codegen.program.ready_runs`);
- a program of nothing but our updates runs in the calling thread
  (:mod:`~radam_codegen.program.calling_thread`);
- a program with several learning-rate schedulers gets each of them written before the run;
- when a run fails because our operator could not be built, finds no state, or finds tensors that
  share memory in a way that cannot be, our own error comes out.

Every other run goes straight to Paddle with the arguments that came in.

``Executor._prune_program`` is called but not replaced. Mending only what it loses in the legacy IR
would have meant a second replaced attribute, and would have left Paddle's cache of pruned programs,
which keeps dead programs, misses some changes to a program, and empties the caller's feed dict.
"""

from __future__ import annotations

import functools
import threading
from collections.abc import Callable
from typing import Any, NamedTuple

import paddle
from paddle.static import CompiledProgram, Executor

from radam_codegen.config import Config, watch
from radam_codegen.errors import OperatorError, ProgramError, RadamCodegenError
from radam_codegen.program.fetches import Fetches, has_optimize_op, split_fetch_list
from radam_codegen.program.operator import STEP_OP, check_operators, take_failure
from radam_codegen.program.program_key import known_texts
from radam_codegen.program.pruning import feed_names_of, prune_cache
from radam_codegen.program.ready_runs import ready_run
from radam_codegen.program.schedulers import (
    SchedulerSet,
    all_schedulers,
    program_schedulers,
    write_learning_rates,
)
from radam_codegen.program.shared_memory import refusal_of_program

__all__ = ["install_executor_hook", "is_executor_hook_installed"]

_NOT_STARTED = (
    "the optimizer's state is not initialized in this scope: minimize() adds it to the startup "
    "program, which has not run since. Run the startup program after minimize() and before the "
    "main program (it also sets the parameters to their initial values), or load a checkpoint"
)

_MARK = "_radam_codegen_hook"
_install_lock = threading.Lock()


def install_executor_hook() -> None:
    """Replace ``paddle.static.Executor.run``, unless it has been already.

    Executors and their subclasses that exist by then are covered too.
    """
    with _install_lock:
        if not is_executor_hook_installed():
            watch(_follow_settings)
            Executor.run = _hooked(Executor.run)


def is_executor_hook_installed() -> bool:
    """Tell whether ``Executor.run`` is, or was wrapped around, our hook."""
    function: Any = Executor.run
    while function is not None:
        if getattr(function, _MARK, False):
            return True
        function = getattr(function, "__wrapped__", None)
    return False


def _follow_settings(settings: Config) -> None:
    known_texts.enabled = settings.program_key == "memoised"


class _Run(NamedTuple):
    """The parameters of ``Executor.run``, in their order, with its defaults."""

    program: Any = None
    feed: Any = None
    fetch_list: Any = None
    feed_var_name: str = "feed"
    fetch_var_name: str = "fetch"
    scope: Any = None
    return_numpy: bool = True
    use_program_cache: bool = False
    use_prune: bool = False


_SCOPE = _Run._fields.index("scope")
_USE_PRUNE = _Run._fields.index("use_prune")


def _hooked(wrapped: Callable[..., Any]) -> Callable[..., Any]:
    original = ready_run(wrapped)

    @functools.wraps(wrapped)
    def run(self: Any, *args: Any, **kwargs: Any) -> Any:
        fetch_list = args[2] if len(args) > 2 else kwargs.get("fetch_list")
        use_prune = args[_USE_PRUNE] if len(args) > _USE_PRUNE else kwargs.get("use_prune")
        program = args[0] if args else kwargs.get("program")
        if program is None:
            program = paddle.static.default_main_program()
        try:
            if use_prune or has_optimize_op(fetch_list):
                return _run_pruned(original, self, program, _Run(*args, **kwargs))
            schedulers = program_schedulers(_inner(program))
            if schedulers is not None and not _paddle_manages(program, schedulers, args, kwargs):
                return _run_scheduled(original, self, program, schedulers, _Run(*args, **kwargs))
            return original(self, *args, **kwargs)
        except RadamCodegenError:
            raise
        except Exception as error:
            failure = take_failure()
            if failure is not None:
                raise failure from error
            try:
                check_operators(_inner(program))
            except OperatorError as unknown:
                raise unknown from error
            shared = refusal_of_program(_inner(program), error)
            if shared is not None:
                raise shared from error
            if _lacks_state(error):
                # In PIR it keeps what it has made ready for this scope, which lacks the variables.
                self._executor_cache = type(self._executor_cache)()
                raise ProgramError(_NOT_STARTED) from error
            raise

    setattr(run, _MARK, True)
    return run


def _lacks_state(error: Exception) -> bool:
    """Whether a step of ours found no memory: Paddle's words in the legacy IR, ours in PIR."""
    text = str(error)
    legacy = f"operator < {STEP_OP} > error" in text and "is not initialized" in text
    return legacy or ("radam_codegen: " in text and "holds no memory" in text)


def _paddle_manages(
    program: Any, schedulers: SchedulerSet, args: tuple[Any, ...], kwargs: dict[str, Any]
) -> bool:
    scope = args[_SCOPE] if len(args) > _SCOPE else kwargs.get("scope")
    return len(schedulers.bound) == 1 and (scope is None or not _misses_scope(program, scope))


def _run_pruned(original: Callable[..., Any], executor: Any, program: Any, arguments: _Run) -> Any:
    return _run_copy(
        original, executor, program, arguments, split_fetch_list(arguments.fetch_list), whole=False
    )


def _run_scheduled(
    original: Callable[..., Any],
    executor: Any,
    program: Any,
    schedulers: SchedulerSet,
    arguments: _Run,
) -> Any:
    scope = _scope_of(arguments)
    if _misses_scope(program, scope):
        fetches = split_fetch_list(arguments.fetch_list)
        return _run_copy(original, executor, program, arguments, fetches, whole=True)
    write_learning_rates(schedulers, scope, executor.place)
    return original(executor, *arguments)


def _run_copy(
    original: Callable[..., Any],
    executor: Any,
    program: Any,
    arguments: _Run,
    fetches: Fetches,
    *,
    whole: bool,
) -> Any:
    scope = _scope_of(arguments)
    missed = _misses_scope(program, scope)
    copy = prune_cache.get(
        program,
        feed_names_of(arguments.feed),
        fetches,
        prune_program=executor._prune_program,
        with_schedulers=not missed,
        whole=whole,
    )
    feed = copy.select_feed(arguments.feed)
    schedulers = all_schedulers(_inner(program if missed else copy.program))
    if schedulers is not None:
        write_learning_rates(schedulers, scope, executor.place)
    return original(
        executor,
        *arguments._replace(
            program=copy.program, feed=feed, fetch_list=list(copy.fetch_list), use_prune=False
        ),
    )


def _scope_of(arguments: _Run) -> Any:
    return paddle.static.global_scope() if arguments.scope is None else arguments.scope


def _misses_scope(program: Any, scope: Any) -> bool:
    """Tell whether Paddle would write this run's learning rate into another scope.

    In PIR it writes into the global scope whatever scope the run uses, and fails where the variable
    is not there. Such a run gets a copy of the program without schedulers.
    """
    return (
        isinstance(program, paddle.pir.Program)
        and scope is not paddle.static.global_scope()
        and all_schedulers(program) is not None
    )


def _inner(program: Any) -> Any:
    return program._program if isinstance(program, CompiledProgram) else program
