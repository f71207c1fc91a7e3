"""Kernels are compiled when the startup program runs, once, and whatever fails can be repeated."""

from __future__ import annotations

import json
import shutil
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from support.counting_compiler import CountingCompiler
from support.fork_server import ForkServer
from support.script_cases import script_server

#: What every process begins with; ``note`` keeps what the test wants to see.
PREAMBLE = """
import json, os
from pathlib import Path
import numpy as np
import paddle
paddle.enable_static()
import radam_codegen as rc
from radam_codegen import errors
from support.counting_compiler import CountingCompiler
from support.static_programs import FedProgram, Tensor, random_gradients

compiler = CountingCompiler(Path({folder!r}))
noted = {{}}
TENSORS = [Tensor("p", (9,)), Tensor("q", (3, 5))]

def note(what, value=None):
    noted[what] = compiler.compiles if value is None else value

def program(tensors=TENSORS, **options):
    with paddle.utils.unique_name.guard():
        return FedProgram(tensors, lambda params: rc.RAdam(**{{"learning_rate": 0.01, **options}}))

def train(of, steps=7):
    for grads in random_gradients(of.tensors, steps):
        of.step(grads)
    return [value.tolist() for value in of.values()]

"""


class Machine:
    """A cache that knows the operator but no kernel, and a compiler that counts."""

    def __init__(self, folder: Path, server: ForkServer) -> None:
        self.cache = folder / "cache"
        self.compiler = CountingCompiler.make(folder / "compiler")
        self.server = server

    def run(self, script: str) -> dict[str, Any]:
        """Run a script in a process of its own; return what it noted."""
        preamble = PREAMBLE.format(folder=str(self.compiler.folder))
        done = self.server.run(
            "run_script",
            script=f"{preamble}{script}\nprint(json.dumps(noted))",
            arguments=[],
            environ={
                "RADAM_CODEGEN_CACHE_DIR": str(self.cache),
                "CC": str(self.compiler.path),
            },
        )
        assert done.result is not None, done
        noted: dict[str, Any] = json.loads(done.result.splitlines()[-1])
        return noted


@pytest.fixture(scope="module")
def server(tmp_path_factory: pytest.TempPathFactory) -> Iterator[ForkServer]:
    with script_server(tmp_path_factory) as server:
        yield server


