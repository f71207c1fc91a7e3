"""Training from a bundle, in processes of their own that find no compiler and start nothing."""

from __future__ import annotations

import json
import os
import re
import shutil
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest

import radam_codegen as rc
from radam_codegen.program.installation import installed_paddle
from radam_codegen.toolchain import Artifact
from radam_codegen.toolchain.bundle import Miss, open_bundle
from radam_codegen.toolchain.operator import operator_text

TESTS = Path(__file__).resolve().parents[1]
SCRIPT = TESTS / "support" / "aot_training.py"

CLIP, NO_CLIP = "1.5", "0"


class Done:
    """A process that has ended."""

    def __init__(self, done: subprocess.CompletedProcess[str]) -> None:
        self.code, self.stderr = done.returncode, done.stderr
        self._stdout = done.stdout

    @property
    def result(self) -> dict[str, Any]:
        assert self.code == 0, self.stderr
        found: dict[str, Any] = json.loads(self._stdout.splitlines()[-1])
        return found


def train(*arguments: str, bundle: Path | None = None, cache: Path | None = None) -> Done:
    """Train, with a compiler or, where a bundle is named, without one and without a cache."""
    environment = {**os.environ, "PYTHONPATH": str(TESTS), "GLOG_minloglevel": "2"}
    if bundle is not None:
        assert cache is not None
        environment.update(
            RADAM_CODEGEN_AOT=str(bundle),
            RADAM_CODEGEN_CACHE_DIR=str(cache),
            RADAM_CODEGEN_MODE="aot-only",
            PATH=str(cache / "no programs"),
        )
        environment.pop("CC", None)
        environment.pop("CXX", None)
    return Done(
        subprocess.run(
            [sys.executable, str(SCRIPT), *arguments],
            capture_output=True,
            text=True,
            env=environment,
            timeout=300,
            check=False,
        )
    )


@pytest.fixture(scope="module")
def compiled(tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, str]:
    """Where plan and program of a training are, and what came of it with a compiler."""
    folder = tmp_path_factory.mktemp("compiled")
    result = train("static", CLIP, str(folder)).result
    return folder, result["values"]


@pytest.fixture(scope="module")
def bundle(compiled: tuple[Path, str], tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A bundle for that program, moved to another place and protected from writing."""
    folder = tmp_path_factory.mktemp("bundle")
    result = rc.aot(folder / "made", programs=[compiled[0] / "program"])
    assert result.good
    assert len(result.kernels) == 1
    assert result.operator is not None
    moved = folder / "mövéd to here"
    (folder / "made").rename(moved)
    for path in (*moved.rglob("*"), moved):
        path.chmod(0o555 if path.is_dir() else 0o444)
    return moved


def test_a_program_trains_without_a_compiler(
    compiled: tuple[Path, str], bundle: Path, tmp_path: Path
) -> None:
    before = {path: path.stat().st_mtime_ns for path in bundle.rglob("*")}
    cache = tmp_path / "cache"
    result = train("static", CLIP, bundle=bundle, cache=cache).result
    assert result == {"values": compiled[1], "started": []}
    assert not cache.exists()
    assert {path: path.stat().st_mtime_ns for path in bundle.rglob("*")} == before


def test_a_plan_makes_the_same_bundle_as_its_program(
    compiled: tuple[Path, str], bundle: Path, tmp_path: Path
) -> None:
    rc.aot(tmp_path / "bundle", plans=[compiled[0] / "plan.json"], operator=False)
    (from_plan, from_program) = (
        sorted(path.relative_to(root) for path in (root / "kernels").rglob("*"))
        for root in (tmp_path / "bundle", bundle)
    )
    assert from_plan == from_program


@pytest.mark.either_ir
def test_dynamic_graph_trains_without_a_compiler(
    compiled: tuple[Path, str], bundle: Path, tmp_path: Path
) -> None:
    result = train("dynamic", CLIP, bundle=bundle, cache=tmp_path / "cache").result
    assert result == {"values": compiled[1], "started": []}


@pytest.mark.either_ir
def test_what_is_missing_is_made_by_the_command_that_the_error_names(
    bundle: Path, tmp_path: Path
) -> None:
    mine = tmp_path / "a bundle"
    shutil.copytree(bundle, mine)
    for path in (mine, *mine.rglob("*")):
        path.chmod(0o755)
    shutil.rmtree(mine / "operators")
    for _ in ("the operator", "the kernel"):
        failed = train("dynamic", NO_CLIP, bundle=mine, cache=tmp_path / "cache")
        assert failed.code == 1
        assert "ArtifactError" in failed.stderr
        (command,) = re.findall(r"with a compiler: (radam-codegen aot .*)$", failed.stderr, re.M)
        path = f"{Path(sys.executable).parent}:{os.environ['PATH']}"
        env = {**os.environ, "PATH": path, "GLOG_minloglevel": "2"}
        subprocess.run(command, shell=True, env=env, check=True, capture_output=True, timeout=300)
    assert train("dynamic", NO_CLIP, bundle=mine, cache=tmp_path / "cache").result["started"] == []


@pytest.mark.either_ir
def test_an_operator_of_another_source_is_none(bundle: Path) -> None:
    paddle = installed_paddle().version
    found = open_bundle(bundle)
    assert isinstance(found.find_operator(paddle, operator_text()), Artifact)
    other = found.find_operator(paddle, operator_text() + "\n")
    assert other == Miss("its operator was compiled from another source", True)
