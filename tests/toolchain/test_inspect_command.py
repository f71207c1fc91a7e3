"""``radam-codegen inspect`` and ``diff``: what they print, and their exit status."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from dataclasses import replace
from pathlib import Path

import pytest
from click.testing import CliRunner, Result
from support.plans import HOSTILE_NAMES

from radam_codegen.cli import main
from radam_codegen.ir.dtypes import DType
from radam_codegen.ir.plan import Decay, DecayKind, GroupPlan, TensorPlan, UpdatePlan

pytestmark = pytest.mark.runs_no_kernel

F32 = DType.FLOAT32
GROUP = GroupPlan((TensorPlan("w", (3, 4), F32, F32, F32, decay=Decay(DecayKind.L2, 0.25)),))
PLAN = UpdatePlan((GROUP,))
L2, L1 = "radam_no_clip__f32_l2", "radam_no_clip__f32_l1"


def run(*arguments: str | Path) -> Result:
    result = CliRunner().invoke(main, [str(each) for each in arguments])
    assert result.exception is None or isinstance(result.exception, SystemExit), result.exception
    assert "Traceback" not in result.output
    return result


def written(path: Path, plan: UpdatePlan) -> Path:
    path.write_text(plan.to_json())
    return path


# ---- inspect ------------------------------------------------------------------------------------


@pytest.mark.parametrize("command", ["inspect", "diff"])
def test_help(command: str) -> None:
    result = run(command, "--help")
    assert result.exit_code == 0
    assert "Usage: " in result.output


def test_each_option_shows_its_part(tmp_path: Path) -> None:
    plan = written(tmp_path / "plan.json", PLAN)
    overview = run("inspect", plan).output
    assert str(PLAN) in overview
    assert "bytes per element: 28; the floor is 28" in overview

    passes = run("inspect", plan, "--passes").output
    assert "[8] remove_dead" in passes
    assert "body f32_l2" in passes

    changes = run("inspect", plan, "--diff").output
    assert "+      %decayed_grad: float32 element = fma(%decay_f32, %param, %grad)" in changes
    assert changes.count("\n") < passes.count("\n")

    source = run("inspect", plan, "--source").output
    assert "   IR | %decayed_grad: float32 element = fma(%decay_f32, %param, %grad)\n" in source
    assert "clip      none" in source

    assert "machine code of radam_no_clip__f32_l2" in run("inspect", plan, "--asm").output


def test_json_is_for_machines(tmp_path: Path) -> None:
    plan = written(tmp_path / "plan.json", PLAN)
    document = json.loads(run("inspect", plan, "--json").output)
    assert [each["name"] for each in document["kernels"]] == [L2]
    assert document["kernels"][0]["assembly"] is None
    document = json.loads(run("inspect", plan, "--json", "--asm").output)
    assert document["kernels"][0]["assembly"]["origin"]


def test_one_kernel_of_several(tmp_path: Path) -> None:
    other = replace(GROUP, tensors=(TensorPlan("v", (), F32, F32, F32),))
    plan = written(tmp_path / "plan.json", UpdatePlan((GROUP, other)))
    document = json.loads(run("inspect", plan, "--json", "--kernel", L2).output)
    assert [each["name"] for each in document["kernels"]] == [L2]
    result = run("inspect", plan, "--kernel", "[red]")
    assert result.exit_code == 2
    assert "no kernel '[red]' there" in result.output


@pytest.mark.parametrize("section", [[], ["--passes"], ["--source"], ["--asm"], ["--json"]])
def test_hostile_names_are_text(section: list[str], tmp_path: Path) -> None:
    tensors = tuple(
        TensorPlan(name, (2,), F32, F32, F32)
        for name in (*HOSTILE_NAMES, "\x1b]0;title\x07", "[bold red]", "x" * 10_000)
    )
    plan = written(tmp_path / "plan.json", UpdatePlan((GroupPlan(tensors),)))
    result = run("inspect", plan, *section)
    assert result.exit_code == 0
    assert not set(result.output) & {"\x1b", "\x07", "\x00", "\r", "\u2028"}


BAD_FILES = {
    "empty": b"",
    "cut": PLAN.to_json()[:-9].encode(),
    "array": b"[1, 2]",
    "object": b'{"a": 1}',
    "other.json": b'{"format": "\x1b[2J[red]"}',
    "number": b"1",
    "deep": b"[" * 100_000,
    "deep_object": b'{"a":' * 100_000,
    "deep_program": b'{"base_code":{"magic":"pir"},"program":' + b'{"a":' * 900 + b"1" + b"}" * 901,
    "digits": b'{"version": ' + b"9" * 100_000 + b"}",
    "binary": bytes(range(256)) * 8,
    "utf16": '{"format": 1}'.encode("utf-16"),
    "program.json": b'{"base_code": {"magic": "pir"}, "program": [{"#": "1.radam_codegen_step_"}]}',
    "launch.json": (
        b'{"base_code": {"magic": "pir"}, "program": [{"#": "3.radam_codegen_step_", "A": '
        b'[{"N": "launch", "AT": {"D": "{}"}}, {"N": 1, "AT": []}, 7]}]}'
    ),
    "bad.pdmodel": b"\x0a\xff\xff\xff\xff\x0f",
    "short.pdmodel": b"\x0a",
    "text.pdmodel": b"some text",
    "\x1b[31m[red]": b"{",
}


@pytest.mark.parametrize("name", BAD_FILES, ids=ascii)
@pytest.mark.parametrize("command", [["inspect"], ["diff", L2]], ids=["inspect", "diff"])
def test_a_bad_file_is_refused(command: list[str], name: str, tmp_path: Path) -> None:
    path = tmp_path / name
    path.write_bytes(BAD_FILES[name])
    result = run(*command, path)
    assert result.exit_code == 2 if command[0] == "diff" else result.exit_code in (1, 2)
    assert result.output.startswith("Error: ") or "\nError: " in result.output
    assert "\x1b" not in result.output
    assert len(result.output) < 2000


def test_what_is_no_target_is_refused(tmp_path: Path) -> None:
    pipe = tmp_path / "pipe"
    os.mkfifo(pipe)
    (tmp_path / "loop").symlink_to(tmp_path / "loop")
    for target in (
        *(
            "",
            "\x1b[31m",
            "[red]",
            "/no/such/file",
            "abcdef01",
            "x" * 5000,
            "radam",
            "radam_no_clip",
        ),
        *(tmp_path, pipe, tmp_path / "loop", "/dev/null", "nul\x00"),
    ):
        for command in (["inspect"], ["diff", L2]):
            result = run(*command, target)
            assert result.exit_code == 2 if command[0] == "diff" else result.exit_code in (1, 2)
            assert "Error: " in result.output
            assert "\x1b" not in result.output


def test_bad_arguments_are_status_2() -> None:
    for arguments in (["inspect"], ["inspect", L2, L1], ["inspect", L2, "--pass"], ["diff", L2]):
        assert run(*arguments).exit_code == 2


def test_needs_no_paddle(tmp_path: Path) -> None:
    (tmp_path / "paddle.py").write_text("raise ImportError('no paddle here')\n")
    plan = written(tmp_path / "größe.json", PLAN)
    done = subprocess.run(
        [sys.executable, "-m", "radam_codegen.cli", "inspect", str(plan)],
        env={
            **os.environ,
            "PYTHONPATH": str(tmp_path),
            "PYTHONIOENCODING": "ascii",
            "TERM": "xterm-256color",
        },
        capture_output=True,
        text=True,
        check=False,
        cwd=tmp_path,
    )
    assert (done.returncode, done.stderr) == (0, "")
    assert "\x1b" not in done.stdout, "no colours where no terminal is"
    assert r"gr\xf6\xdfe.json" in done.stdout


# ---- diff ---------------------------------------------------------------------------------------


def test_equal_targets_have_no_difference(tmp_path: Path) -> None:
    plan = written(tmp_path / "plan.json", PLAN)
    result = run("diff", plan, plan)
    assert (result.exit_code, result.output) == (0, "no difference\n")
    assert json.loads(run("diff", plan, plan, "--json").output)["equal"] is True


def test_other_numbers_differ_and_nothing_else_does(tmp_path: Path) -> None:
    first = written(tmp_path / "first.json", PLAN)
    second = written(tmp_path / "second.json", UpdatePlan((replace(GROUP, beta1=0.5),)))
    result = run("diff", first, second, "--no-asm")
    assert result.exit_code == 1
    assert "-  beta1:   0.9\n+  beta1:   0.5\n" in result.output
    document = json.loads(run("diff", first, second, "--no-asm", "--json").output)
    assert [each["what"] for each in document["parts"]] == ["numbers"]


def test_two_kernels_differ_from_structure_to_machine_code() -> None:
    result = run("diff", L2, L1, "--json")
    assert result.exit_code == 1
    document = json.loads(result.output)
    assert [each["what"] for each in document["parts"]] == [
        *("structure", "IR", "source"),
        *(["machine code"] if not document["notes"] else []),
    ]
    lines = document["parts"][1]["lines"]
    assert any("+      %param_sign: float32 element = sign(%param)" in each for each in lines)


def test_kernels_of_one_side_are_named(tmp_path: Path) -> None:
    two = tuple(
        replace(GROUP, tensors=(TensorPlan(name, (2,), dtype, dtype, dtype),))
        for name, dtype in (("v", F32), ("u", DType.FLOAT64))
    )
    first = written(tmp_path / "first.json", PLAN)
    second = written(tmp_path / "second.json", UpdatePlan((GROUP, *two)))
    result = run("diff", first, second, "--no-asm", "--json")
    assert result.exit_code == 1
    parts = json.loads(result.output)["parts"]
    assert parts[0]["what"] == "kernels"
    assert parts[0]["lines"] == ["+radam_no_clip__f32_no_decay", "+radam_no_clip__f64_no_decay"]
