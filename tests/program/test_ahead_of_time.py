"""Training from a bundle, in processes of their own that find no compiler and start nothing."""

from __future__ import annotations

import contextlib
import os
import re
import shutil
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest
from support.fork_server import ForkServer, Outcome

import radam_codegen as rc
from radam_codegen.program.installation import installed_paddle
from radam_codegen.toolchain import Artifact
from radam_codegen.toolchain.bundle import Miss, open_bundle
from radam_codegen.toolchain.operator import operator_text

CLIP, NO_CLIP = 1.5, 0.0


@pytest.fixture(scope="module")
def server(tmp_path_factory: pytest.TempPathFactory) -> Iterator[ForkServer]:
    scratch = tmp_path_factory.mktemp("server")
    with contextlib.closing(ForkServer(scratch, cases="support.aot_training")) as server:
        yield server


def train(server: ForkServer, mode: str, clip: float, bundle: Path, cache: Path) -> Outcome:
    """Train from a bundle without a compiler and without a cache."""
    environ = {
        "RADAM_CODEGEN_AOT": str(bundle),
        "RADAM_CODEGEN_CACHE_DIR": str(cache),
        "RADAM_CODEGEN_MODE": "aot-only",
        "PATH": str(cache / "no programs"),
        "CC": None,
        "CXX": None,
    }
    return server.run("train", mode=mode, clip=clip, environ=environ)


@pytest.fixture(scope="module")
def compiled(server: ForkServer, tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, str]:
    """Where plan and program of a training are, and what came of it with a compiler."""
    folder = tmp_path_factory.mktemp("compiled")
    done = server.run("train", mode="static", clip=CLIP, environ={}, save=str(folder))
    assert done.result is not None, done
    return folder, done.result["values"]


@pytest.fixture(scope="module")
def bundle(
    compiled: tuple[Path, str], tmp_path_factory: pytest.TempPathFactory, recording_cxx: str
) -> Path:
    """A bundle for that program, moved to another place and protected from writing."""
    folder = tmp_path_factory.mktemp("bundle")
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("CXX", recording_cxx)
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
    server: ForkServer, compiled: tuple[Path, str], bundle: Path, tmp_path: Path
) -> None:
    before = {path: path.stat().st_mtime_ns for path in bundle.rglob("*")}
    cache = tmp_path / "cache"
    done = train(server, "static", CLIP, bundle, cache)
    assert done.result == {"values": compiled[1], "started": []}, done
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
    server: ForkServer, compiled: tuple[Path, str], bundle: Path, tmp_path: Path
) -> None:
    done = train(server, "dynamic", CLIP, bundle, tmp_path / "cache")
    assert done.result == {"values": compiled[1], "started": []}, done


@pytest.mark.either_ir
def test_what_is_missing_is_made_by_the_command_that_the_error_names(
    server: ForkServer, bundle: Path, tmp_path: Path, recording_cxx: str
) -> None:
    mine = tmp_path / "a bundle"
    shutil.copytree(bundle, mine)
    for path in (mine, *mine.rglob("*")):
        path.chmod(0o755)
    shutil.rmtree(mine / "operators")
    for _ in ("the operator", "the kernel"):
        failed = train(server, "dynamic", NO_CLIP, mine, tmp_path / "cache")
        assert "ArtifactError" in failed.error, failed
        (command,) = re.findall(r"with a compiler: (radam-codegen aot .*)$", failed.message, re.M)
        path = f"{Path(sys.executable).parent}:{os.environ['PATH']}"
        env = {**os.environ, "PATH": path, "GLOG_minloglevel": "2", "CXX": recording_cxx}
        subprocess.run(command, shell=True, env=env, check=True, capture_output=True, timeout=300)
    done = train(server, "dynamic", NO_CLIP, mine, tmp_path / "cache")
    assert done.result is not None, done
    assert done.result["started"] == []


@pytest.mark.either_ir
def test_an_operator_of_another_source_is_none(bundle: Path) -> None:
    paddle = installed_paddle().version
    found = open_bundle(bundle)
    assert isinstance(found.find_operator(paddle, operator_text()), Artifact)
    other = found.find_operator(paddle, operator_text() + "\n")
    assert other == Miss("its operator was compiled from another source", True)
