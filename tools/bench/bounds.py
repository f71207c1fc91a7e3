"""What must hold: the one place for the figures that ``--check`` compares with."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import dataclass, replace

from radam_codegen.tools.bench import reasons
from radam_codegen.tools.bench.contestants import PEERS
from radam_codegen.tools.bench.figures import (
    ceiling_ratio,
    geometric_mean,
    per_tensor_overhead,
    ratio,
    split_ratio,
)
from radam_codegen.tools.bench.networks import BASE
from radam_codegen.tools.bench.report import Report
from radam_codegen.tools.bench.suites import SUITES, VARIANTS

__all__ = ["Finding", "best_peer", "check", "violated"]

#: Suites beyond all caches.
_LARGE = ("bert-base-like", "one-50M")
#: Step to the ceiling of 28 bytes, by contestant.
_PLAIN_CEILING = {"kernel": 1.05, "ours-dygraph": 1.10, "ours-pir": 1.15, "ours-legacy": 1.15}
#: Step with clip and decay to the ceiling of 32 bytes.
_CLIPPED_CEILING = 1.15
#: Within the caches, where a step's divisions and roots show: kernel to the ceiling of 28 bytes.
_IN_CACHE = {"one-1M": 1.25, "one-100k": 1.25}
#: Native step to ours: suite, variant, at least.
_NATIVE = (
    ("bert-base-like", "clip-l2", 14.0),
    ("bert-base-like", "plain", 4.0),
    ("small-1000x1k", "clip-l2", 20.0),
)
#: Ours, and Paddle's own that runs in the same way.
_PAIRS = (("ours-dygraph", "native-dygraph"), ("ours-pir", "native-pir"))
#: The best peer's step to ours, in each suite, and in the geometric mean of all of them.
_PEER, _PEER_MEAN = 0.97, 1.2
#: Suites without a bound on peers: it is there for the overhead alone.
_NO_PEERS = ("small-200x1k",)
#: Microseconds per tensor beyond the kernel and beyond the program without an optimizer.
_OVERHEAD = (
    ("ours-pir", ("empty-pir", "kernel"), 2.5),
    ("ours-legacy", ("empty-legacy", "kernel"), 1.0),
    ("ours-dygraph", ("kernel",), 2.0),
)
_SMALL = ("small-200x1k", "small-1000x1k")
#: The optimizer's part of a training step, ours to native.
_SPLIT = ("mlp-50x256", "clip-l2", 0.12)
#: Bytes per parameter that count as none: a page here and there.
_GROWTH = 0.05
_WARM_SECONDS, _COLD_SECONDS = 0.1, 5.0


@dataclass(frozen=True)
class Finding:
    """One bound and what was measured.

    Attributes:
        what: What is bounded.
        figure: What was measured; None: it was not.
        limit: The bound.
        at_most: Whether the figure must not be above it; else it must not be below it.
        unit: What both are in; empty for ratios.
        reason: What the same run says of why it does not hold; empty where it holds.
    """

    what: str
    figure: float | None
    limit: float
    at_most: bool = True
    unit: str = ""
    reason: str = ""

    @property
    def holds(self) -> bool | None:
        """Whether the bound holds; None: nothing was measured."""
        if self.figure is None:
            return None
        return self.figure <= self.limit if self.at_most else self.figure >= self.limit


def check(report: Report) -> list[Finding]:
    """Compare a report with everything that must hold."""
    findings = [finding for bounds in _BOUNDS for finding in bounds(report)]
    return [each if each.holds is False else replace(each, reason="") for each in findings]


def violated(findings: list[Finding]) -> list[Finding]:
    """The findings that do not hold; what was not measured is not among them."""
    return [finding for finding in findings if finding.holds is False]


def _told(*texts: str) -> str:
    return "; ".join(filter(None, texts))


def _ceilings(report: Report) -> Iterator[Finding]:
    for suite in _LARGE:
        for variant in VARIANTS.values():
            for name, plain in _PLAIN_CEILING.items():
                yield Finding(
                    f"{suite}, {variant.title}: {name} / ceiling of "
                    f"{variant.bytes_per_element} bytes",
                    ceiling_ratio(report.suites, suite, variant.name, name),
                    plain if variant.name == "plain" else _CLIPPED_CEILING,
                )


def _in_cache(report: Report) -> Iterator[Finding]:
    for suite, limit in _IN_CACHE.items():
        yield Finding(
            f"{suite}, {VARIANTS['plain'].title}: kernel / ceiling of 28 bytes",
            ceiling_ratio(report.suites, suite, "plain", "kernel"),
            limit,
            reason=reasons.division_and_root(report, suite),
        )


def _native(report: Report) -> Iterator[Finding]:
    for suite, variant, limit in _NATIVE:
        for ours, native in _PAIRS:
            yield Finding(
                f"{suite}, {VARIANTS[variant].title}: {native} / {ours}",
                ratio(report.suites, suite, variant, native, ours),
                limit,
                at_most=False,
                reason=_told(
                    reasons.far_from_ceiling(report, suite, variant, ours, native),
                    reasons.executor(report, suite, variant, ours),
                ),
            )


def _peers(report: Report) -> Iterator[Finding]:
    for ours, _ in _PAIRS:
        bests: dict[str, float | None] = {}
        for suite in SUITES:
            if suite in _NO_PEERS:
                continue
            for variant in VARIANTS.values():
                best = best_peer(report, suite, variant.name, ours)
                name, figure = best or ("best peer", None)
                yield Finding(
                    f"{suite}, {variant.title}: {name} / {ours}",
                    figure,
                    _PEER,
                    at_most=False,
                    reason=_told(
                        reasons.far_from_ceiling(report, suite, variant.name, ours, name),
                        reasons.executor(report, suite, variant.name, ours),
                    ),
                )
                bests[f"{suite}, {variant.title}"] = figure
        known = {what: figure for what, figure in bests.items() if figure is not None}
        yield Finding(
            f"geometric mean of these: best peer / {ours}",
            geometric_mean(list(known.values())) if len(known) == len(bests) else None,
            _PEER_MEAN,
            at_most=False,
            reason=reasons.lowest(known),
        )


def best_peer(report: Report, suite: str, variant: str, ours: str) -> tuple[str, float] | None:
    """The fastest peer, and its step to ours; None where no peer was measured."""
    found = [
        (figure, peer.name)
        for peer in PEERS
        for figure in [ratio(report.suites, suite, variant, peer.name, ours)]
        if figure is not None
    ]
    if not found:
        return None
    figure, name = min(found)
    return name, figure


def _overhead(report: Report) -> Iterator[Finding]:
    for suite in _SMALL:
        count = len(SUITES[suite].shapes)
        for name, without, limit in _OVERHEAD:
            seconds = per_tensor_overhead(report.suites, suite, "plain", name, without, count)
            yield Finding(
                f"{suite}: {' - '.join((name, *without))}, per tensor",
                None if seconds is None else seconds * 1e6,
                limit,
                unit="us",
                reason=_told(
                    reasons.executor(report, suite, "plain", name),
                    reasons.skipped(report, suite, "plain", name),
                ),
            )


def _networks(report: Report) -> Iterator[Finding]:
    network, variant, limit = _SPLIT
    yield Finding(
        f"{network}, {VARIANTS[variant].title}, PIR: optimizer's part, ours / native",
        split_ratio(report.networks, network, variant, "ours-pir", "native-pir", f"{BASE}-pir"),
        limit,
        reason=reasons.traffic_of_network(report, network, variant, _LARGE[0]),
    )


def _memory(report: Report) -> Iterator[Finding]:
    for way in ("dygraph", "pir"):
        yield Finding(
            f"temporary memory of a step per parameter, {way}",
            report.memory.get(f"ours-{way}", {}).get("temporary"),
            _GROWTH,
            unit="bytes",
        )


def _startup(report: Report) -> Iterator[Finding]:
    warm, cold = report.startup.get("warm", {}), report.startup.get("cold", {})
    yield Finding("warm startup - native's", warm.get("more"), _WARM_SECONDS, unit="s")
    yield Finding("cold startup", cold.get("startup"), _COLD_SECONDS, unit="s")


_BOUNDS: tuple[Callable[[Report], Iterator[Finding]], ...] = (
    _ceilings,
    _in_cache,
    _native,
    _peers,
    _overhead,
    _networks,
    _memory,
    _startup,
)
