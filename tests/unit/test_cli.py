from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

import pytest
from click.testing import CliRunner
from support.bad_settings import BAD_SETTINGS

from radam_codegen._version import __version__
from radam_codegen.cli import main


@pytest.mark.parametrize("arguments", [["--help"], ["-h"], ["demo", "--help"]])
def test_help(arguments: list[str]) -> None:
    result = CliRunner().invoke(main, arguments)
    assert result.exit_code == 0
    assert "Usage: " in result.output


def test_version() -> None:
    assert __version__ in CliRunner().invoke(main, ["--version"]).output


@pytest.mark.parametrize(
    "arguments",
    [
        ["demos"],
        ["demo", "--epochs", "0"],
        ["demo", "--epochs", "many"],
        ["demo", "--seed", "-1"],
        ["demo", "--ir", "onnx"],
        ["demo", "--json", "/no/such/folder/result.json"],
        ["demo", "extra"],
    ],
)
def test_bad_arguments_are_status_2(arguments: list[str]) -> None:
    result = CliRunner().invoke(main, arguments)
    assert result.exit_code == 2
    assert "Error: " in result.output


def test_a_missing_paddle_is_one_line(tmp_path: Path) -> None:
    (tmp_path / "paddle.py").write_text("raise ImportError('no paddle here')\n")
    done = subprocess.run(
        [sys.executable, "-m", "radam_codegen.cli", "demo", "--epochs", "1"],
        env={"PYTHONPATH": str(tmp_path)},
        capture_output=True,
        text=True,
        check=False,
        cwd=tmp_path,
    )
    assert done.returncode == 1
    assert done.stderr == "Error: the demo needs Paddle: pip install 'radam-codegen[demo]'\n"


@pytest.mark.parametrize(("variable", "value"), BAD_SETTINGS.items())
def test_a_bad_setting_ends_in_its_message(
    variable: str, value: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv(variable, value)
    result = CliRunner().invoke(main, ["cache", "stats"])
    assert result.exit_code == 1
    assert result.output.startswith(f"Error: {variable}={value!r} ")


@pytest.mark.parametrize(
    "arguments",
    [
        ["demo", "--epochs", "1"],
        ["aot", "--all", "--out", "new"],
        ["verify", "."],
        ["cache", "list"],
        ["cache", "verify"],
        ["cache", "clear"],
    ],
)
def test_a_bad_setting_ends_every_command(arguments: list[str], tmp_path: Path) -> None:
    entry = tmp_path / "kernels" / ("0" * 32)
    entry.mkdir(parents=True)
    (entry / "manifest.json").write_text("{}")
    done = subprocess.run(
        [sys.executable, "-m", "radam_codegen.cli", *arguments],
        env={**os.environ, "RADAM_CODEGEN_MODE": "fast"},
        capture_output=True,
        text=True,
        check=False,
        cwd=tmp_path,
    )
    assert done.returncode == 1
    assert done.stderr.endswith("is no mode; set it to one of auto, aot-only, off.\n")
    assert "Traceback" not in done.stderr
