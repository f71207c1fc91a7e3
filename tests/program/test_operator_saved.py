"""Programs that are saved in one process and used in another, with and without the operators."""

from __future__ import annotations

from collections.abc import Callable, Iterator

import pytest
from support.fork_server import ForkServer
from support.operator_program import IN_PIR
from support.script_cases import script_server

PRELUDE = """
import sys
import numpy as np
import paddle
paddle.enable_static()
main_file, startup_file = sys.argv[1:]
feed = {"g1_grad0": np.ones(2, "float32"), "g1_grad1": np.ones(3, "float32")}
"""

SAVE = """
from support.operator_program import GroupProgram, Registry
program = GroupProgram(Registry(), [[2], [3]], key=1)
paddle.save(program.main, main_file)
paddle.save(program.startup, startup_file)
"""

REGISTER = """
from support.operator_program import GroupNumbers, Registry, TensorNumbers
registry = Registry()
registry.groups[1] = (GroupNumbers(0.9, 0.999, 1e-8), [TensorNumbers()] * 2)
"""

LOAD = """
startup, main = paddle.load(startup_file), paddle.load(main_file)
executor = paddle.static.Executor(paddle.CPUPlace())
"""

RUN = """
executor.run(startup)
executor.run(main, feed=feed)
print(registry.calls, np.array(paddle.static.global_scope().find_var("g1_p1").get_tensor()))
"""


#: Runs parts of a script, one after the other, in a process of its own; what they printed.
Run = Callable[..., str]


@pytest.fixture(scope="module")
def server(tmp_path_factory: pytest.TempPathFactory) -> Iterator[ForkServer]:
    with script_server(tmp_path_factory) as server:
        yield server


@pytest.fixture(scope="module")
def run(server: ForkServer, tmp_path_factory: pytest.TempPathFactory) -> Run:
    folder = tmp_path_factory.mktemp("saved")
    suffix = ".json" if IN_PIR else ".pdmodel"
    files = [str(folder / f"main{suffix}"), str(folder / f"startup{suffix}")]

    def run(*parts: str) -> str:
        script = "".join((PRELUDE, *parts))
        environ = {"FLAGS_enable_pir_api": str(int(IN_PIR))}
        done = server.run("run_script", script=script, arguments=files, environ=environ)
        assert done.result is not None, done
        return str(done.result)

    run(SAVE)
    return run


def test_a_saved_program_runs_in_another_process(run: Run) -> None:
    assert run(REGISTER, LOAD, RUN) == "[(1, 'launch')] [0.5 0.5 0.5]\n"


def test_running_without_the_operators_is_an_error(run: Run) -> None:
    attempt = """
for program in (startup, main):
    try:
        executor.run(program, feed=feed if program is main else {})
        print("ran")
    except RuntimeError as error:
        print("op []" in str(error) or "radam_codegen" in str(error))
"""
    assert run(LOAD, attempt) == "True\nTrue\n"


def test_a_program_loaded_too_early_is_refused(run: Run) -> None:
    attempt = """
from radam_codegen.errors import OperatorError
from radam_codegen.program.operator import check_operators
for program in (startup, main):
    try:
        check_operators(program)
    except OperatorError as error:
        print("radam_codegen.load_operator()" in str(error))
"""
    assert run(LOAD, attempt) == "True\nTrue\n"


@pytest.mark.skipif(not IN_PIR, reason="in a legacy program the operators keep their names")
def test_a_program_loaded_too_early_fails_with_our_error(run: Run) -> None:
    attempt = """
import radam_codegen as rc
from radam_codegen.errors import OperatorError
rc.load_operator()
for attempt in (
    lambda: executor.run(main, feed=feed),
    lambda: executor.run(main, feed=feed, use_prune=True),
    lambda: rc.prune(main),
):
    try:
        attempt()
    except OperatorError as error:
        print("load the program (again)" in str(error))
    else:
        print("no error")
"""
    assert run(LOAD, attempt).splitlines() == ["True"] * 3


def test_a_program_loaded_in_time_is_accepted(run: Run) -> None:
    attempt = """
from radam_codegen.program.operator import check_operators
check_operators(startup)
check_operators(main)
print("fine")
"""
    assert run(REGISTER, LOAD, attempt) == "fine\n"


@pytest.mark.skipif(not IN_PIR, reason="a pass of PIR")
def test_dead_code_elimination_keeps_the_operators(run: Run) -> None:
    attempt = """
passes = paddle.pir.PassManager()
passes.add_pass("dead_code_elimination_pass", {})
for program in (startup, main):
    passes.run(program)
    print(program.global_block().ops[-1].name())
"""
    assert run(REGISTER, LOAD, attempt + RUN).splitlines() == [
        "custom_op.radam_codegen_build_",
        "custom_op.radam_codegen_step_",
        "[(1, 'launch')] [0.5 0.5 0.5]",
    ]
