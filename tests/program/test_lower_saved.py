"""Native training that goes on lowered: in flight, from files, in another process."""

from __future__ import annotations

import json
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import paddle
import pytest
from click.testing import CliRunner
from support.fork_server import ForkServer
from support.script_cases import script_server
from support.small_programs import SmallProgram, parameter
from support.static_programs import IN_PIR

import radam_codegen as rc
from radam_codegen.cli import main as command

pytestmark = pytest.mark.usefixtures("static_mode")

SUFFIX = ".json" if IN_PIR else ".pdmodel"
#: What the training feeds, also in the other process.
FEED = 'lambda step: {"x": np.random.default_rng(step).standard_normal(3).astype("float32")}'
feed: Any = eval(FEED)

GO_ON = """
import sys
import numpy as np
import paddle
import radam_codegen as rc
paddle.enable_static()
prefix, suffix, result = sys.argv[1:]
rc.load_operator()
program = paddle.load(prefix + suffix)
scope = paddle.static.global_scope()
for kind in (".pdparams", ".pdopt"):
    for name, value in paddle.load(prefix + kind, return_numpy=True).items():
        scope.var(name).get_tensor().set(np.asarray(value), paddle.CPUPlace())
feed = FEED
executor = paddle.static.Executor(paddle.CPUPlace())
for step in range(10, 14):
    executor.run(program, feed=feed(step))
np.savez(result, **{name: np.array(scope.find_var(name).get_tensor()) for name in ("w", "v")})
"""


@pytest.fixture(scope="module")
def server(tmp_path_factory: pytest.TempPathFactory) -> Iterator[ForkServer]:
    with script_server(tmp_path_factory) as server:
        yield server


def network() -> None:
    x = paddle.static.data("x", [3], "float32")
    first, second = parameter("w", regularizer=paddle.regularizer.L2Decay(0.3)), parameter("v")
    loss = paddle.mean(x * first * second)
    paddle.optimizer.RAdam(
        0.05, beta2=0.9, weight_decay=0.1, grad_clip=paddle.nn.ClipGradByNorm(0.2)
    ).minimize(loss)


def trained(steps: int) -> SmallProgram:
    program = SmallProgram(network).start()
    for step in range(steps):
        program.run(**feed(step))
    return program


@pytest.fixture(scope="module")
def expected() -> dict[str, Any]:
    paddle.enable_static()
    program = trained(14)
    paddle.disable_static()
    return {name: program.read(name) for name in ("w", "v")}


def assert_close(found: Any, expected: dict[str, Any]) -> None:
    for name, value in expected.items():
        np.testing.assert_allclose(found[name], value, 2e-5, 2e-6, err_msg=name)


def test_in_flight_and_in_another_process(
    server: ForkServer, expected: dict[str, Any], tmp_path: Path
) -> None:
    program = trained(7)
    report = rc.lower(program.main, scope=program.scope)
    assert report.converted == 2
    # What is not needed any more holds no memory.
    assert not program.scope.find_var("w_rho_0").get_tensor()._is_initialized()
    for step in range(7, 10):
        program.run(**feed(step))
    with paddle.static.scope_guard(program.scope):
        paddle.static.save(program.main, str(tmp_path / "lowered"))
    for step in range(10, 14):
        program.run(**feed(step))
    assert_close({name: program.read(name) for name in ("w", "v")}, expected)
    arguments = [str(tmp_path / "lowered"), SUFFIX, str(tmp_path / "result.npz")]
    environ = {"FLAGS_enable_pir_api": str(int(IN_PIR))}
    script = GO_ON.replace("FEED", FEED)
    done = server.run("run_script", script=script, arguments=arguments, environ=environ)
    assert done.result is not None, done
    with np.load(tmp_path / "result.npz") as found:
        assert_close(found, expected)


def test_the_command(expected: dict[str, Any], tmp_path: Path) -> None:
    program = trained(7)
    with paddle.static.scope_guard(program.scope):
        paddle.static.save(program.main, str(tmp_path / "native"))
    paddle.save(program.startup, str(tmp_path / f"startup{SUFFIX}"))
    arguments = ["lower", str(tmp_path / "native"), "--out", str(tmp_path / "lowered"), "--json"]
    startup = ["--startup", str(tmp_path / f"startup{SUFFIX}")]
    done = CliRunner().invoke(command, [*arguments, *startup])
    assert done.exit_code == 0, done.output
    report = json.loads(done.stdout)
    assert (report["matched"], report["converted"], len(report["steps"])) == (2, 2, 1)
    lowered = paddle.load(str(tmp_path / f"lowered{SUFFIX}"))
    for part in (".pdparams", ".pdopt"):
        for name, value in paddle.load(str(tmp_path / f"lowered{part}")).items():
            tensor = program.scope.var(name).get_tensor()
            tensor.set(np.asarray(value), paddle.CPUPlace())
    for step in range(7, 14):
        program.run(program=lowered, **feed(step))
    assert_close({name: program.read(name) for name in ("w", "v")}, expected)
    assert "radam_codegen_build" in str(paddle.load(str(tmp_path / f"lowered.startup{SUFFIX}")))
    again = CliRunner().invoke(
        command, ["lower", str(tmp_path / "lowered"), "--out", str(tmp_path / "again")]
    )
    assert again.exit_code == 1
    assert not (tmp_path / f"again{SUFFIX}").exists()


@pytest.mark.parametrize(
    ("out", "content", "status", "message"),
    [
        ("native", None, 2, "is the program itself"),
        ("nowhere/lowered", None, 2, "does not exist"),
        ("lowered", b"{}" if IN_PIR else b"\\x00nothing", 1, "cannot load the program"),
    ],
    ids=["onto itself", "no folder", "no program"],
)
def test_what_the_command_refuses(
    out: str, content: bytes | None, status: int, message: str, tmp_path: Path
) -> None:
    path = tmp_path / f"native{SUFFIX}"
    path.write_bytes(content or b"")
    arguments = ["lower", str(tmp_path / "native"), "--out", str(tmp_path / out)]
    done = CliRunner().invoke(command, arguments)
    assert done.exit_code == status, done.output
    assert message in done.output
