"""``radam-codegen aot``: what it takes, what it says, and how it ends."""

from __future__ import annotations

import json
import os
import pty
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest
from click.testing import CliRunner, Result
from toolchain.conftest import make_compiler

import radam_codegen as rc
from radam_codegen.cli import main
from radam_codegen.errors import ArgumentError
from radam_codegen.ir.dtypes import DType
from radam_codegen.ir.every_structure import every_structure
from radam_codegen.ir.plan import GroupPlan, KernelStructure, TensorPlan, UpdatePlan
from radam_codegen.toolchain.bundle import open_bundle
from radam_codegen.tools.aot import request

NAME = "radam_no_clip__f32_no_decay"
OTHER = "radam_clip_value__f64_no_decay"


def aot(*arguments: object) -> Result:
    return CliRunner().invoke(main, ["aot", *map(str, arguments)])


def json_of(done: Result) -> Any:
    # Some versions of click mix in what goes to standard error.
    return json.loads(done.output[done.output.index("{") :])


def plan_of(*dtypes: DType) -> UpdatePlan:
    return UpdatePlan(
        tuple(
            GroupPlan((TensorPlan(f"p{number}", (3,), dtype, dtype, dtype),))
            for number, dtype in enumerate(dtypes)
        )
    )


def test_plans_and_names_make_a_bundle(tmp_path: Path) -> None:
    for name, plan in (("a", plan_of(DType.FLOAT32)), ("b", plan_of(DType.FLOAT64, DType.FLOAT32))):
        (tmp_path / f"{name}.json").write_text(plan.to_json())
    out = tmp_path / "bundle"
    asked = ["--plan", tmp_path / "a.json", "--plan", tmp_path / "b.json", "--kernel", OTHER]
    done = aot(*asked, "--cpu", "x86-64-v2", "--cpu", "native", "--no-operator", "--out", out)
    assert done.exit_code == 0, done.output
    lines = done.output.splitlines()
    assert len(lines) == 6 + 2  # no bar, as this is no terminal
    assert f"{OTHER} native: compiled" in {line.partition("] ")[2] for line in lines}
    assert lines[-2].startswith(
        f"{out}: 3 kernels for x86-64-v2, native (6 libraries), 6 compiled now, "
    )
    assert lines[-1] == f"To use it: export RADAM_CODEGEN_AOT={out}"

    index = open_bundle(out).index
    assert sorted(index.kernels) == [OTHER, NAME, "radam_no_clip__f64_no_decay"]
    assert {path.name for path in (out / "plans").iterdir()} == set(index.plans)
    texts = {(out / "plans" / name).read_text() for name in index.plans}
    assert texts == {(tmp_path / "a.json").read_text(), (tmp_path / "b.json").read_text()}

    again = aot(*asked, "--cpu", "x86-64-v2", "--no-operator", "--json", "--out", out)
    result = json_of(again)
    assert (result["good"], result["compiled"], result["variants"]) == (True, 0, 3)
    assert result["size"] == sum(path.stat().st_size for path in out.rglob("*") if path.is_file())
    assert open_bundle(out).index == index


def test_a_plan_can_be_given_as_it_is(tmp_path: Path) -> None:
    plan = plan_of(DType.FLOAT32)
    result = rc.aot(tmp_path / "b", plans=[plan], cpus=["x86-64-v1"], operator=False)
    assert (result.kernels, result.cpus, result.operator) == ((NAME,), ("x86-64-v1",), None)


