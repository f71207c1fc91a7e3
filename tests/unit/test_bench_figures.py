from __future__ import annotations

import json
from dataclasses import replace

import pytest

from radam_codegen.errors import ArgumentError
from radam_codegen.tools.bench.figures import (
    ceiling_ratio,
    geometric_mean,
    median_ceiling,
    median_step,
    per_tensor_overhead,
    ratio,
    split_ratio,
)
from radam_codegen.tools.bench.machine import Machine
from radam_codegen.tools.bench.races import Race
from radam_codegen.tools.bench.report import Report, merge, report_from_text
from radam_codegen.tools.bench.run import packed
from radam_codegen.tools.bench.suites import SUITES

MACHINE = Machine("A CPU", 2, 2, {"L1": "32K"}, 1 << 30, "Linux", "3.11", "gcc", {"numpy": "2.0"})

#: The machine slows down in the middle: ratios of medians would be others.
RACE = Race(
    subject="s",
    variant="plain",
    threads=2,
    tensors=10,
    elements=1000,
    seconds={"a": (1.0, 4.0, 1.2), "b": (2.0, 8.0, 1.2), "c": (0.5, 2.0, 0.2)},
    ceilings={"b": (1.0, 4.0, 0.5)},
    absent={"d": "not installed"},
)


def test_suites_are_of_the_known_sizes() -> None:
    assert {name: (len(suite.shapes), suite.elements) for name, suite in SUITES.items()} == {
        "bert-base-like": (194, 108_888_576),
        "resnet50-like": (117, 19_167_144),
        "one-50M": (1, 50_000_000),
        "one-1M": (1, 1_000_000),
        "one-100k": (1, 100_000),
        "small-1000x1k": (1000, 1_024_000),
        "small-200x1k": (200, 204_800),
    }


def test_ratios_are_taken_round_by_round() -> None:
    assert ratio([RACE], "s", "plain", "b", "a") == 2.0
    assert median_step([RACE], "s", "plain", "a") == 1.2
    assert split_ratio([RACE], "s", "plain", "a", "b", "c") == pytest.approx(1 / 3)
    assert per_tensor_overhead([RACE], "s", "plain", "b", ["a", "c"], 10) == pytest.approx(0.05)


def test_a_ceiling_is_the_contestants_own_or_anothers() -> None:
    own = replace(RACE, ceilings={**RACE.ceilings, "a": (1.0, 2.0, 1.2)})
    assert ceiling_ratio([RACE], "s", "plain", "b") == 2.0
    assert ceiling_ratio([RACE], "s", "plain", "a") == 1.0
    assert ceiling_ratio([own], "s", "plain", "a") == 1.0
    assert ceiling_ratio([replace(RACE, ceilings={})], "s", "plain", "a") is None
    assert median_ceiling([own], "s", "plain") == 1.1


def test_what_was_not_measured_is_none() -> None:
    for subject, variant, name in (("s", "plain", "d"), ("t", "plain", "a"), ("s", "clip-l2", "a")):
        assert median_step([RACE], subject, variant, name) is None
        assert ratio([RACE], subject, variant, "a", name) is None or name == "a"
        assert ceiling_ratio([RACE], subject, variant, name) is None


def test_a_ratio_needs_both_in_one_race() -> None:
    one = replace(RACE, seconds={"a": (1.0,)})
    other = replace(RACE, seconds={"b": (1.0,)})
    assert ratio([one, other], "s", "plain", "a", "b") is None
    assert ratio([one, other, RACE], "s", "plain", "b", "a") == 2.0


def test_geometric_mean() -> None:
    assert geometric_mean([1.0, 4.0]) == pytest.approx(2.0)


@pytest.mark.parametrize(
    ("sizes", "space", "races"),
    [
        ({"a": 1, "o": 1, "b": 1}, 3, [("a", "o", "b")]),
        ({"a": 1, "o": 1, "b": 1}, 2, [("a", "o"), ("o", "b")]),
        ({"a": 9, "o": 1, "b": 1}, 3, [("a", "o"), ("o", "b")]),
        ({"a": 1, "b": 1}, 1, [("a",), ("b",)]),
        ({"o": 5}, 3, [("o",)]),
        ({}, 3, []),
    ],
)
def test_races_are_packed_into_memory(
    sizes: dict[str, int], space: int, races: list[tuple[str, ...]]
) -> None:
    assert packed(sizes, space, ["o", "p"]) == races


def test_a_report_survives_its_file() -> None:
    report = Report(MACHINE, (RACE,), (), {"native": {"warm": 0.5}}, {"ours": {"peak": 1.0}})
    read = report_from_text(report.to_text(), "a file")
    assert json.loads(read.to_text()) == json.loads(report.to_text())
    assert ratio(read.suites, "s", "plain", "b", "a") == 2.0


def test_the_newer_of_two_reports_counts() -> None:
    older = Report(MACHINE, (RACE, replace(RACE, subject="t")), (), {"native": {"warm": 0.5}})
    newer = Report(MACHINE, (replace(RACE, seconds={**RACE.seconds, "a": (3.0,)}),))
    merged = merge(older, newer)
    assert [race.subject for race in merged.suites] == ["s", "t"]
    assert median_step(merged.suites, "s", "plain", "a") == 3.0
    assert merged.startup == {"native": {"warm": 0.5}}


def test_reports_of_two_machines_do_not_mix() -> None:
    with pytest.raises(ArgumentError, match="two machines"):
        merge(Report(MACHINE), Report(replace(MACHINE, cpus=4)))


@pytest.mark.parametrize(
    "text", ["", "[]", "{}", '{"format": 2}', '{"format": 1, "machine": {}}', '{"format": 1']
)
def test_another_file_is_no_report(text: str) -> None:
    with pytest.raises(ArgumentError, match="the file is"):
        report_from_text(text, "the file")
