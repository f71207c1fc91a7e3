"""Whole trainings: many at once, killed at any moment, with their cache taken away."""

from __future__ import annotations

import contextlib
import shutil
from collections.abc import Iterator

import pytest
from reliability.conftest import Sandbox
from support.fork_server import ForkServer
from toolchain.conftest import CountingCompiler, make_compiler

from radam_codegen.toolchain.cache import stats, verify_cache

PROCESSES = 16
KILLS = 10


@pytest.fixture(scope="module")
def place(tmp_path_factory: pytest.TempPathFactory) -> Sandbox:
    return Sandbox(tmp_path_factory.mktemp("odd") / "Ordner für Köche & 'Kerne' $HOME 核心")


@pytest.fixture(scope="module")
def compilers(tmp_path_factory: pytest.TempPathFactory) -> dict[str, CountingCompiler]:
    folder = tmp_path_factory.mktemp("compilers")
    return {"CC": make_compiler(folder / "cc"), "CXX": make_compiler(folder / "cxx", "g++")}


@pytest.fixture(scope="module")
def training(
    tmp_path_factory: pytest.TempPathFactory,
    place: Sandbox,
    compilers: dict[str, CountingCompiler],
) -> Iterator[ForkServer]:
    environ = {
        "TMPDIR": str(place.temporary),
        "RADAM_CODEGEN_CACHE_DIR": str(place.cache),
        **{name: str(compiler.path) for name, compiler in compilers.items()},
    }
    scratch = tmp_path_factory.mktemp("scratch")
    with contextlib.closing(
        ForkServer(scratch, place.root, environ, cases="support.training_cases")
    ) as server:
        yield server


@pytest.fixture(scope="module")
def cold(training: ForkServer) -> list[list[str]]:
    """What each of the processes came to that trained at once, with an empty cache."""
    outcome = training.run("train_at_once", count=PROCESSES)
    assert outcome.result is not None, outcome
    values: list[list[str]] = outcome.result
    return values


def rubbish(place: Sandbox) -> list[str]:
    """What no process needs that is alive."""
    left = [path.name for path in place.temporary.iterdir()]
    for path in place.cache.rglob("*"):
        if path.name.startswith(".") or path.suffix == ".holder":
            left.append(str(path.relative_to(place.cache)))
    return left


def test_sixteen_cold_processes_train_alike(
    training: ForkServer,
    place: Sandbox,
    compilers: dict[str, CountingCompiler],
    cold: list[list[str]],
) -> None:
    assert {name: each.compiles for name, each in compilers.items()} == {"CC": 1, "CXX": 1}
    assert cold == [cold[0]] * PROCESSES
    found = stats(place.cache)
    assert found.entries == 2
    counts = {name: number for name, number in found.counts.items() if name != "lock_waits"}
    hits = 2 * PROCESSES - 2
    assert counts == {**dict.fromkeys(counts, 0), "hits": hits, "misses": 2, "builds": 2}
    assert rubbish(place) == []

    assert training.run("train").result == cold[0]
    assert {name: each.compiles for name, each in compilers.items()} == {"CC": 1, "CXX": 1}
    assert stats(place.cache).counts["hits"] == hits + 2


def test_a_call_fails_while_a_startup_compiles(
    training: ForkServer, place: Sandbox, cold: list[list[str]]
) -> None:
    shutil.rmtree(place.cache / "kernels")
    assert training.run("train", log=True).result == cold[0]
    assert training.faults is not None
    calls = [call for call in training.faults.calls() if "/kernels/" in call.path]
    for name, fault in (
        ("rename", "everything killed"),
        ("fsync", "no space"),
        ("write", "half a write"),
    ):
        shutil.rmtree(place.cache / "kernels")
        call = next(call for call in calls if call.name == name)
        outcome = training.run("train", fault=(call.number, fault))
        if outcome.signal is None:
            assert outcome.result == cold[0], outcome
            assert any("takes its place" in text for text in outcome.warnings)
        assert (outcome.struck > 0, outcome.signal == "SIGKILL") == (True, "killed" in fault)
        assert training.run("train").result == cold[0]
        assert rubbish(place) == []


def test_startups_that_are_killed_at_any_moment_hurt_nobody(
    training: ForkServer, place: Sandbox, cold: list[list[str]]
) -> None:
    shutil.rmtree(place.cache / "kernels")
    outcome = training.run("start_and_be_killed", count=KILLS, longest=0.6, seed=0)
    assert outcome.result is not None, outcome
    assert training.run("train").result == cold[0]
    training.run("train", what="decay")  # what builds anything clears up after the dead
    assert rubbish(place) == []
    assert verify_cache(place.cache) == []


def test_a_cache_that_is_removed_is_missed_by_nobody(
    training: ForkServer, place: Sandbox, cold: list[list[str]]
) -> None:
    decay = training.run("train", what="decay").result
    outcome = training.run("train_while_the_cache_is_removed", cache=str(place.cache))
    assert outcome.result == [cold[0], decay], outcome
    # The operator was loaded already, and is built by the next process that wants it.
    assert stats(place.cache).entries == 1
