"""How long a step takes before and after, found out without a trace."""

from __future__ import annotations

import functools
import json
import math
import re
from collections.abc import Callable, Iterator
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np
import paddle
import pytest
from click.testing import CliRunner
from paddle.base import unique_name
from support.small_programs import SmallProgram, parameter
from support.static_programs import IN_PIR, program_text

import radam_codegen as rc
from radam_codegen.cli import main as command
from radam_codegen.errors import ArgumentError, ArgumentTypeError, ProgramError
from radam_codegen.program.executor_hook import install_executor_hook
from radam_codegen.program.lowering import step_times
from radam_codegen.program.lowering.step_times import WARM_UP, StepTimes

pytestmark = pytest.mark.usefixtures("static_mode")

SUFFIX = ".json" if IN_PIR else ".pdmodel"
X = np.array([[1.0, -2.0, 3.0], [0.5, 2.0, -1.0]], "float32")
IDS = np.array([1, 3], "int64")


def network() -> Any:
    """A program that says in each run what a parameter is before the step."""
    x = paddle.static.data("x", [-1, 3], "float32")
    ids = paddle.static.data("ids", [-1], "int64")
    table = parameter("table", (4, 3))
    rows = paddle.nn.functional.embedding(ids, table)
    w = parameter("w")
    paddle.static.Print(w, message="w is")
    loss = paddle.mean((x * rows * w) ** 2)
    rate = paddle.optimizer.lr.StepDecay(0.05, 3)
    paddle.optimizer.RAdam(rate, weight_decay=0.1).minimize(loss)
    return rate


def picky() -> None:
    """A program that takes two rows, and no other number."""
    x = paddle.reshape(paddle.static.data("x", [-1, 3], "float32"), [2, 3])
    loss = paddle.mean(x * parameter("w"))
    paddle.optimizer.RAdam(0.05, weight_decay=0.1).minimize(loss)


def started(build: Callable[[], Any], steps: int = 0, **feed: Any) -> SmallProgram:
    program = SmallProgram(build).start()
    for _ in range(steps):
        program.run(**feed)
    return program


def lower(program: SmallProgram, **options: Any) -> rc.LoweringReport:
    return rc.lower(program.main, program.startup, scope=program.scope, **options)


def text_of(program: Any) -> str:
    """Everything that a program says of itself but how many there were before it."""
    return re.sub(r"/(regularization|optimizer)_\d+/", r"/\1/", program_text(program))


def random_numbers() -> list[str]:
    """Where Paddle is with them, without addresses."""
    return [re.sub(r"0x\w+", "", str(state)) for state in paddle.get_rng_state()]


def everything(program: SmallProgram) -> Any:
    """All that timing could have left a trace in."""
    values = {}
    for name in program.scope.local_var_names():
        try:
            tensor = program.scope.find_var(name).get_tensor()
        except ValueError:  # the legacy Executor's lists of what is fed and fetched
            continue
        there = tensor._is_initialized()
        values[name] = (tensor.shape(), np.array(tensor).tobytes()) if there else None
    rate = program.result
    return (
        text_of(program.main),
        text_of(program.startup),
        values,
        None if rate is None else rate.state_dict(),
        dict(unique_name.generator.ids),
        random_numbers(),
        paddle.static.global_scope().local_var_names(),
        paddle.in_dynamic_mode(),
    )


def printed(text: str) -> list[list[float]]:
    """What the runs of `network` have said, in their order."""
    found = re.findall(r"message: w is.*?- data: \[([^]]*)\]", text, re.DOTALL)
    return [[float(number) for number in each.split()] for each in found]


@dataclass
class Run:
    """One that took place."""

    fused: bool
    feed: dict[str, Any]


class Runs:
    """Runs of main programs, and a clock by which they take as long as is wanted."""

    def __init__(self, monkeypatch: pytest.MonkeyPatch) -> None:
        install_executor_hook()
        self.done: list[Run] = []
        self.seconds: Callable[[Run], float] = lambda run: 1.0
        self._now = 0.0
        real = paddle.static.Executor.run

        @functools.wraps(real)
        def run(executor: Any, program: Any, **options: Any) -> Any:
            if options.get("feed"):
                fused = "radam_codegen_step" in program_text(program)
                self.done.append(Run(fused, dict(options["feed"])))
                self._now += self.seconds(self.done[-1])
            return real(executor, program, **options)

        monkeypatch.setattr(paddle.static.Executor, "run", run)
        monkeypatch.setattr(step_times, "perf_counter", lambda: self._now)


@pytest.fixture
def runs(monkeypatch: pytest.MonkeyPatch) -> Runs:
    return Runs(monkeypatch)


