"""The project works from where it is installed, with no checkout in sight."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest

_WHERE = """
import json
import radam_codegen.cli, radam_codegen.tools.demo.run
from radam_codegen import _resources
print(json.dumps({
    "package": radam_codegen.__file__,
    "tools": radam_codegen.tools.__file__,
    "templates": sorted(str(path) for path in _resources.templates_dir().rglob("*.j2")),
    "header": (_resources.include_dir() / "radam_codegen" / "kernel.h").read_text(),
    "operator": sorted(str(path) for path in _resources.runtime_dir().rglob("*.cc")),
}))
"""

_TRAIN = """
import json
import numpy as np
import paddle
import radam_codegen as rc

paddle.enable_static()
main, startup = paddle.static.Program(), paddle.static.Program()
with paddle.static.program_guard(main, startup):
    x = paddle.static.data("x", [None, 3], "float32")
    y = paddle.static.data("y", [None, 1], "float32")
    loss = paddle.mean((paddle.nn.Linear(3, 1)(x) - y) ** 2)
    opt = rc.RAdam(learning_rate=0.05)
    optimize_ops, params_grads = opt.minimize(loss)
exe = paddle.static.Executor(paddle.CPUPlace())
exe.run(startup)
random = np.random.RandomState(0)
xs = random.standard_normal((64, 3)).astype("float32")
feed = {"x": xs, "y": xs @ np.float32([[1], [2], [3]]) + 1}
fetch = [loss, (optimize_ops, params_grads)]
losses = [float(exe.run(main, feed=feed, fetch_list=fetch)[0]) for _ in range(300)]
print(json.dumps({
    "package": rc.__file__,
    "losses": losses,
    "sources": [str(source.path) for source in opt.sources()],
}))
"""


def _ask(environment: Any, code: str, folder: Path) -> Any:
    """Run code in an environment, from a folder outside; return what its last line says."""
    output = environment.run(
        environment.python, "-c", code, cwd=folder, RADAM_CODEGEN_CACHE_DIR=str(folder / "cache")
    )
    return json.loads(output.splitlines()[-1])


def test_finds_its_own_files(environment: Any, checkout: Path, tmp_path: Path) -> None:
    found = _ask(environment, _WHERE, tmp_path)
    home = environment.folder if environment.kind == "wheel" else checkout
    files = [found["package"], found["tools"], *found["templates"], *found["operator"]]
    assert [file for file in files if not Path(file).is_relative_to(home)] == []
    assert found["templates"]
    assert found["operator"]
    assert "RADAM_CODEGEN_ABI_VERSION" in found["header"]


def test_the_command_is_there(environment: Any, tmp_path: Path) -> None:
    assert "demo" in environment.run(environment.command, "--help", cwd=tmp_path)


def test_trains(environment: Any, checkout: Path, tmp_path: Path) -> None:
    trained = _ask(environment, _TRAIN, tmp_path)
    home = environment.folder if environment.kind == "wheel" else checkout
    assert Path(trained["package"]).is_relative_to(home)
    assert trained["losses"][-1] < 0.01 * trained["losses"][0]
    (source,) = trained["sources"]
    assert Path(source).is_relative_to(tmp_path / "cache")


def test_the_checkout_of_the_tests_is_out_of_reach(environment: Any, tmp_path: Path) -> None:
    root = Path(__file__).resolve().parents[2]
    path = _ask(environment, "import json, sys; print(json.dumps(sys.path))", tmp_path)
    if any(Path(entry).is_relative_to(root) for entry in path if entry):
        pytest.fail(f"these tests would find the checkout: {path}")
