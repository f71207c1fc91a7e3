"""The report as pictures."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

from radam_codegen.errors import RadamCodegenError
from radam_codegen.tools.bench.contestants import CONTESTANTS
from radam_codegen.tools.bench.figures import ceiling_ratio, median_ceiling, median_step
from radam_codegen.tools.bench.races import Race
from radam_codegen.tools.bench.report import Report
from radam_codegen.tools.bench.suites import SUITES, VARIANTS, Variant

__all__ = ["write_plots"]

#: Who is drawn: colour and marker. The colours are those of Okabe and Ito, told apart by everybody;
#: ours are blue, Paddle's own orange and red, peers green, purple and grey.
_DRAWN = {
    "kernel": ("#0b3c5d", "D"),
    "ours-dygraph": ("#0072b2", "o"),
    "ours-pir": ("#56b4e9", "s"),
    "native-dygraph": ("#e69f00", "o"),
    "native-pir": ("#d55e00", "s"),
    "torch-radam": ("#009e73", "^"),
    "torch-radam-compiled": ("#7fc8a9", "<"),
    "torch-adam-fused": ("#cc79a7", "v"),
    "optax-radam": ("#8c8c8c", "P"),
}
_SUFFIXES = ("png", "svg")
_DOTS_PER_INCH = 150
#: The same report gives the same bytes.
_SETTINGS: Any = {"svg.hashsalt": "radam_codegen", "font.size": 9, "axes.titlesize": 10}


def write_plots(report: Report, folder: Path) -> list[tuple[str, Path]]:
    """Draw a report's suites.

    Args:
        report: What to draw.
        folder: Where the pictures go; it is made.

    Returns:
        Title and PNG file of each picture; an SVG file of the same name lies beside it.

    Raises:
        RadamCodegenError: matplotlib is not installed, there is nothing to draw, or the folder
            cannot be written.
    """
    try:
        import matplotlib
        from matplotlib.figure import Figure
    except ImportError as error:
        raise RadamCodegenError(
            "the pictures need matplotlib: pip install 'radam-codegen[bench]'"
        ) from error

    if not report.suites:
        raise RadamCodegenError("there is nothing to draw: no suite was measured")
    drawings: list[tuple[str, str, Callable[[Any, Report], None]]] = [
        ("step-to-ceiling", "A step to the ceiling of its memory traffic", _draw_bars),
        (
            "roofline",
            "Bandwidth that a step makes use of, under that of the ceiling",
            _draw_roofline,
        ),
    ]
    pictures = []
    try:
        folder.mkdir(parents=True, exist_ok=True)
        with matplotlib.rc_context(_SETTINGS):
            for name, title, draw in drawings:
                figure = Figure(layout="constrained")
                figure.suptitle(title, fontsize=12, fontweight="bold")
                draw(figure, report)
                for suffix in _SUFFIXES:
                    figure.savefig(
                        folder / f"{name}.{suffix}",
                        dpi=_DOTS_PER_INCH,
                        metadata={"Date": None} if suffix == "svg" else {"Software": None},
                    )
                pictures.append((title, folder / f"{name}.png"))
    except OSError as error:
        raise RadamCodegenError(f"{folder} cannot be written: {error.strerror}") from error
    return pictures


def _draw_bars(figure: Any, report: Report) -> None:
    names = _drawn(report.suites)
    suites = _suites(report.suites)
    figure.set_size_inches(max(11.0, 1.5 + 1.75 * len(suites)), 8.5)
    panels = figure.subplots(len(VARIANTS), 1, squeeze=False)[:, 0]
    width = 0.84 / len(names)
    for panel, variant in zip(panels, VARIANTS.values()):
        for number, name in enumerate(names):
            places, heights = [], []
            for place, suite in enumerate(suites):
                height = ceiling_ratio(report.suites, suite, variant.name, name)
                if height is not None:
                    places.append(place + (number - (len(names) - 1) / 2) * width)
                    heights.append(height)
            bars = panel.bar(
                places,
                heights,
                width * 0.92,
                color=_DRAWN[name][0],
                label=CONTESTANTS[name].title,
            )
            texts = [_short(height) for height in heights]
            panel.bar_label(bars, texts, fontsize=6, padding=2, rotation=90)
        panel.axhline(1.0, color="black", linewidth=1.0)
        panel.set_yscale("log")
        panel.set_xlim(-0.5, len(suites) - 0.5)
        low, high = panel.get_ylim()
        panel.set_ylim(min(low, 0.7), high * 2.2)
        panel.set_xticks(range(len(suites)), [_suite_label(report.suites, each) for each in suites])
        panel.set_ylabel(f"step / ceiling of {variant.bytes_per_element} bytes")
        panel.set_title(variant.title, loc="left")
        panel.grid(axis="y", alpha=0.3)
        panel.set_axisbelow(True)
        panel.spines[["top", "right"]].set_visible(False)
        panel.yaxis.set_major_formatter(lambda value, _: f"{value:g}")
    handles, labels = panels[0].get_legend_handles_labels()
    figure.legend(handles, labels, loc="outside lower center", ncols=5, frameon=False)


def _draw_roofline(figure: Any, report: Report) -> None:
    figure.set_size_inches(12.5, 6)
    panels = figure.subplots(1, len(VARIANTS), sharey=True)
    for panel, variant in zip(panels, VARIANTS.values()):
        _draw_rates(panel, report.suites, variant)
        panel.set_yscale("log")
        panel.set_title(variant.title, loc="left")
        panel.grid(which="major", alpha=0.3)
        panel.spines[["top", "right"]].set_visible(False)
        panel.yaxis.set_major_formatter(lambda value, _: f"{value:g}")
    panels[0].set_ylabel("bytes that a step must move / its time, GB/s")
    handles, labels = panels[0].get_legend_handles_labels()
    figure.legend(handles, labels, loc="outside lower center", ncols=5, frameon=False)


def _draw_rates(panel: Any, races: Sequence[Race], variant: Variant) -> None:
    """Points of everybody, under the roof of the ceiling; suites by the bytes that they move."""
    elements = {race.subject: race.elements for race in races}
    suites = sorted(_suites(races), key=lambda suite: elements[suite])
    moved = [elements[suite] * variant.bytes_per_element for suite in suites]
    roof = _rates(moved, [median_ceiling(races, suite, variant.name) for suite in suites])
    if roof:
        panel.hlines(
            [rate for _, rate in roof],
            [place - 0.4 for place, _ in roof],
            [place + 0.4 for place, _ in roof],
            color="black",
            label="ceiling",
        )
    for number, name in enumerate(_drawn(races)):
        colour, marker = _DRAWN[name]
        medians = [median_step(races, suite, variant.name, name) for suite in suites]
        # A little apart, so that nobody hides behind another.
        shift = (number - (len(_drawn(races)) - 1) / 2) * 0.08
        points = [(place + shift, rate) for place, rate in _rates(moved, medians)]
        if points:
            panel.scatter(
                *zip(*points), s=40, color=colour, marker=marker, label=CONTESTANTS[name].title
            )
    labels = [f"{suite}\n{_bytes_label(count)}" for suite, count in zip(suites, moved)]
    panel.set_xticks(range(len(suites)), labels, rotation=20, fontsize=8)


def _rates(moved: Sequence[int], seconds: Sequence[float | None]) -> list[tuple[float, float]]:
    """Place and GB/s of each that was measured."""
    return [
        (float(place), count / taken / 1e9)
        for place, (count, taken) in enumerate(zip(moved, seconds))
        if taken is not None
    ]


def _drawn(races: Sequence[Race]) -> list[str]:
    measured = {name for race in races for name in race.seconds}
    return [name for name in _DRAWN if name in measured]


def _suites(races: Sequence[Race]) -> list[str]:
    measured = {race.subject for race in races}
    return [name for name in SUITES if name in measured]


def _suite_label(races: Sequence[Race], suite: str) -> str:
    race = next(race for race in races if race.subject == suite)
    tensors = f"{race.tensors:,} tensor{'' if race.tensors == 1 else 's'}"
    return f"{suite}\n{tensors}, {race.elements / 1e6:,.1f}M"


def _short(value: float) -> str:
    return f"{value:.0f}" if value >= 10 else f"{value:.2f}"


def _bytes_label(count: float) -> str:
    unit, factor = next((u, f) for u, f in (("GB", 1e9), ("MB", 1e6), ("kB", 1e3)) if count >= f)
    return f"{count / factor:.3g} {unit}"
