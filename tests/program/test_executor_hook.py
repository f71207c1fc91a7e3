"""The hook on ``paddle.static.Executor.run``: how narrow it is, and what comes out of it."""

from __future__ import annotations

import inspect
import subprocess
import sys
import threading
from typing import Any

import numpy as np
import paddle
import pytest
from support.operator_program import GroupProgram, Registry
from support.prunable import IN_PIR, Half, Programs, build, feed_of

import radam_codegen
from radam_codegen.errors import CompileError, ProgramError
from radam_codegen.program.executor_hook import (
    install_executor_hook,
    is_executor_hook_installed,
)
from radam_codegen.program.pruning import PruneCache

pytestmark = pytest.mark.usefixtures("cache")

INNER = "_run_pir_impl" if IN_PIR else "_run_impl"


@pytest.fixture
def passed_on(monkeypatch: pytest.MonkeyPatch) -> list[dict[str, Any]]:
    """What reached Paddle's own code, run by run."""
    calls: list[dict[str, Any]] = []
    inner = getattr(paddle.static.Executor, INNER)

    def spy(self: Any, **arguments: Any) -> Any:
        calls.append(arguments)
        return inner(self, **arguments)

    monkeypatch.setattr(paddle.static.Executor, INNER, spy)
    return calls


def test_importing_installs_nothing() -> None:
    script = (
        "import paddle, radam_codegen.program.executor_hook as hook\n"
        "assert not hook.is_executor_hook_installed()\n"
        "run = paddle.static.Executor.run\n"
        "hook.install_executor_hook(); hook.install_executor_hook()\n"
        "assert hook.is_executor_hook_installed()\n"
        "assert paddle.static.Executor.run.__wrapped__ is run\n"
    )
    subprocess.run([sys.executable, "-c", script], check=True, timeout=120)