@pytest.fixture(scope="module")
def operator_cache(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A cache with the operator in it, which takes seconds to compile and is not looked at here."""
    from radam_codegen.program import kernels

    return kernels.operator().path.parent.parent


@pytest.fixture
def machine(tmp_path: Path, operator_cache: Path, server: ForkServer) -> Machine:
    machine = Machine(tmp_path, server)
    shutil.copytree(operator_cache, machine.cache / operator_cache.name)
    return machine


def test_one_compile_at_startup_and_none_after_it(machine: Machine) -> None:
    script = """
built = program()
note("built")
note("path before", str(built.optimizer.sources()[0].path))
built.start()
note("started")
source = built.optimizer.sources()[0]
note("source is there", source.path.read_text() == source.text)
built.start()
note("started again")
note("values", train(built))
note("trained")
for options in (
    {"learning_rate": 0.5}, {"beta1": 0.5}, {"beta2": 0.9}, {"epsilon": 1e-3},
    {"learning_rate": paddle.optimizer.lr.StepDecay(0.1, 3)},
):
    train(program(**options).start(), 2)
train(program([Tensor("other", (4, 4, 4))]).start(), 2)
note("other numbers")
train(program(weight_decay=0.1).start(), 2)
note("decay")
train(program(weight_decay=0.2).start(), 2)
note("another coefficient")
train(program(grad_clip=paddle.nn.ClipGradByGlobalNorm(1.0)).start(), 2)
note("clip")
train(program(grad_clip=paddle.nn.ClipGradByGlobalNorm(2.0)).start(), 2)
note("another bound")
"""
    noted = machine.run(script)
    assert noted["built"] == 0
    assert noted["path before"] == "None"
    assert noted["started"] == 1
    assert noted["source is there"]
    assert noted["started again"] == 1
    assert noted["trained"] == 1
    assert noted["other numbers"] == 1
    assert noted["decay"] == 2
    assert noted["another coefficient"] == 2
    assert noted["clip"] == 3
    assert noted["another bound"] == 3

    again = machine.run(script)
    assert again["another bound"] == 3, "a second process compiled"
    assert again["values"] == noted["values"]


def test_a_failed_compile_comes_out_of_run_and_can_be_repeated(machine: Machine) -> None:
    noted = machine.run(
        """
compiler.fail(True)
built = program()
for attempt in ("first", "second"):
    try:
        built.start()
    except errors.CompileError as error:
        note(attempt, str(error))
try:
    built.step(random_gradients(TENSORS, 1)[0])
except Exception as error:
    note("step", f"{type(error).__name__}: {error}")
compiler.fail(False)
built.start()
note("values", train(built))
note("compiles")
"""
    )
    assert "kernel.c:7:1: error: out of ideas" in noted["first"]
    assert "radam_no_clip__f32_no_decay" in noted["first"]
    assert str(machine.compiler.path) in noted["first"]
    log = next(line for line in noted["first"].splitlines() if line.startswith("  log: "))
    assert "out of ideas" in Path(log[len("  log: ") :]).read_text()
    assert noted["second"] == noted["first"]
    assert noted["compiles"] >= 3

    fine = machine.run("note('values', train(program().start()))")
    assert noted["values"] == fine["values"]


def test_a_compiler_that_is_missing_is_named(machine: Machine) -> None:
    noted = machine.run(
        """
os.environ["CC"] = "/no/such/compiler"
built = program()
try:
    built.start()
except errors.CompilerNotFoundError as error:
    note("error", str(error))
os.environ["CC"] = str(compiler.path)
note("values", train(built.start()))
"""
    )
    assert "/no/such/compiler" in noted["error"]
    assert "CC" in noted["error"]


def test_a_main_program_without_its_startup_builds_at_the_first_step(machine: Machine) -> None:
    noted = machine.run(
        """
other = program().start()
grads = random_gradients(TENSORS, 9)
for each in grads[:4]:
    other.step(each)
state = {name: other.read(name) for name in (*other.optimizer_state(), "p", "q")}
np.savez(os.environ["RADAM_CODEGEN_CACHE_DIR"] + "/state.npz", **state)
for each in grads[4:]:
    other.step(each)
note("values", [value.tolist() for value in other.values()])
"""
    )
    assert machine.compiler.compiles == 1
    shutil.rmtree(machine.cache / "kernels")
    resumed = machine.run(
        """
built = program()
for name, value in np.load(os.environ["RADAM_CODEGEN_CACHE_DIR"] + "/state.npz").items():
    built.write(name, value)
note("before")
grads = random_gradients(TENSORS, 9)
built.step(grads[4])
note("after one step")
for each in grads[5:]:
    built.step(each)
note("after all")
note("values", [value.tolist() for value in built.values()])
"""
    )
    assert resumed["before"] == 1
    assert resumed["after one step"] == 2
    assert resumed["after all"] == 2
    assert resumed["values"] == noted["values"]


def test_a_failed_compile_at_the_first_step_changes_nothing(machine: Machine) -> None:
    noted = machine.run(
        """
built = program()
for name in built.state_names():
    shape = (16 + 15,) if "moment" in name else {"p": (9,), "q": (3, 5)}.get(name, (2,))
    dtype = "int64" if "step" in name else "float32"
    value = np.full((), 0.01, "float32") if "rate" in name else np.zeros(shape, dtype)
    built.write(name, value)
compiler.fail(True)
before = {name: built.read(name).tolist() for name in built.state_names()}
grads = random_gradients(TENSORS, 1)[0]
try:
    built.step(grads)
except errors.CompileError as error:
    note("error", str(error))
after = {name: built.read(name).tolist() for name in built.state_names()}
note("unchanged", before == after)
compiler.fail(False)
built.step(grads)
note("steps", built.read("radam_step_0").tolist())
"""
    )
    assert "out of ideas" in noted["error"]
    assert noted["unchanged"]
    assert noted["steps"] == [1, 1]


def test_groups_of_equal_structure_share_a_kernel(machine: Machine) -> None:
    noted = machine.run(
        """
def grouped(params):
    p, q = params
    return rc.RAdam(0.01, parameters=[
        {"params": [p], "beta1": 0.8, "weight_decay": 0.1},
        {"params": [q], "epsilon": 1e-4, "weight_decay": 0.3},
    ])
built = FedProgram(TENSORS, grouped).start()
note("sources", len(built.optimizer.sources()))
note("groups", len(built.optimizer.plan.groups))
note("compiles")
"""
    )
    assert noted["groups"] == 2
    assert noted["sources"] == 1
    assert noted["compiles"] == 1
