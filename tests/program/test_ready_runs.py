"""Runs of PIR programs that the Executor has ready: less is done anew, and nothing is missed."""

from __future__ import annotations

import functools
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
from radam_codegen.program import calling_thread, kernels
from radam_codegen.program.calling_thread import does_only_updates
from radam_codegen.program.executor_hook import install_executor_hook, is_executor_hook_installed

pytestmark = [
    pytest.mark.usefixtures("cache"),
    pytest.mark.skipif(not IN_PIR, reason="legacy runs are Paddle's own"),
]

FLAG = "FLAGS_enable_pir_in_executor_trace_run"
CPU = paddle.CPUPlace()


def trained(**options: Any) -> FedProgram:
    return FedProgram([Tensor("p", (2,))], lambda params: rc.RAdam(0.1, **options)).start()


@pytest.fixture
def in_this_thread(monkeypatch: pytest.MonkeyPatch) -> Callable[..., bool]:
    """Runs a program; tells whether its step was in the thread of the test.

    A step whose kernel is not there has it made, in the thread that it is in.
    """
    threads: list[int] = []
    register = kernels.register

    def noting(key: int, spec: Any) -> None:
        threads.append(threading.get_ident())
        register(key, spec)

    monkeypatch.setattr(kernels, "register", noting)

    def run(program: Any, **arguments: Any) -> bool:
        for operation in program.main.global_block().ops:
            if "radam_codegen" in operation.name():
                kernels.operator().forget(operation.attrs()["key"])
        threads.clear()
        program.executor.run(program.main, scope=program.scope, **arguments)
        assert len(threads) == 1
        return threads[0] == threading.get_ident()

    return run


def test_updates_alone_run_in_the_calling_thread(in_this_thread: Callable[..., bool]) -> None:
    program = LyingGradients(3, grad_clip=paddle.nn.ClipGradByGlobalNorm(1.0))
    assert in_this_thread(program)
    assert core.globals()[FLAG] is False
    assert in_this_thread(program), "which is settled at the first run"


def test_with_something_to_fetch_they_do_too(in_this_thread: Callable[..., bool]) -> None:
    program = LyingGradients(1)
    (value,) = program.step(fetch_list=[program.params[0]])
    np.testing.assert_allclose(value, np.full(3, 0.9), rtol=1e-6)
    assert in_this_thread(program, fetch_list=[program.params[0]])


def test_other_programs_run_where_paddle_runs_them(in_this_thread: Callable[..., bool]) -> None:
    program = trained()
    for _ in range(2):
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
    monkeypatch.setattr(calling_thread, "_FLAG", "FLAGS_of_another_paddle")
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
    for _ in range(2):
        assert in_this_thread(program)
    np.testing.assert_array_equal(program.read("p0"), program.read("p1"))


def test_whose_flag_is_set_keeps_it() -> None:
    core.globals()[FLAG] = True
    try:
        LyingGradients(1).step()
        assert core.globals()[FLAG] is True
    finally:
        core.globals()[FLAG] = False


def test_what_counts_as_updates_alone() -> None:
    assert does_only_updates(LyingGradients(2).main)
    assert not does_only_updates(trained().main), "it has forward and backward"
    assert not does_only_updates(LyingGradients(2).startup)
    nothing = paddle.static.Program()
    with paddle.static.program_guard(nothing):
        paddle.static.data("x", [1], "float32")
    assert not does_only_updates(nothing), "it has no update"


def test_inputs_that_lie_in_the_scope_can_be_fed_in_one_run_and_not_in_the_next() -> None:
    program = LyingGradients(2)
    expected = LyingGradients(2)
    for number, fed in enumerate([None, -1.0, None, 2.0, -1.0]):
        if fed is None:
            program.step()
        else:
            program.step(feed={"g1": np.full(3, fed, "float32")})
            lying = expected.scope.find_var("g1").get_tensor()
            lying.set(np.full(3, fed, "float32"), CPU)
        expected.step()
        for name in ("p0", "p1", "g1"):
            np.testing.assert_array_equal(
                program.read(name), expected.read(name), f"run {number}, {name}"
            )


def test_what_must_be_fed_is_missed() -> None:
    program = trained()
    for feed in ({}, {"fed_0": np.ones(2, "float32")}, {}):
        if feed:
            program.step([feed["fed_0"]])
        else:
            with pytest.raises(KeyError, match="fed_0"):
                program.step([])


def test_feeds_that_no_program_has_are_dropped_with_a_warning() -> None:
    program = LyingGradients(1)
    for _ in range(2):
        feed = {"nobody": np.ones(3, "float32")}
        with pytest.warns(UserWarning, match="nobody is not found in program"):
            program.step(feed=feed)
        assert feed == {}


@pytest.mark.parametrize("as_numpy", [True, False])
def test_results_are_of_the_type_that_is_asked_for(as_numpy: bool) -> None:
    program = trained()
    feed = {"fed_0": np.ones(2, "float32")}
    for _ in range(2):
        (loss,) = program.executor.run(
            program.main,
            feed=feed,
            fetch_list=[program.loss],
            scope=program.scope,
            return_numpy=as_numpy,
        )
        assert isinstance(loss, np.ndarray if as_numpy else core.DenseTensor)


def test_paddle_does_not_list_the_operators_of_a_known_program(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    seen: list[Any] = []
    inner = paddle.static.Executor._run_pir_impl

    def spy(self: Any, **arguments: Any) -> Any:
        seen.append(arguments["program"])
        return inner(self, **arguments)

    monkeypatch.setattr(paddle.static.Executor, "_run_pir_impl", spy)
    program = LyingGradients(1)
    seen.clear()
    program.step()
    program.executor.run(program.startup, scope=program.scope)
    stand_in, startup = seen
    assert not isinstance(stand_in, paddle.pir.Program)
    assert stand_in.program is program.main
    assert len(stand_in.global_block().ops) == len(program.main.global_block().ops)
    # Of the startup program, which has an operator of ours as well, its text is known likewise.
    assert startup.program is program.startup


def test_default_program_and_names_of_arguments() -> None:
    program = LyingGradients(1)
    with paddle.static.program_guard(program.main), paddle.static.scope_guard(program.scope):
        program.executor.run()
        program.executor.run(None)
        program.executor.run(program=None)
        program.executor.run(program=program.main)
    np.testing.assert_allclose(program.read("p0"), np.full(3, 0.6), rtol=1e-6)


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
    assert len(seen) == 1
    assert seen[0] is program.main


def test_an_executor_of_more_programs_than_it_keeps() -> None:
    programs = [LyingGradients(1) for _ in range(12)]
    for each in programs:
        each.executor = programs[0].executor
    for _ in range(3):
        for each in programs:
            each.step()
    for each in programs:
        np.testing.assert_allclose(each.read("p0"), np.full(3, 0.7), rtol=1e-6)