@pytest.mark.parametrize("inplace", [True, False], ids=["in place", "copied"])
@pytest.mark.parametrize("trained", [True, False], ids=["trained", "not started"])
def test_nothing_else_is_different(trained: bool, inplace: bool) -> None:
    found = []
    for timed in (False, True):
        program = started(network, 7, x=X, ids=IDS) if trained else SmallProgram(network)
        before = everything(program)
        options = {"time_steps": 2, "feed": {"x": X, "ids": IDS}} if timed else {}
        paddle.seed(3)
        with unique_name.guard():
            report = lower(program, inplace=inplace, **options)
            left = everything(program)
        if not inplace:
            assert left[:2] == before[:2]
        assert (report.step_seconds is not None) == timed
        lowered = text_of(report.program), text_of(report.startup_program)
        if not trained:
            paddle.static.Executor().run(report.startup_program, scope=program.scope)
        for _ in range(7):
            program.run(program=report.program, x=X, ids=IDS)
        described = replace(report, step_seconds=None).to_json()
        found.append((left, lowered, described, everything(program)[2]))
    plain, timed_ones = found
    assert timed_ones == plain


def test_random_numbers_go_on_as_if_nothing_had_run() -> None:
    def build() -> None:
        x = paddle.nn.functional.dropout(paddle.static.data("x", [-1, 3], "float32"))
        paddle.optimizer.RAdam(0.05, weight_decay=0.1).minimize(paddle.mean(x * parameter("w")))

    program = started(build)
    before = random_numbers()
    lower(program, time_steps=1)
    assert random_numbers() == before
    program.run(x=X)
    assert random_numbers() != before


def test_both_go_on_from_where_the_program_is(capfd: pytest.CaptureFixture[str]) -> None:
    program = started(network, 7, x=X, ids=IDS)
    capfd.readouterr()
    report = lower(program, inplace=False, time_steps=3, feed={"x": X, "ids": IDS})
    said = printed(capfd.readouterr().out)
    assert len(said) == 2 * (WARM_UP + 3)
    for _ in range(WARM_UP + 3):
        program.run(x=X, ids=IDS)
    expected = printed(capfd.readouterr().out)
    assert expected[0] != expected[-1]
    np.testing.assert_allclose(said[::2], expected, 2e-5, 2e-6)
    np.testing.assert_allclose(said[1::2], expected, 2e-5, 2e-6)
    times = report.step_seconds
    assert times is not None
    assert times.repeats == 3
    assert all(math.isfinite(each) and each > 0 for each in (times.before, times.after))


def test_both_start_where_the_startup_program_would(capfd: pytest.CaptureFixture[str]) -> None:
    program = SmallProgram(network)
    # Parameters that were loaded; the state is still to be initialized.
    program.scope.var("w").get_tensor().set(np.full(3, 0.25, "float32"), paddle.CPUPlace())
    lower(program, time_steps=1, feed={"x": X, "ids": IDS})
    said = printed(capfd.readouterr().out)
    assert len(said) == 2 * (WARM_UP + 1)
    assert said[:2] == [[0.25] * 3] * 2
    np.testing.assert_allclose(said[::2], said[1::2], 2e-5, 2e-6)
    assert said[0] != said[-1]
    assert not program.has("table")


def test_they_take_turns_and_the_medians_count(runs: Runs) -> None:
    taken = {False: iter([100.0] * WARM_UP + [1, 2, 90]), True: iter([200.0] * WARM_UP + [6, 4, 5])}
    runs.seconds = lambda run: next(taken[run.fused])
    report = lower(SmallProgram(network), time_steps=3)
    assert [run.fused for run in runs.done] == [False, True] * (WARM_UP + 3)
    assert report.step_seconds == StepTimes(before=2.0, after=5.0, repeats=3)


def test_the_report() -> None:
    report = lower(SmallProgram(network), time_steps=2)
    times = report.step_seconds
    assert times is not None
    (line,) = [line for line in str(report).splitlines() if line.startswith("step: ")]
    assert line == f"step: {times}"
    document = json.loads(json.dumps(report.to_json()))["step_seconds"]
    assert document == {"before": times.before, "after": times.after, "repeats": 2}
    text = str(StepTimes(before=0.4281, after=0.00032941, repeats=25))
    assert text == "428.1 -> 0.329 ms (median of 25 steps each, in turns)"
    assert str(StepTimes(2.0, 0.01, 1)) == "2,000.0 -> 10.0 ms (median of 1 step each, in turns)"


def test_nothing_runs_unless_it_is_asked_for(runs: Runs) -> None:
    program = SmallProgram(network)
    report = lower(program, time_steps=0, feed={"x": X})
    assert report.step_seconds is None
    assert report.to_json()["step_seconds"] is None
    assert "\nstep:" not in str(report)
    again = lower(program, time_steps=5)  # there is nothing left to lower
    assert again.step_seconds is None
    assert runs.done == []


