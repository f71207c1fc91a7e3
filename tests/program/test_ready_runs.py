"""Runs of PIR programs that the Executor has ready: less is done anew, and nothing is missed."""

from __future__ import annotations

from typing import Any

import numpy as np
import paddle
import pytest
from paddle.base import core
from support.lying_gradients import LyingGradients
from support.static_programs import IN_PIR, FedProgram, Tensor

import radam_codegen as rc

pytestmark = [
    pytest.mark.usefixtures("cache"),
    pytest.mark.skipif(not IN_PIR, reason="legacy runs are Paddle's own"),
]

CPU = paddle.CPUPlace()


def trained(**options: Any) -> FedProgram:
    return FedProgram([Tensor("p", (2,))], lambda params: rc.RAdam(0.1, **options)).start()


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


def test_an_executor_of_more_programs_than_it_keeps() -> None:
    programs = [LyingGradients(1) for _ in range(12)]
    for each in programs:
        each.executor = programs[0].executor
    for _ in range(3):
        for each in programs:
            each.step()
    for each in programs:
        np.testing.assert_allclose(each.read("p0"), np.full(3, 0.7), rtol=1e-6)
