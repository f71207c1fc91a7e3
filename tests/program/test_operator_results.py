"""Results of a step: where nobody can read them, nothing is left for the Executor to clean up."""

from __future__ import annotations

from typing import Any

import numpy as np
import paddle
import pytest
from support.lying_gradients import LyingGradients
from support.own_threads import wakes_of_other_threads
from support.small_programs import SmallProgram, parameter
from support.static_programs import IN_PIR, program_text

import radam_codegen as rc
from radam_codegen.config import STATE_LAYOUTS

pytestmark = pytest.mark.usefixtures("cache")

STEPS = 100
#: Place of the step counts among the results of an update in PIR.
STEP_OUT = 3


def dropping_launches(program: Any) -> int:
    return program_text(program).replace("\\", "").count('"results":"dropped"')


@pytest.mark.parametrize("layout", STATE_LAYOUTS)
def test_results_of_pir_are_dropped_and_nothing_else(
    monkeypatch: pytest.MonkeyPatch, layout: str
) -> None:
    monkeypatch.setenv("RADAM_CODEGEN_STATE_LAYOUT", layout)
    program = LyingGradients(2)
    assert dropping_launches(program.main) == (1 if IN_PIR else 0)
    for _ in range(3):
        program.step()
    # Steps of equal gradients, not rectified: each moves by the learning rate.
    for name in ("p0", "p1"):
        np.testing.assert_allclose(program.read(name), np.full(3, 0.7), rtol=1e-6)


def test_counts_that_are_stored_from_a_result_are_kept() -> None:
    def build() -> Any:
        a, b, c = map(parameter, "abc")
        optimizer = rc.RAdam(0.01)
        # The second update has the count of the first one's b, and one of its own.
        return [optimizer.minimize(paddle.mean(each)) for each in (a * b, b * c)]

    # That the counts are right is shown where losses share parameters.
    assert dropping_launches(SmallProgram(build).main) == (1 if IN_PIR else 0)


@pytest.mark.skipif(not IN_PIR, reason="in the legacy IR results are the variables themselves")
def test_who_reads_a_dropped_result_is_told() -> None:
    program = LyingGradients(1)
    (update,) = (op for op in program.main.global_block().ops if "radam_codegen" in op.name())
    with paddle.static.program_guard(program.main):
        more = update.results()[STEP_OUT] + 1
    with pytest.raises(RuntimeError, match="holds no memory"):
        program.step(fetch_list=[more])


def test_no_other_thread_has_anything_to_do_after_a_step() -> None:
    program = LyingGradients(5)
    program.step()
    assert wakes_of_other_threads(program.step, STEPS) < STEPS // 2
