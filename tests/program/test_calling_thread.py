"""Programs of nothing but updates run in the thread that calls the Executor, others as ever."""

from __future__ import annotations

import functools
import os
import threading
from collections.abc import Callable
from typing import Any

import numpy as np
import paddle
import pytest
from paddle.base import core
from support.lying_gradients import LyingGradients
from support.static_programs import IN_PIR, FedProgram, Tensor

import radam_codegen as rc
from radam_codegen.errors import ProgramError
from radam_codegen.program import calling_thread, kernels, ready_runs
from radam_codegen.program.calling_thread import does_only_updates, in_calling_thread
from radam_codegen.program.executor_hook import install_executor_hook, is_executor_hook_installed

pytestmark = pytest.mark.usefixtures("cache")

CPU = paddle.CPUPlace()
FLAG = calling_thread.PIR_FIRST_RUN if IN_PIR else calling_thread.LEGACY_RUN


def trained() -> FedProgram:
    return FedProgram([Tensor("p", (2,))], lambda params: rc.RAdam(0.1)).start()


@pytest.fixture
def in_this_thread(monkeypatch: pytest.MonkeyPatch) -> Callable[..., bool]:
    """Runs a program twice; tells whether the second step was in the thread of the test.

    A step whose kernel is not there has it made, in the thread that it is in. All legacy programs
    run in the calling thread the first time.
    """
    threads: list[int] = []
    register = kernels.register

    def noting(key: int, spec: Any) -> None:
        threads.append(threading.get_ident())
        register(key, spec)

    monkeypatch.setattr(kernels, "register", noting)

    def run(program: Any, **arguments: Any) -> bool:
        program.executor.run(program.main, scope=program.scope, **arguments)
        for operation in program.main.global_block().ops:
            if "radam_codegen" in (operation.name() if IN_PIR else operation.type):
                kernels.operator().forget(_key_of(operation))
        threads.clear()
        program.executor.run(program.main, scope=program.scope, **arguments)
        assert len(threads) == 1
        return threads[0] == threading.get_ident()

    return run


def _key_of(operation: Any) -> int:
    return int(operation.attrs()["key"] if IN_PIR else operation.attr("key"))


def test_updates_alone_run_in_the_calling_thread(in_this_thread: Callable[..., bool]) -> None:
    program = LyingGradients(3, grad_clip=paddle.nn.ClipGradByGlobalNorm(1.0))
    assert in_this_thread(program)
    assert core.globals()[FLAG] is False


def test_with_something_to_fetch_they_do_too(in_this_thread: Callable[..., bool]) -> None:
    program = LyingGradients(1)
    (value,) = program.step(fetch_list=[program.params[0]])
    np.testing.assert_allclose(value, np.full(3, 0.9), rtol=1e-6)
    assert in_this_thread(program, fetch_list=[program.params[0]])


def test_other_programs_run_where_paddle_runs_them(in_this_thread: Callable[..., bool]) -> None:
    program = trained()
    assert not in_this_thread(program, feed={"fed_0": np.ones(2, "float32")})


def test_the_setting_leaves_it_to_paddle(in_this_thread: Callable[..., bool]) -> None:
    rc.config(program_key="text")
    try:
        assert not in_this_thread(LyingGradients(3))
    finally:
        rc.config(program_key=None)


def test_a_paddle_without_the_flag(
    in_this_thread: Callable[..., bool], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(ready_runs, "PIR_FIRST_RUN", "FLAGS_of_another_paddle")
    monkeypatch.setattr(ready_runs, "LEGACY_RUN", "FLAGS_of_another_paddle")
    assert not in_this_thread(LyingGradients(3))


def test_a_first_run_that_fails(in_this_thread: Callable[..., bool]) -> None:
    program = LyingGradients(2)
    gradient = program.scope.find_var("g1").get_tensor()
    value = np.array(gradient)
    gradient._clear()
    for _ in range(2):
        with pytest.raises(ProgramError, match="not initialized in this scope"):
            program.step()
        assert core.globals()[FLAG] is False
    gradient.set(value, CPU)
    assert in_this_thread(program)
    np.testing.assert_array_equal(program.read("p0"), program.read("p1"))


def test_whose_flag_is_set_keeps_it() -> None:
    core.globals()[FLAG] = True
    try:
        LyingGradients(1).step()
        assert core.globals()[FLAG] is True
    finally:
        core.globals()[FLAG] = False


def test_a_flag_is_set_back_by_the_last_of_several_threads() -> None:
    first, second = (in_calling_thread(FLAG) for _ in range(2))
    first.__enter__()
    second.__enter__()
    first.__exit__(None, None, None)
    assert core.globals()[FLAG] is True
    second.__exit__(None, None, None)
    assert core.globals()[FLAG] is False


def test_a_forked_child_does_not_wait_for_threads_of_its_parent() -> None:
    held, done = threading.Event(), threading.Event()

    def hold() -> None:
        with in_calling_thread(FLAG):
            held.set()
            done.wait(60)

    thread = threading.Thread(target=hold)
    thread.start()
    held.wait(60)
    child = os.fork()
    if child == 0:
        still_set = core.globals()[FLAG]
        with in_calling_thread(FLAG):
            pass
        os._exit(int(still_set or core.globals()[FLAG]))
    _, status = os.waitpid(child, 0)
    assert core.globals()[FLAG] is True
    done.set()
    thread.join()
    assert core.globals()[FLAG] is False
    assert os.waitstatus_to_exitcode(status) == 0


def test_threads_that_update_at_once_leave_no_flag_set() -> None:
    programs = [LyingGradients(2) for _ in range(3)]

    def train(program: LyingGradients) -> None:
        for _ in range(200):
            program.executor.run(program.main, scope=program.scope)

    threads = [threading.Thread(target=train, args=(each,)) for each in programs]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert core.globals()[FLAG] is False
    alone = LyingGradients(2)
    train(alone)
    for each in programs:
        np.testing.assert_array_equal(each.read("p0"), alone.read("p0"))


def test_what_counts_as_updates_alone() -> None:
    assert does_only_updates(LyingGradients(2).main)
    assert not does_only_updates(trained().main), "it has forward and backward"
    assert not does_only_updates(LyingGradients(2).startup)
    nothing = paddle.static.Program()
    with paddle.static.program_guard(nothing):
        paddle.static.data("x", [1], "float32")
    assert not does_only_updates(nothing), "it has no update"


def test_whoever_wrapped_the_executor_before_gets_programs(
    in_this_thread: Callable[..., bool], monkeypatch: pytest.MonkeyPatch
) -> None:
    seen: list[Any] = []
    paddles = paddle.static.Executor.run.__wrapped__

    @functools.wraps(paddles)
    def outer(self: Any, program: Any = None, *args: Any, **kwargs: Any) -> Any:
        seen.append(program)
        return paddles(self, program, *args, **kwargs)

    del outer.__wrapped__  # type: ignore[attr-defined]
    program = LyingGradients(1)
    monkeypatch.setattr(paddle.static.Executor, "run", outer)
    assert not is_executor_hook_installed()
    install_executor_hook()
    assert is_executor_hook_installed()
    assert in_this_thread(program), "the Executor knows the program all the same"
    assert all(each is program.main for each in seen)
    assert seen