def test_what_is_missing_in_the_feed_is_made_up(runs: Runs) -> None:
    def build() -> None:
        w = parameter("w")
        total = paddle.mean(paddle.static.data("given", [-1, 3], "float32") * w)
        for dtype in ("float32", "float64", "float16", "bfloat16", "int64", "bool"):
            data = paddle.static.data(dtype, [2, -1, 3], dtype)
            total = total + paddle.mean(paddle.cast(data, "float32") * w)
        paddle.optimizer.RAdam(0.05).minimize(total)

    given = [[2.0, 3.0, 4.0]]
    for _ in range(2):
        lower(SmallProgram(build), time_steps=1, feed={"given": np.array(given, "float32")})
    first, *others = (run.feed for run in runs.done)
    assert len(others) == 2 * 2 * (WARM_UP + 1) - 1
    assert first.pop("given").tolist() == given
    for feed in others:
        assert feed.pop("given").tolist() == given
        assert {name: array.tobytes() for name, array in feed.items()} == {
            name: array.tobytes() for name, array in first.items()
        }
    assert {array.shape for array in first.values()} == {(2, 1, 3)}
    dtypes = {name: array.dtype.name for name, array in first.items()}
    assert dtypes == {name: "uint16" if name == "bfloat16" else name for name in first}
    assert not first["int64"].any()
    assert not first["bool"].any()
    upper_half = first.pop("bfloat16").astype("uint32") << 16
    first["bfloat16"] = upper_half.view("float32")
    for name in ("float32", "float64", "float16", "bfloat16"):
        assert len(set(first[name].ravel().tolist())) == 6
        assert 0.01 < np.abs(first[name]).max() < 6.0
    assert not (first["float64"].astype("float32") == first["float32"]).any()


@pytest.mark.parametrize(
    ("arguments", "message", "kind"),
    [
        ({"time_steps": -1}, "time_steps is -1", ArgumentError),
        ({"time_steps": True}, "time_steps .* bool: True", ArgumentTypeError),
        ({"time_steps": 2.0}, "time_steps .* float: 2.0", ArgumentTypeError),
        ({"time_steps": "3"}, "time_steps .* str: '3'", ArgumentTypeError),
        ({"time_steps": 1, "feed": {"y": X}}, "'y'.* which reads 'x', 'ids'", ArgumentError),
        ({"time_steps": 1, "feed": {"w": X[0]}}, "'w'.* is no data", ArgumentError),
        ({"feed": {"y": X}}, "'y'.* is no data", ArgumentError),
        ({"time_steps": 1, "feed": [X]}, "feed is a mapping .* list", ArgumentTypeError),
        ({"time_steps": 1, "feed": {"x": "no"}}, r"feed\['x'\] .* a str", ArgumentTypeError),
        ({"time_steps": 1, "feed": {"x": [[1], []]}}, r"feed\['x'\] ", ArgumentTypeError),
    ],
    ids=str,
)
def test_arguments(arguments: dict[str, Any], message: str, kind: Any) -> None:
    program = started(network)
    before = everything(program)
    with pytest.raises(kind, match=message):
        lower(program, **arguments)
    assert everything(program) == before


@pytest.mark.parametrize("trained", [True, False], ids=["trained", "not started"])
def test_a_run_that_fails_leaves_everything(trained: bool) -> None:
    program = started(picky, 3, x=X) if trained else SmallProgram(picky)
    before = everything(program)
    with pytest.raises(ProgramError, match="made up for 'x': give feed") as caught:
        lower(program, time_steps=1)
    assert "reshape" in str(caught.value)
    assert caught.value.__cause__ is not None
    assert everything(program) == before
    with pytest.raises(ProgramError, match="correct feed") as caught:
        lower(program, time_steps=1, feed={"x": X[:1]})
    assert "made up" not in str(caught.value)
    assert everything(program) == before
    report = lower(program, time_steps=1, feed={"x": X})
    assert report.step_seconds is not None
    assert report.converted == (1 if trained else None)


def test_a_startup_program_that_fails_leaves_everything() -> None:
    def build() -> None:
        picky()
        with paddle.static.program_guard(paddle.static.default_startup_program()):
            rows = paddle.ones([3, 3], "float32")
            paddle.nn.functional.embedding(paddle.full([1], 9, "int64"), rows)

    program = SmallProgram(build)
    before = everything(program)
    with pytest.raises(ProgramError, match="startup program cannot be run"):
        lower(program, time_steps=1, feed={"x": X})
    assert everything(program) == before