@pytest.mark.parametrize(
    ("arguments", "status", "said"),
    [
        ([], 2, "nothing is asked for"),
        (["--kernel", "radam_x"], 1, "'radam_x' is not the name of a kernel"),
        (["--plan", "missing.json"], 2, "the plan 'missing.json' cannot be read: No such file"),
        (["--plan", "."], 2, "the plan '.' cannot be read: Is a directory"),
        (["--plan", "no\0name"], 2, "cannot be read"),
        (["--plan", __file__], 1, "test_aot_command.py': "),
        (["--program", "missing"], 1, "There is no saved program 'missing'"),
        (["--kernel", NAME, "--cpu", "pentium"], 2, "There is no CPU 'pentium'"),
        (["--kernel", NAME, "--target", "cuda", "--cpu", "native"], 2, "but no C is asked for"),
        (["--kernel", NAME, "--arch", "90"], 2, "but no CUDA is asked for"),
        (["--kernel", NAME, "--arch", "sm_90"], 2, "'sm_90'"),
        (["--kernel", NAME, "--target", "fpga"], 2, "'fpga'"),
        (["--kernel", NAME, "--jobs", "0"], 2, "--jobs"),
        (["--kernel", NAME, "--standalone", "--operator"], 2, "plain C sources are for any CPU"),
        (
            ["--kernel", NAME, "--standalone", "--target", "cuda", "--arch", "90"],
            2,
            "CUDA's for any GPU",
        ),
    ],
)
def test_bad_arguments_end_in_a_message_and_in_nothing_else(
    arguments: list[str],
    status: int,
    said: str,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.chdir(tmp_path)
    done = aot(*arguments, "--out", "bundle")
    assert (done.exit_code, type(done.exception)) == (status, SystemExit)
    assert said in done.output
    assert not (tmp_path / "bundle").exists()


def test_without_a_compiler_it_says_so(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("CC", "/no/such/compiler")
    done = aot("--kernel", NAME, "--no-operator", "--out", tmp_path / "b")
    assert (done.exit_code, type(done.exception)) == (1, SystemExit)
    assert "/no/such/compiler" in done.output


def test_without_nvcc_kernels_in_c_are_made(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("NVCC", "/no/such/nvcc")
    asked = ["--kernel", NAME, "--no-operator", "--target", "cuda"]
    done = aot(*asked, "--target", "c", "--cpu", "native", "--out", tmp_path / "b")
    assert (done.exit_code, type(done.exception)) == (1, SystemExit)
    assert done.output.count("/no/such/nvcc' names, was not found") == 1
    assert "1 kernel for native (1 library)" in done.output
    assert "could not be compiled: CUDA kernels" in done.output
    index = open_bundle(tmp_path / "b").index
    assert (list(index.kernels), index.cuda_kernels) == ([NAME], {})
    done = aot(*asked, "--out", tmp_path / "c")
    assert (done.exit_code, type(done.exception)) == (1, SystemExit)
    assert "/no/such/nvcc" in done.output
    with pytest.raises(ArgumentError, match="no target 'fpga'"):
        rc.aot(tmp_path / "d", kernels=[NAME], target=["c", "fpga"])
    with pytest.raises(ArgumentError, match="no target is named"):
        rc.aot(tmp_path / "d", kernels=[NAME], target=[])


def test_a_kernel_that_fails_is_named(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    fails = 'case " $* " in *v4*) echo "kernel.c:7:1: error: out of ideas" >&2; exit 1;; esac'
    monkeypatch.setenv("CC", str(make_compiler(tmp_path / "cc", before=fails).path))
    done = aot("--kernel", NAME, "--no-operator", "--out", tmp_path / "b")
    assert (done.exit_code, type(done.exception)) == (1, SystemExit)
    assert "out of ideas" in done.output
    assert f"could not be compiled: {NAME} x86-64-v4" in done.output
    assert "2 libraries" in done.output


def test_without_paddle_there_is_no_operator_and_it_says_so(tmp_path: Path) -> None:
    script = """
import sys
class Blocker:
    def find_spec(self, name, path=None, target=None):
        if name.partition(".")[0] == "paddle":
            raise ModuleNotFoundError(name)
sys.meta_path.insert(0, Blocker())
import importlib.util
find = importlib.util.find_spec
importlib.util.find_spec = lambda name, *more: None if name == "paddle" else find(name, *more)
from radam_codegen.cli import main
from radam_codegen.errors import ArgumentError
main()
"""
    command = [sys.executable, "-c", script, "aot", "--out", str(tmp_path / "b"), "--cpu", "native"]
    done = subprocess.run([*command, "--kernel", NAME], capture_output=True, text=True, check=True)
    assert "Paddle is not installed here, so the bundle has no operator" in done.stdout
    assert list(open_bundle(tmp_path / "b").index.kernels) == [NAME]
    done = subprocess.run([*command, "--operator"], capture_output=True, text=True, check=False)
    assert done.returncode == 2
    assert "Paddle is not installed here" in done.stderr


def test_a_terminal_gets_a_bar(tmp_path: Path) -> None:
    ours, theirs = pty.openpty()
    command = ["aot", "--kernel", NAME, "--no-operator", "--out", str(tmp_path / "b")]
    process = subprocess.Popen(
        [sys.executable, "-m", "radam_codegen.cli", *command],
        stdout=theirs,
        env={**os.environ, "TERM": "xterm", "COLUMNS": "200"},
    )
    os.close(theirs)
    shown = b""
    while True:
        try:
            read = os.read(ours, 1 << 16)
        except OSError:  # what Linux says at the end
            break
        if not read:
            break
        shown += read
    os.close(ours)
    assert process.wait() == 0
    assert b"3/3" in shown
    assert b"1 kernel for x86-64-v1, x86-64-v3, x86-64-v4 (3 libraries)" in shown


def test_all_is_every_structure_there_is(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    structures = every_structure()
    assert len(structures) == len(set(structures)) == 616
    assert sum(len(each.classes) == 1 for each in structures) == 352
    few = structures[:: len(structures) // 3]
    monkeypatch.setattr(request, "every_structure", lambda: few)
    done = aot("--all", "--cpu", "native", "--no-operator", "--json", "--out", tmp_path / "b")
    assert json_of(done)["kernels"] == [each.name for each in few]
    assert all(isinstance(each, KernelStructure) for each in few)
