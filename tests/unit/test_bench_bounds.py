"""What must hold, over measurements that are made up."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
from click.testing import CliRunner

from radam_codegen.cli import main
from radam_codegen.tools.bench.bounds import Finding, check, violated
from radam_codegen.tools.bench.machine import Machine
from radam_codegen.tools.bench.page import page_text
from radam_codegen.tools.bench.plots import write_plots
from radam_codegen.tools.bench.races import Race
from radam_codegen.tools.bench.report import Report
from radam_codegen.tools.bench.rows import network_grids
from radam_codegen.tools.bench.suites import SUITES, VARIANTS

MACHINE = Machine("A <CPU>", 2, 2, {"L1": "32K"}, 1 << 34, "Linux", "3.11", "gcc", {"numpy": "2.0"})

#: Milliseconds that hold every bound, for a ceiling of 1 ms.
STEPS = {
    "kernel": 1.01,
    "ours-dygraph": 1.02,
    "ours-pir": 1.03,
    "ours-legacy": 1.04,
    "native-dygraph": 30.0,
    "native-pir": 30.0,
    "empty-pir": 0.01,
    "empty-legacy": 0.01,
    "torch-radam": 9.0,
    "torch-adam-fused": 1.5,
}


def _race(subject: str, variant: str, steps: dict[str, float], **ceilings: float) -> Race:
    suite = SUITES.get(subject)
    return Race(
        subject,
        variant,
        2,
        1 if suite is None else len(suite.shapes),
        1 if suite is None else suite.elements,
        {name: (value * 1e-3,) * 3 for name, value in steps.items()},
        {name: (value * 1e-3,) * 3 for name, value in ceilings.items()},
    )


def _report(**changes: float) -> Report:
    """A report in which everything holds, but for what a test changes."""
    steps = {name: changes.get(name.replace("-", "_"), value) for name, value in STEPS.items()}
    network = {"forward-backward-pir": 10.0, "ours-pir": 11.0, "native-pir": 20.0}
    network["ours-pir"] = changes.get("network", network["ours-pir"])
    memory = {"state": 8.0, "temporary": changes.get("temporary", 0.001), "fixed": 1e6}
    seconds = {"import_paddle": 1.0, "import": 0.1}
    return Report(
        MACHINE,
        tuple(_race(suite, variant, steps, kernel=1.0) for suite in SUITES for variant in VARIANTS),
        (_race("mlp-50x256", "clip-l2", network),),
        {
            "cold": {**seconds, "startup": changes.get("cold", 4.0)},
            "warm": {**seconds, "startup": 0.2, "more": changes.get("warm", 0.05)},
            "native": {**seconds, "startup": 0.15},
        },
        {"ours-dygraph": memory, "ours-pir": memory},
    )


def _violated(report: Report) -> set[str]:
    return {finding.what for finding in violated(check(report))}


def test_a_report_can_hold_everything() -> None:
    findings = check(_report())
    assert [finding for finding in findings if not finding.holds] == []


@pytest.mark.parametrize(
    ("changes", "what", "count"),
    [
        ({"kernel": 1.06}, "one-50M, the update alone: kernel / ceiling of 28 bytes", 2),
        ({"ours_dygraph": 1.11}, "bert-base-like, the update alone: ours-dygraph / ceiling", 2),
        ({"ours_pir": 1.16}, "one-50M, with global clip and L2: ours-pir / ceiling of 32", 4),
        ({"ours_legacy": 1.16}, "bert-base-like, the update alone: ours-legacy / ceiling", 4),
        ({"native_dygraph": 14.0}, "bert-base-like, with global clip and L2: native-dygraph /", 2),
        ({"native_pir": 4.0}, "bert-base-like, the update alone: native-pir / ours-pir", 3),
        ({"torch_adam_fused": 0.98}, "one-100k, with global clip and L2: torch-adam-fused /", 26),
        ({"torch_adam_fused": 1.23}, "geometric mean of these: best peer / ours-pir", 1),
        ({"empty_pir": -0.5}, "small-200x1k: ours-pir - empty-pir - kernel, per tensor", 1),
        ({"network": 11.3}, "mlp-50x256, with global clip and L2, PIR: optimizer's part", 1),
        ({"temporary": 4.0}, "temporary memory of a step per parameter, pir", 2),
        ({"warm": 0.11}, "warm startup - native's", 1),
        ({"cold": 5.1}, "cold startup", 1),
    ],
)
def test_each_bound_can_be_violated(changes: dict[str, float], what: str, count: int) -> None:
    broken = _violated(_report(**changes))
    assert any(each.startswith(what) for each in broken), broken
    assert len(broken) == count, broken


def _reasons(report: Report) -> dict[str, str]:
    return {finding.what: finding.reason for finding in check(report) if finding.reason}


def test_what_holds_needs_no_reason() -> None:
    more = {**STEPS, "ieee-ceiling": 0.9, "one-op-pir": 0.5, "one-op-legacy": 0.5}
    report = _report()
    races = [_race(race.subject, race.variant, more, kernel=1.0) for race in report.suites]
    assert _reasons(replace(report, suites=tuple(races))) == {}


def test_a_violated_bound_comes_with_what_stands_in_the_way() -> None:
    report = _report(network=11.3)
    slow = {**STEPS, "kernel": 1.8, "ours-pir": 2.5, "native-pir": 3.0, "torch-adam-fused": 1.2}
    slow.update({"ieee-ceiling": 1.75, "one-op-pir": 0.9, "ours-legacy": 9999.0})
    slow.update({"one-op-legacy": 0.25, "skipped-legacy": 0.7})
    races = [_race(race.subject, race.variant, slow, kernel=1.0) for race in report.suites]
    networks = [replace(race, facts={"ours-pir": {"elements": 1000}}) for race in report.networks]
    told = _reasons(replace(report, suites=tuple(races), networks=tuple(networks)))
    assert told["one-1M, the update alone: kernel / ceiling of 28 bytes"] == (
        "the ceiling's own loop with one IEEE division and one root per element takes 1.75 of the "
        "ceiling, and the kernel 1.03 of that loop"
    )
    assert told["small-1000x1k, with global clip and L2: native-pir / ours-pir"] == (
        "ours takes 2.50 of the ceiling over its memory, native-pir 3.00 of the same; of the 2500 "
        "us of ours, a run of the Executor over the same variables that only adds 1 to a number "
        "takes 900"
    )
    assert told["one-1M, the update alone: torch-adam-fused / ours-pir"] == (
        "ours takes 2.50 of the ceiling over its memory, torch-adam-fused 1.20 of the same; of the "
        "2500 us of ours, a run of the Executor over the same variables that only adds 1 to a "
        "number takes 900"
    )
    legacy = "small-1000x1k: ours-legacy - empty-legacy - kernel, per tensor"
    assert told[legacy].endswith(
        "takes 250; with steps that are skipped, and leave the caches to what Paddle has on each "
        "tensor, it takes 700; the kernel alone takes 1800"
    )
    assert told["geometric mean of these: best peer / ours-pir"] == (
        "the lowest of them: bert-base-like, the update alone 0.48, bert-base-like, with global "
        "clip and L2 0.48, one-100k, the update alone 0.48"
    )
    # 32 bytes of 1000 elements, of the 108,888,576 that take 1 ms.
    assert told["mlp-50x256, with global clip and L2, PIR: optimizer's part, ours / native"] == (
        "ours adds 1.3 ms and native 10.0 ms to 10.0 ms; the 0 MB of an update take 0.0 ms at the "
        "ceiling of bert-base-like"
    )


def test_nothing_is_told_that_was_not_measured() -> None:
    assert set(_reasons(_report(network=11.3, kernel=2.0, torch_adam_fused=0.9))) == {
        *(f"geometric mean of these: best peer / {ours}" for ours in ("ours-dygraph", "ours-pir")),
        *(
            f"{suite}, {variant.title}: torch-adam-fused / {ours}"
            for suite in SUITES
            if suite != "small-200x1k"
            for variant in VARIANTS.values()
            for ours in ("ours-dygraph", "ours-pir")
        ),
    }


def test_a_kernel_within_the_caches_has_a_bound_of_its_own() -> None:
    report = _report()
    slow = tuple(
        replace(race, seconds={"kernel": (1.26e-3,)}, ceilings={"kernel": (1e-3,)})
        for race in report.suites
    )
    assert "one-1M, the update alone: kernel / ceiling of 28 bytes" in _violated(
        replace(report, suites=slow)
    )


def test_what_was_not_measured_is_not_violated() -> None:
    findings = check(Report(MACHINE))
    assert len(findings) == len(check(_report()))
    assert {finding.holds for finding in findings} == {None}
    some = replace(_report(), suites=_report().suites[:1])
    means = [each for each in check(some) if each.what.startswith("geometric mean")]
    assert [each.holds for each in means] == [None, None]


@pytest.mark.parametrize(
    ("figure", "at_most", "holds"),
    [
        (1.0, True, True),
        (1.1, True, False),
        (1.0, False, True),
        (0.9, False, False),
        (None, 1, None),
    ],
)
def test_a_bound_itself_holds(figure: float | None, at_most: bool, holds: bool | None) -> None:
    assert Finding("x", figure, 1.0, at_most).holds is holds


@pytest.mark.parametrize(("changes", "status"), [({}, 0), ({"cold": 9.75}, 1)])
def test_check_ends_with_what_was_found(
    changes: dict[str, Any], status: int, tmp_path: Path
) -> None:
    file = tmp_path / "report.json"
    file.write_text(_report(**changes).to_text(), encoding="utf-8")
    result = CliRunner().invoke(main, ["bench", "--add", str(file), "--check"])
    assert result.exit_code == status, result.output
    assert ("VIOLATED" in result.output) == bool(status)
    assert ("9.750 s" in result.output) == bool(status)


def test_an_optimizer_that_adds_less_than_nothing() -> None:
    steps = {
        "forward-backward-pir": 10.0,
        "forward-backward-kept-pir": 8.0,
        "ours-pir": 9.5,
        "native-pir": 20.0,
    }
    report = replace(_report(), networks=(_race("resnet50", "plain", steps),))
    (grid,) = network_grids(report)
    assert list(grid.rows) == [
        [*("PIR, the update alone", "10.0 ms", "-500 us", "10.0 ms", "-0.05", "8.00 ms", "1.50 ms")]
    ]


def test_a_page_and_its_pictures(tmp_path: Path) -> None:
    report = _report()
    # Two suites are drawn like seven, and sooner.
    some = replace(report, suites=report.suites[:4])
    pictures = write_plots(some, tmp_path / "docs" / "pictures")
    files = sorted(path.name for path in (tmp_path / "docs" / "pictures").iterdir())
    assert files == [
        *("roofline.png", "roofline.svg", "step-to-ceiling.png", "step-to-ceiling.svg")
    ]
    page = page_text(report, tmp_path / "docs", pictures)
    assert "(pictures/roofline.png)" in page
    assert str(tmp_path) not in page
    # What stands in a table has as many columns as its head.
    rows = [line for line in page.splitlines() if line.startswith("|")]
    assert "| ours, kernel alone | 1.01 ms | 1.01 | 29.7 |" in rows
    assert "| PIR, with global clip and L2 | 10.0 ms | 1.00 ms | 10.0 ms | 0.10 |  |  |" in rows
    assert "| cold startup | 4.000 s | at most 5 s | holds |" in rows
    assert "\n\n\n" not in page
