"""The report as rows of text, which the terminal and the page both show."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from radam_codegen.tools.bench.bounds import Finding
from radam_codegen.tools.bench.contestants import CONTESTANTS
from radam_codegen.tools.bench.figures import (
    ceiling_ratio,
    median_ceiling,
    median_step,
    per_tensor_overhead,
    ratio,
    split_ratio,
)
from radam_codegen.tools.bench.networks import BASE, BASE_KEPT, NETWORKS
from radam_codegen.tools.bench.races import Race
from radam_codegen.tools.bench.report import Report
from radam_codegen.tools.bench.suites import SUITES, VARIANTS

__all__ = [
    "Grid",
    "check_grid",
    "machine_lines",
    "memory_grid",
    "network_grids",
    "startup_grid",
    "suite_grids",
]


@dataclass(frozen=True)
class Grid:
    """A table: a title, names of columns, rows of text, and lines to stand below."""

    title: str
    columns: Sequence[str]
    rows: Sequence[Sequence[str]]
    notes: Sequence[str] = ()


def machine_lines(report: Report) -> list[str]:
    """What the figures were measured on."""
    machine = report.machine
    caches = ", ".join(f"{level} {size}" for level, size in machine.caches.items())
    threads = sorted({race.threads for race in (*report.suites, *report.networks)})
    versions = ", ".join(f"{name} {version}" for name, version in machine.versions.items())
    return [
        f"{machine.cpu}; cores: {machine.cores}; caches: {caches}; "
        f"memory: {machine.memory_bytes / 2**30:.0f} GiB",
        f"{machine.system}; Python {machine.python}; {machine.compiler or 'no C compiler'}",
        versions,
        f"threads of every contestant: {', '.join(map(str, threads)) or 'not used'}",
    ]


def suite_grids(report: Report) -> list[Grid]:
    """A table per suite and variant, in the order of both."""
    grids = []
    for subject in _in_order({race.subject for race in report.suites}, list(SUITES)):
        for variant in VARIANTS.values():
            races = _about(report.suites, subject, variant.name)
            if races:
                grids.append(_suite_grid(races, subject, variant.name))
    return grids


def _suite_grid(races: Sequence[Race], subject: str, variant: str) -> Grid:
    rows = []
    ceiling = median_ceiling(races, subject, variant)
    if ceiling is not None:
        text = f"ceiling, {VARIANTS[variant].bytes_per_element} bytes per element"
        rows.append((text, duration(ceiling), "1.00", ""))
    for name, contestant in CONTESTANTS.items():
        median = median_step(races, subject, variant, name)
        if median is not None:
            to_ceiling = ceiling_ratio(races, subject, variant, name)
            to_native = ratio(races, subject, variant, _counterpart(name), name)
            rows.append((contestant.title, duration(median), times(to_ceiling), times(to_native)))
    return Grid(
        f"{subject}, {VARIANTS[variant].title}: {_count(races[0].tensors, 'tensor')}, "
        f"{millions(races[0].elements)} parameters",
        ("", "step", "step / ceiling", "native / step"),
        rows,
        _absences(races, {name: each.title for name, each in CONTESTANTS.items()}),
    )


def network_grids(report: Report) -> list[Grid]:
    """A table per network."""
    grids = []
    for subject in _in_order({race.subject for race in report.networks}, list(NETWORKS)):
        races = [race for race in report.networks if race.subject == subject]
        rows, notes = [], []
        for ir in ("pir", "legacy"):
            for variant in VARIANTS.values():
                of_both = _about(races, subject, variant.name)
                row = _network_row(of_both, subject, variant.name, ir)
                if row is not None:
                    rows.append(row)
            names = {f"native-{ir}": f"native, {ir}", f"ours-{ir}": f"ours, {ir}"}
            notes += [note for note in _absences(races, names) if note]
        columns = (
            *("", "forward and backward", "+ ours", "+ native", "ours / native"),
            *("the same, memory kept", "+ ours to that"),
        )
        title = f"{NETWORKS.get(subject, subject)}: one step"
        grids.append(Grid(title, columns, rows, list(dict.fromkeys(notes))))
    return grids


def _network_row(races: Sequence[Race], subject: str, variant: str, ir: str) -> list[str] | None:
    base = median_step(races, subject, variant, f"{BASE}-{ir}")
    if base is None:
        return None
    split = split_ratio(races, subject, variant, f"ours-{ir}", f"native-{ir}", f"{BASE}-{ir}")
    kept = median_step(races, subject, variant, f"{BASE_KEPT}-{ir}")

    def added(name: str, to: str) -> str:
        names = (f"{name}-{ir}", (f"{to}-{ir}",))
        seconds = per_tensor_overhead(races, subject, variant, *names, count=1)
        if seconds is None:
            return ""
        return f"{'-' if seconds < 0 else ''}{duration(abs(seconds))}"

    way = "PIR" if ir == "pir" else "legacy"
    return [
        f"{way}, {VARIANTS[variant].title}",
        duration(base),
        added("ours", BASE),
        added("native", BASE),
        times(split),
        "" if kept is None else duration(kept),
        added("ours", BASE_KEPT),
    ]


def startup_grid(report: Report) -> list[Grid]:
    """A table of startup, where it was measured."""
    titles = {"cold": "ours, empty cache", "warm": "ours, filled cache", "native": "native"}
    rows = [
        (titles[kind], *(f"{figures[what]:.3f} s" for what in _STARTUP))
        for kind, figures in report.startup.items()
    ]
    columns = ("", *_STARTUP.values())
    return [Grid("Startup, in fresh processes", columns, rows)] if rows else []


_STARTUP = {
    "import_paddle": "import paddle",
    "import": "import radam_codegen",
    "startup": "minimize and startup program",
}


def memory_grid(report: Report) -> list[Grid]:
    """A table of memory, where it was measured."""
    rows = [
        (
            name.replace("-", ", "),
            f"{figures['state']:.2f}",
            f"{max(figures['temporary'], 0.0):.2f}",
        )
        for name, figures in report.memory.items()
    ]
    columns = ("", "state", "temporary, at the highest")
    title = "Bytes per parameter, in fresh processes, with global clip and L2"
    return [Grid(title, columns, rows)] if rows else []


def check_grid(findings: Sequence[Finding]) -> Grid:
    """What must hold, and whether it does."""
    words = {True: "holds", False: "VIOLATED", None: "not measured"}
    rows = []
    for each in findings:
        unit = f" {each.unit}" if each.unit else ""
        # Adding 0 turns -0.0 into 0.0.
        measured = "" if each.figure is None else f"{round(each.figure, 3) + 0.0:.3f}{unit}"
        bound = f"{'at most' if each.at_most else 'at least'} {each.limit:g}{unit}"
        rows.append((each.what, measured, bound, words[each.holds]))
    notes = [f"{each.what}: {each.reason}" for each in findings if each.reason]
    return Grid("What must hold", ("", "measured", "bound", ""), rows, notes)


def duration(seconds: float) -> str:
    """A time with three significant figures."""
    for unit, factor in (("s", 1.0), ("ms", 1e3), ("us", 1e6)):
        # What is rounded to 1000 of a unit is 1 of the next.
        if seconds * factor >= 0.9995 or unit == "us":
            value = seconds * factor
            return f"{value:.0f} {unit}" if value >= 99.95 else f"{value:#.3g} {unit}"
    raise AssertionError("the last unit takes everything")


def times(value: float | None) -> str:
    """A ratio with three significant figures or two decimals; empty where there is none."""
    if value is None:
        return ""
    return f"{value:.0f}" if value >= 100 else f"{value:.1f}" if value >= 10 else f"{value:.2f}"


def millions(count: int) -> str:
    """A number of parameters, such as ``0.1M``."""
    return f"{count / 1e6:,.1f}M"


def _counterpart(name: str) -> str:
    """Which of Paddle's own a contestant is compared with: the one that runs in the same way."""
    way = name.partition("-")[2]
    return f"native-{way}" if way in ("dygraph", "pir", "legacy") else "native-pir"


def _about(races: Sequence[Race], subject: str, variant: str) -> list[Race]:
    return [race for race in races if (race.subject, race.variant) == (subject, variant)]


def _absences(races: Sequence[Race], titles: dict[str, str]) -> list[str]:
    """Who was not measured, and why; those who were in another race are left out."""
    seen = {name for race in races for name in race.seconds}
    return [
        f"not measured: {titles[name]}: {reason}"
        for race in races
        for name, reason in race.absent.items()
        if name in titles and name not in seen
    ]


def _in_order(names: set[str], order: list[str]) -> list[str]:
    """Known names in their order, then the others."""
    return [*(name for name in order if name in names), *sorted(names - set(order))]


def _count(number: int, word: str) -> str:
    return f"{number:,} {word}" + ("" if number == 1 else "s")
