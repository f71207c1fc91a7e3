"""Why a bound does not hold: what else was measured in the same run says what stands in the way.

Each function returns a text for people, empty where what would tell was not measured.
"""

from __future__ import annotations

from collections.abc import Mapping

from radam_codegen.tools.bench.figures import ceiling_ratio, median_ceiling, median_step, ratio
from radam_codegen.tools.bench.networks import BASE
from radam_codegen.tools.bench.report import Report
from radam_codegen.tools.bench.suites import VARIANTS

__all__ = [
    "division_and_root",
    "executor",
    "far_from_ceiling",
    "lowest",
    "skipped",
    "traffic_of_network",
]


def division_and_root(report: Report, suite: str) -> str:
    """What division and root alone take in the caches, and the kernel beside them."""
    floor = ceiling_ratio(report.suites, suite, "plain", "ieee-ceiling")
    to_floor = ratio(report.suites, suite, "plain", "kernel", "ieee-ceiling")
    if floor is None or to_floor is None:
        return ""
    return (
        "the ceiling's own loop with one IEEE division and one root per element takes "
        f"{floor:.2f} of the ceiling, and the kernel {to_floor:.2f} of that loop"
    )


def far_from_ceiling(report: Report, suite: str, variant: str, ours: str, other: str) -> str:
    """How far two contestants are from the ceiling: no step at it could be compared any better."""
    near, far = (ceiling_ratio(report.suites, suite, variant, name) for name in (ours, other))
    if near is None or far is None:
        return ""
    return f"ours takes {near:.2f} of the ceiling over its memory, {other} {far:.2f} of the same"


def executor(report: Report, suite: str, variant: str, ours: str) -> str:
    """What a run of the Executor takes that only adds 1 to a number.

    Of many tensors that says nothing: Paddle prints such a program at every run, and ours not.
    """
    floor = median_step(report.suites, suite, variant, f"one-op-{ours.partition('-')[2]}")
    step = median_step(report.suites, suite, variant, ours)
    if floor is None or step is None or floor > step:
        return ""
    return (
        f"of the {step * 1e6:.0f} us of ours, a run of the Executor over the same variables that "
        f"only adds 1 to a number takes {floor * 1e6:.0f}"
    )


def skipped(report: Report, suite: str, variant: str, ours: str) -> str:
    """What a run takes whose steps are skipped, which drive nothing from the caches."""
    handed = median_step(report.suites, suite, variant, f"skipped-{ours.partition('-')[2]}")
    kernel = median_step(report.suites, suite, variant, "kernel")
    if handed is None or kernel is None:
        return ""
    return (
        f"with steps that are skipped, and leave the caches to what Paddle has on each tensor, it "
        f"takes {handed * 1e6:.0f}; the kernel alone takes {kernel * 1e6:.0f}"
    )


def lowest(ratios: Mapping[str, float]) -> str:
    """What a mean is low for."""
    by_ratio = sorted((ratio, what) for what, ratio in ratios.items())
    return "the lowest of them: " + ", ".join(f"{what} {ratio:.2f}" for ratio, what in by_ratio[:3])


def traffic_of_network(report: Report, network: str, variant: str, suite: str) -> str:
    """What optimizers add to a training step, and what the traffic takes at a suite's ceiling."""
    names = [f"{name}-pir" for name in (BASE, "ours", "native")]
    races = [
        race
        for race in report.networks
        if (race.subject, race.variant) == (network, variant)
        and all(name in race.seconds for name in names)
    ]
    ceiling = median_ceiling(report.suites, suite, variant)
    facts = races[0].facts.get(names[1], {}) if races else {}
    elements = facts.get("elements")
    if elements is None or ceiling is None:
        return ""
    of_suite = next(race.elements for race in report.suites if race.subject == suite)
    base, ours, native = (median_step(races, network, variant, name) or 0.0 for name in names)
    moved = VARIANTS[variant].bytes_per_element * elements
    return (
        f"ours adds {(ours - base) * 1e3:.1f} ms and native {(native - base) * 1e3:.1f} ms to "
        f"{base * 1e3:.1f} ms; the {moved / 1e6:.0f} MB of an update take "
        f"{ceiling * elements / of_suite * 1e3:.1f} ms at the ceiling of {suite}"
    )
