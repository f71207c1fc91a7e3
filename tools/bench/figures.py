"""Figures from races: medians of ratios that were taken round by round, never ratios of medians."""

from __future__ import annotations

import math
import statistics
from collections.abc import Iterable, Sequence

from radam_codegen.tools.bench.races import Race

__all__ = [
    "ceiling_ratio",
    "geometric_mean",
    "median_ceiling",
    "median_step",
    "per_tensor_overhead",
    "ratio",
    "split_ratio",
]


def _of(races: Iterable[Race], subject: str, variant: str, names: Sequence[str]) -> list[Race]:
    """Races over a subject in which all of the contestants took part."""
    return [
        race
        for race in races
        if (race.subject, race.variant) == (subject, variant)
        and all(name in race.seconds for name in names)
    ]


def median_step(races: Iterable[Race], subject: str, variant: str, name: str) -> float | None:
    """Median step of a contestant over all its rounds, seconds; None: it was not measured."""
    found = [
        seconds for race in _of(races, subject, variant, [name]) for seconds in race.seconds[name]
    ]
    return statistics.median(found) if found else None


def median_ceiling(races: Iterable[Race], subject: str, variant: str) -> float | None:
    """Median of the ceilings over everybody's memory, seconds; None: there is none."""
    found = [
        seconds
        for race in _of(races, subject, variant, [])
        for ceiling in race.ceilings.values()
        for seconds in ceiling
    ]
    return statistics.median(found) if found else None


def ratio(races: Iterable[Race], subject: str, variant: str, of: str, to: str) -> float | None:
    """Median over the rounds of one contestant's step to another's in the same round."""
    found = [
        a / b
        for race in _of(races, subject, variant, [of, to])
        for a, b in zip(race.seconds[of], race.seconds[to])
    ]
    return statistics.median(found) if found else None


def ceiling_ratio(races: Iterable[Race], subject: str, variant: str, name: str) -> float | None:
    """Median over the rounds of a contestant's step to the ceiling's.

    The ceiling is the one over the contestant's own memory where that is known, else another's.
    """
    found = [
        step / ceiling
        for race in _of(races, subject, variant, [name])
        for step, ceiling in zip(race.seconds[name], race.ceiling_of(name) or ())
    ]
    return statistics.median(found) if found else None


def per_tensor_overhead(
    races: Iterable[Race], subject: str, variant: str, name: str, without: Sequence[str], count: int
) -> float | None:
    """Median over the rounds of what a step takes beyond others, per tensor, in seconds.

    Args:
        races: All races.
        subject: Name of the suite.
        variant: Name of the variant.
        name: Whose step.
        without: The contestants whose steps are taken off it.
        count: Number of tensors of the suite.
    """
    found = [
        (step - sum(rest)) / count
        for race in _of(races, subject, variant, [name, *without])
        for step, *rest in zip(race.seconds[name], *(race.seconds[each] for each in without))
    ]
    return statistics.median(found) if found else None


def split_ratio(
    races: Iterable[Race], subject: str, variant: str, of: str, to: str, base: str
) -> float | None:
    """Median over the rounds of ``(of - base) / (to - base)``."""
    found = [
        (a - c) / (b - c)
        for race in _of(races, subject, variant, [of, to, base])
        for a, b, c in zip(race.seconds[of], race.seconds[to], race.seconds[base])
        if b > c
    ]
    return statistics.median(found) if found else None


def geometric_mean(values: Sequence[float]) -> float:
    """Geometric mean of positive numbers, of which there is at least one."""
    return math.exp(statistics.fmean(map(math.log, values)))