def test_in_a_branch(runs: Runs) -> None:
    def build() -> None:
        x = paddle.static.data("x", [3], "float32")
        w = parameter("w")
        optimizer = paddle.optimizer.RAdam(0.05, weight_decay=0.1)

        def branch() -> None:
            optimizer.minimize(paddle.mean(x * w))

        paddle.static.nn.cond(paddle.mean(x) > 0.0, branch, None)

    program = started(build, 2, x=X[0])
    runs.done.clear()
    report = lower(program, time_steps=2, feed={"x": X[0]})
    assert report.steps[0].block != 0
    assert report.step_seconds == StepTimes(1.0, 1.0, 2)
    assert len(runs.done) == 2 * (WARM_UP + 2)


def test_in_dynamic_graph(runs: Runs) -> None:
    program = SmallProgram(network)
    paddle.disable_static()
    report = lower(program, time_steps=1)
    assert paddle.in_dynamic_mode()
    assert report.step_seconds is not None
    assert len(runs.done) == 2 * (WARM_UP + 1)


class Saved:
    """A program that was saved, and the command for it."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        program = started(picky, 7, x=X)
        with paddle.static.scope_guard(program.scope):
            paddle.static.save(program.main, str(folder / "native"))
        paddle.save(program.startup, str(folder / f"startup{SUFFIX}"))

    def lower(self, out: str, *arguments: str) -> Any:
        words = ["lower", str(self.folder / "native"), "--out", str(self.folder / out)]
        return CliRunner().invoke(command, [*words, *arguments])

    def file(self, name: str, content: bytes) -> str:
        (self.folder / name).write_bytes(content)
        return str(self.folder / name)

    def arrays(self, name: str, **arrays: Any) -> str:
        np.savez(self.folder / name, **arrays)
        return str(self.folder / name)

    def written(self, out: str) -> dict[str, bytes]:
        found = self.folder.glob(f"{out}.*")
        return {path.suffix: path.read_bytes() for path in found}


@pytest.fixture
def saved(tmp_path: Path) -> Iterator[Saved]:
    with unique_name.guard():
        yield Saved(tmp_path)


def test_the_command(saved: Saved, runs: Runs) -> None:
    feed = ["--feed", saved.arrays("feed.npz", x=X)]
    runs.done.clear()
    figures = {"before": 1.0, "after": 1.0, "repeats": 2}
    for out, options, expected in ("plain", [], None), ("timed", ["--steps", "2", *feed], figures):
        with unique_name.guard():
            done = saved.lower(out, *options, "--json")
        assert done.exit_code == 0, done.output
        assert json.loads(done.stdout)["step_seconds"] == expected
        assert len(runs.done) == (2 * (WARM_UP + 2) if options else 0)
    assert all((run.feed["x"] == X).all() for run in runs.done)
    assert saved.written("timed") == saved.written("plain")
    (saved.folder / "native.pdparams").unlink()
    (saved.folder / "native.pdopt").unlink()
    startup = ["--startup", str(saved.folder / f"startup{SUFFIX}")]
    done = saved.lower("text", "--steps", "1", *feed, *startup)
    assert done.exit_code == 0, done.output
    assert "\nstep: 1,000.0 -> 1,000.0 ms (median of 1 step each, in turns)\n" in done.stdout


class Trap:
    """Something that leaves a file where it is unpickled."""

    def __init__(self, path: str) -> None:
        self._path = path

    def __reduce__(self) -> Any:
        return Path.touch, (Path(self._path),)


def test_what_the_command_refuses(saved: Saved) -> None:
    trap = np.array([Trap(str(saved.folder / "unpickled"))], object)
    whole = Path(saved.arrays("whole.npz", x=X)).read_bytes()
    for arguments, status, message in (
        (["--steps", "-1"], 2, "Invalid value for '--steps'"),
        (["--steps", "some"], 2, "Invalid value for '--steps'"),
        (["--feed", str(saved.folder / "missing.npz")], 2, "does not exist"),
        (["--feed", str(saved.folder)], 2, "is a directory"),
        (["--feed", saved.file("empty.npz", b"")], 2, "is no .npz file"),
        (["--feed", saved.file("cut.npz", whole[:-30])], 2, "is no .npz file"),
        (["--feed", saved.file("flipped.npz", whole.replace(X.tobytes(), b"?" * 24))], 2, "CRC"),
        (["--feed", saved.arrays("trap.npz", x=trap)], 2, "cannot be read"),
        (["--feed", saved.arrays("text.npz", x=np.array(["a"]))], 2, "not an array of numbers"),
        (["--feed", saved.arrays("other.npz", y=X)], 2, "'y'"),
        (["--feed", saved.arrays("short.npz", x=X[:1])], 1, "correct feed"),
        ([], 1, "made up for 'x'"),
    ):
        done = saved.lower("lowered", "--steps", "1", *arguments)
        assert done.exit_code == status, done.output
        assert message in done.output
        assert "Traceback" not in done.output
        assert saved.written("lowered") == {}
    assert not (saved.folder / "unpickled").exists()
