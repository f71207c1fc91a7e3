"""What is done with programs around training: copies, tests, exports, startup at another time."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from pathlib import Path
from typing import Any

import numpy as np
import paddle
import pytest
from support.small_programs import SmallProgram, parameter
from support.static_programs import IN_PIR, program_text

import radam_codegen as rc
from radam_codegen.program.operator import STEP_OP

pytestmark = pytest.mark.usefixtures("static_mode")

legacy_only = pytest.mark.skipif(IN_PIR, reason="PIR has it for no program")

LR = 0.01
#: What would tell that a program, or what was saved with it, was trained by ours.
OURS = (STEP_OP, "moment1", "radam_step")
X = np.array([1.0, 2.0, 3.0], "float32")


def build() -> tuple[Any, Any]:
    """Return the input and the loss of a program that is trained."""
    x = paddle.static.data("x", [3], "float32")
    loss = paddle.mean(x * parameter("weight") ** 2)
    rc.RAdam(LR).minimize(loss)
    return x, loss


def test_startup_ran_before_minimize() -> None:
    def late() -> Any:
        x = paddle.static.data("x", [3], "float32")
        return paddle.mean(x * parameter("weight") ** 2)

    program = SmallProgram(late).start()
    with paddle.static.program_guard(program.main, program.startup):
        rc.RAdam(LR).minimize(program.result)
    for _ in range(2):
        with pytest.raises(ValueError, match=r"Run the startup program after minimize\(\)"):
            program.run(x=X)
    program.start().run(x=X)
    assert np.all(program.read("weight") < 0.5)


@legacy_only
def test_a_clone_for_test_updates_nothing() -> None:
    program = SmallProgram(build).start()
    for_test = program.main.clone(for_test=True)
    assert STEP_OP not in program_text(for_test)
    _, loss = program.result
    program.run(fetch_list=[loss.name], program=for_test, x=X)
    np.testing.assert_array_equal(program.read("weight"), np.full(3, 0.5, "float32"))
    program.run(x=X)
    assert np.all(program.read("weight") < 0.5)


def test_a_clone_updates_the_same_parameters() -> None:
    program, twin = (SmallProgram(build).start() for _ in range(2))
    clone = program.main.clone()
    for step in range(6):
        program.run(x=X, program=clone if step % 2 else program.main)
        twin.run(x=X)
    np.testing.assert_array_equal(program.read("weight"), twin.read("weight"))


@legacy_only
def test_a_compiled_program_trains() -> None:
    program, twin = (SmallProgram(build).start() for _ in range(2))
    compiled = paddle.static.CompiledProgram(program.main)
    for _ in range(6):
        (loss,) = program.run(fetch_list=[program.result[1]], program=compiled, x=X)
        (expected,) = twin.run(fetch_list=[twin.result[1]], x=X)
        np.testing.assert_array_equal(loss, expected)
    np.testing.assert_array_equal(program.read("weight"), twin.read("weight"))


_PREDICT = """
import sys
import numpy as np
import paddle

paddle.enable_static()
executor = paddle.static.Executor(paddle.CPUPlace())
program, feeds, fetches = paddle.static.load_inference_model(sys.argv[1], executor)
(result,) = executor.run(program, feed={feeds[0]: np.float32([1, 2, 3])}, fetch_list=fetches)
assert not [name for name in sys.modules if name.startswith("radam_codegen")]
print(result.tolist())
"""


def test_an_exported_program_knows_nothing_of_us(tmp_path: Path) -> None:
    def predicting() -> tuple[Any, Any]:
        x = paddle.static.data("x", [3], "float32")
        result = x * parameter("weight") ** 2
        rc.RAdam(LR).minimize(paddle.mean(result))
        return x, result

    program = SmallProgram(predicting).start()
    program.run(x=X)
    x, result = program.result
    normalized = paddle.static.normalize_program(program.main, [x], [result])
    assert not [name for name in OURS if name in program_text(normalized)]
    prefix = str(tmp_path / "exported")
    with paddle.static.scope_guard(program.scope):
        paddle.static.save_inference_model(
            prefix, [x], [result], program.executor, program=program.main
        )
    for file in tmp_path.iterdir():
        assert not [name for name in OURS if name.encode() in file.read_bytes()], file.name
    printed = subprocess.run(
        [sys.executable, "-c", _PREDICT, prefix],
        env=os.environ,
        capture_output=True,
        text=True,
        check=True,
        timeout=120,
    ).stdout
    expected = X * program.read("weight") ** 2
    np.testing.assert_allclose(json.loads(printed.splitlines()[-1]), expected, 1e-6)
