"""The bench, really run: over a set of parameters that takes no time."""

from __future__ import annotations

import os
import sys
from dataclasses import replace
from pathlib import Path

import pytest
from click.testing import CliRunner

from radam_codegen.cli import main
from radam_codegen.errors import ArgumentError
from radam_codegen.tools.bench.contestants import CONTESTANTS
from radam_codegen.tools.bench.machine import physical_cores
from radam_codegen.tools.bench.races import Turns
from radam_codegen.tools.bench.run import Request, run_bench
from radam_codegen.tools.bench.suites import VARIANTS, Suite
from radam_codegen.tools.bench.workers import Worker, WorkerError, modules_of

TINY = Suite("tiny", ((3,), (64, 5), (1,), (40, 70)))


def test_everybody_takes_turns() -> None:
    names = ["ieee-ceiling", "native-pir", "one-op-pir", "ours-pir", "skipped-legacy"]
    request = Request(
        suites=[TINY],
        variants=[VARIANTS["clip-l2"]],
        contestants=[CONTESTANTS[name] for name in names],
        turns=Turns(1, seconds=0.001, most=3),
        threads=1,
    )
    (race,) = run_bench(request).suites
    assert (race.subject, race.variant, race.threads) == ("tiny", "clip-l2", 1)
    assert (race.tensors, race.elements) == (4, 3 + 320 + 1 + 2800)
    assert race.absent == {}
    assert sorted(race.seconds) == names
    assert [len(each) for each in race.seconds.values()] == [1] * len(names)
    # Only ours says where its memory is.
    assert sorted(race.ceilings) == ["ours-pir"]
    assert all(each > 0 for series in (race.seconds, race.ceilings) for (each,) in series.values())


def test_who_is_not_installed_is_said_to_be_absent() -> None:
    unknown = replace(CONTESTANTS["optax-radam"], needs="no_such_module")
    request = Request(
        suites=[TINY], variants=[VARIANTS["plain"]], contestants=[unknown], turns=Turns(1)
    )
    (race,) = run_bench(request).suites
    assert race.seconds == {}
    assert race.absent == {"optax-radam": "no_such_module is not installed"}


def test_a_worker_tells_what_went_wrong_and_goes_on() -> None:
    with Worker(sys.executable, {}, 1) as worker:
        for _ in range(2):
            with pytest.raises(WorkerError, match=r"No module named 'worker\.nothing'"):
                worker.ask(30, do="measure", module="nothing", options={})


def test_a_worker_that_dies_is_reported() -> None:
    dead = Worker(sys.executable, {"PYTHONHOME": "/nowhere"}, 1)
    with dead, pytest.raises(WorkerError, match=r"ended with status [^0]"):
        dead.ask(30, do="measure", module="nothing", options={})


def test_a_worker_that_hangs_is_ended() -> None:
    silent = Worker(sys.executable, {}, 1)
    with silent, pytest.raises(WorkerError, match=r"did not answer within 0\.2 s"):
        silent.receive(0.2)


def test_an_interpreter_is_asked_for_its_modules() -> None:
    assert modules_of(sys.executable, ["json", "paddle", "no_such_module"]) == {"json", "paddle"}
    with pytest.raises(WorkerError, match="is no Python"):
        modules_of("/bin/false", ["json"])
    with pytest.raises(WorkerError, match="could not be started"):
        modules_of("/no/such/program", ["json"])


def test_more_threads_than_cpus_are_refused() -> None:
    with pytest.raises(ArgumentError, match="10000 threads would share"):
        run_bench(Request(threads=10000))
    assert 1 <= physical_cores() <= len(os.sched_getaffinity(0))


@pytest.mark.parametrize(
    "arguments",
    [
        ["--suite", "two-50M"],
        ["--variant", "clip"],
        ["--contestant", "adam"],
        ["--network", "vgg"],
        ["--rounds", "0"],
        ["--threads", "0"],
        ["--threads", "10000", "--startup"],
        ["--peer-python", "/no/such/python"],
        ["--add", "/no/such/report"],
        ["--add", "{report}"],
        ["--json", "/"],
        ["extra"],
    ],
)
def test_bad_arguments_are_status_2(arguments: list[str], tmp_path: Path) -> None:
    report = tmp_path / "report.json"
    report.write_text('{"format": 1, "machine": 3}')
    given = [each.format(report=report) for each in arguments]
    result = CliRunner().invoke(main, ["bench", *given])
    assert result.exit_code == 2, result.output
    assert "Error: " in result.output


def test_what_runs_in_fresh_processes() -> None:
    # One process for all of them: each of them only wants to be the first for its figures' sake.
    with Worker(sys.executable, {}, 1) as worker:
        memory = {
            "module": "paddle_dynamic",
            "optimizer": "ours",
            "elements": 5000,
            "threads": 1,
            "clip_norm": 1.0,
            "weight_decay": None,
        }
        facts = worker.ask(60, do="measure", module="memory", options=memory)["facts"]
        assert facts["state"] == 2 * 4 * 5000 + 8
        facts = worker.ask(60, do="measure", module="startup", options={"optimizer": "ours"})
        assert sorted(facts["facts"]) == ["import", "import_paddle", "startup"]
        assert all(seconds >= 0 for seconds in facts["facts"].values())
        request = {
            "module": "network",
            "equipment": None,
            "options": {"network": "mlp-50x256", "optimizer": "none"},
            "workload": {"shapes": [], "threads": 1, "clip_norm": None, "weight_decay": None},
        }
        prepared = worker.ask(60, do="prepare", **request)
        assert prepared["facts"] == {"tensors": 100, "elements": 50 * (256 * 256 + 256)}
        assert prepared["lanes"] == ["step"]
        assert worker.ask(60, do="turn", what="step", seconds=0.0, most=5)["steps"] == 3
        assert worker.ask(60, do="turn", what="step", seconds=9.0, most=5)["steps"] == 5