def test_installed_once_by_many_threads() -> None:
    before = paddle.static.Executor.run
    threads = [threading.Thread(target=install_executor_hook) for _ in range(8)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert paddle.static.Executor.run is before
    assert is_executor_hook_installed()
    assert not hasattr(before.__wrapped__, "__wrapped__")


def test_not_installed_again_under_another_wrapper(monkeypatch: pytest.MonkeyPatch) -> None:
    import functools

    hooked = paddle.static.Executor.run

    @functools.wraps(hooked)
    def outer(self: Any, *args: Any, **kwargs: Any) -> Any:
        return hooked(self, *args, **kwargs)

    monkeypatch.setattr(paddle.static.Executor, "run", outer)
    install_executor_hook()
    assert paddle.static.Executor.run is outer


def test_signature_and_documentation_stay() -> None:
    run = paddle.static.Executor.run
    assert inspect.signature(run) == inspect.signature(run.__wrapped__)
    assert run.__doc__ == run.__wrapped__.__doc__
    assert list(inspect.signature(run).parameters)[1:4] == ["program", "feed", "fetch_list"]


def test_other_runs_go_straight_to_paddle(
    passed_on: list[dict[str, Any]], cache: PruneCache
) -> None:
    programs = build("d").start()
    half = programs.halves["d"]
    feed, fetch_list = feed_of("d", 0), [half.loss, [half.loss]]
    programs.executor.run(programs.main, feed, fetch_list, scope=programs.scope)
    call = passed_on[-1]
    assert call["program"] is programs.main
    assert call["feed"] is feed
    assert call["fetch_list"] is fetch_list
    assert call["scope"] is programs.scope
    assert (cache.prunings, cache.hits) == (0, 0)


def test_other_arguments_of_a_pruned_run_arrive(passed_on: list[dict[str, Any]]) -> None:
    programs = build("d").start()
    half = programs.halves["d"]
    (loss,) = programs.run(feed_of("d", 0), [half.loss, half.result], return_numpy=False)
    assert isinstance(loss, paddle.base.core.DenseTensor)
    call = passed_on[-1]
    assert call["return_numpy"] is False
    assert (call["feed_var_name"], call["fetch_var_name"]) == ("feed", "fetch")
    assert call["scope"] is programs.scope
    assert call["program"] is not programs.main


def test_arguments_by_position() -> None:
    programs = build("dg").start()
    half = programs.halves["d"]
    with paddle.static.scope_guard(programs.scope):
        by_op = programs.executor.run(programs.main, feed_of("d", 0), [half.loss, half.result])
        rest = ("feed", "fetch", None, True, False, True)
        feed = feed_of("dg", 0)
        by_flag = programs.executor.run(programs.main, feed, [half.loss], *rest)
    assert len(by_op) == len(by_flag) == 1


def test_default_main_program() -> None:
    programs = build("dg").start()
    half = programs.halves["d"]
    with paddle.static.program_guard(programs.main, programs.startup):
        result = programs.executor.run(
            feed=feed_of("d", 0), fetch_list=[half.loss, half.result], scope=programs.scope
        )
    assert len(result) == 1


def test_subclasses_are_covered() -> None:
    class Counting(paddle.static.Executor):  # type: ignore[misc]
        runs = 0

        def run(self, *args: Any, **kwargs: Any) -> Any:
            self.runs += 1
            return super().run(*args, **kwargs)

    class Plain(paddle.static.Executor):  # type: ignore[misc]
        pass

    for kind in (Counting, Plain):
        programs = build("dg")
        programs.executor = kind(paddle.CPUPlace())
        programs.start()
        half = programs.halves["d"]
        assert len(programs.run(feed_of("d", 0), [half.loss, half.result])) == 1
    executor = Counting(paddle.CPUPlace())
    programs.executor = executor
    programs.run(feed_of("d", 0), [half.result])
    assert executor.runs == 1


def test_two_executors_share_what_was_pruned(cache: PruneCache) -> None:
    programs = build("dg").start()
    half = programs.halves["d"]
    for _ in range(2):
        programs.run(feed_of("d", 0), [half.loss, half.result])
        programs.executor = paddle.static.Executor(paddle.CPUPlace())
    assert (cache.prunings, cache.hits) == (1, 1)


def test_threads_with_programs_of_their_own() -> None:
    paired = [build("dg").start() for _ in range(3)]
    failures: list[BaseException] = []

    def train(programs: Programs, half: Half) -> None:
        try:
            for step in range(1, 20):
                programs.run(feed_of([half.name], step), [half.loss, half.result])
        except BaseException as error:
            failures.append(error)

    # Paddle itself cannot prepare two programs at a time, whatever the optimizer.
    for programs in paired:
        half = programs.halves["d"]
        programs.run(feed_of("d", 0), [half.loss, half.result])
    threads = [
        threading.Thread(target=train, args=(programs, programs.halves["d"])) for programs in paired
    ]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert failures == []
    first, *others = (programs.halves["d"].weights(programs.scope) for programs in paired)
    for weights in others:
        for now, then in zip(weights, first):
            np.testing.assert_array_equal(now, then)


def test_failed_run_leaves_everything_usable() -> None:
    programs = build("d").start()
    half = programs.halves["d"]
    with pytest.raises(ProgramError):
        programs.run({}, [half.loss, half.result])
    assert len(programs.run(feed_of("d", 0), [half.loss, half.result])) == 1


def test_paddles_own_errors_come_out_as_they_are() -> None:
    programs = build("d")  # startup has not run
    half = programs.halves["d"]
    for fetch_list in ([half.loss], [half.loss, half.result]):
        with pytest.raises(Exception) as caught:  # noqa: PT011
            programs.run(feed_of("d", 0), fetch_list)
        assert not isinstance(caught.value, radam_codegen.RadamCodegenError)


def test_failed_build_comes_out_as_our_error() -> None:
    registry = Registry()
    cause = CompileError("the compiler said no")
    registry.failure = cause
    program = GroupProgram(registry, [[4]], key=4711)
    try:
        with pytest.raises(CompileError) as caught, paddle.static.scope_guard(program.scope):
            program.executor.run(program.startup)
        assert caught.value is cause
        assert caught.value.__cause__ is not None
        assert not isinstance(caught.value.__cause__, CompileError)
        registry.failure = None
        program.run_startup()
    finally:
        registry.library.forget(4711)
