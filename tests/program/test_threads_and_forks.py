"""Programs that train at once in threads, and in a child forked after a step."""

from __future__ import annotations

import contextlib
import shutil
from collections.abc import Iterator
from pathlib import Path

import pytest
from support.fork_server import ForkServer


@pytest.fixture(scope="module")
def cache(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A cache with the operator in it, which is not looked at here."""
    from radam_codegen.program import kernels

    cache = tmp_path_factory.mktemp("cache")
    operators = kernels.operator().path.parent.parent
    shutil.copytree(operators, cache / operators.name)
    return cache


@pytest.fixture(scope="module")
def server(tmp_path_factory: pytest.TempPathFactory, cache: Path) -> Iterator[ForkServer]:
    environ = {"RADAM_CODEGEN_CACHE_DIR": str(cache), "RADAM_CODEGEN_NUM_THREADS": "2"}
    scratch = tmp_path_factory.mktemp("scratch")
    with contextlib.closing(
        ForkServer(scratch, None, environ, cases="support.training_cases")
    ) as server:
        yield server


@pytest.fixture(scope="module")
def alone(server: ForkServer, cache: Path) -> dict[str, list[str]]:
    """What each program comes to in a process that does nothing else."""
    alone = {what: server.run("train", what=what).result for what in ("plain", "decay")}
    assert alone["plain"] != alone["decay"]
    shutil.rmtree(cache / "kernels")
    return alone


def test_threads_train_different_programs_at_once(
    server: ForkServer, alone: dict[str, list[str]]
) -> None:
    outcome = server.run("train_in_threads")
    assert outcome.result == alone, outcome


def test_a_program_starts_while_another_steps(
    server: ForkServer, cache: Path, alone: dict[str, list[str]]
) -> None:
    shutil.rmtree(cache / "kernels", ignore_errors=True)  # so that its startup compiles
    outcome = server.run("start_while_another_steps")
    assert outcome.result is not None, outcome
    started, undisturbed, steps = outcome.result
    assert started == alone["decay"]
    assert undisturbed
    assert steps > 0


def test_a_child_that_was_forked_after_a_step_trains(
    server: ForkServer, cache: Path, alone: dict[str, list[str]]
) -> None:
    shutil.rmtree(cache / "kernels", ignore_errors=True)  # the child compiles a kernel, too
    outcome = server.run("train_in_a_child")
    assert outcome.result == [[alone["plain"], alone["decay"]], alone["plain"]], outcome
