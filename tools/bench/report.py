"""A report: everything that was measured, as it is kept in a file and read again."""

from __future__ import annotations

import json
from collections.abc import Iterable, Mapping
from dataclasses import asdict, dataclass, field, replace
from typing import Any

from radam_codegen.errors import ArgumentError
from radam_codegen.tools.bench.machine import Machine
from radam_codegen.tools.bench.races import Race

__all__ = ["Report", "merge", "report_from_text"]

_FORMAT = 1


@dataclass(frozen=True)
class Report:
    """What one or several runs of the bench came to.

    Attributes:
        machine: Where.
        suites: Races over sets of parameters.
        networks: Races over whole training steps.
        startup: Figures of fresh processes by kind, seconds; see :mod:`.startup`.
        memory: Figures of fresh processes by kind, bytes; see :mod:`.memory`.
    """

    machine: Machine
    suites: tuple[Race, ...] = ()
    networks: tuple[Race, ...] = ()
    startup: Mapping[str, Mapping[str, float]] = field(default_factory=dict)
    memory: Mapping[str, Mapping[str, float]] = field(default_factory=dict)

    def to_text(self) -> str:
        """Return it as JSON text."""
        return json.dumps({"format": _FORMAT, **asdict(self)}, indent=1) + "\n"


def report_from_text(text: str, name: str) -> Report:
    """Read what :meth:`Report.to_text` wrote.

    Args:
        text: The JSON text.
        name: What messages call it.

    Raises:
        ArgumentError: It is no such report.
    """
    try:
        document = json.loads(text)
        if document.pop("format") != _FORMAT:
            raise ArgumentError(f"{name} is a report of another version of the bench")
        return Report(
            machine=Machine(**document.pop("machine")),
            suites=_races(document.pop("suites")),
            networks=_races(document.pop("networks")),
            **document,
        )
    except (ValueError, TypeError, KeyError, AttributeError) as error:
        if isinstance(error, ArgumentError):
            raise
        raise ArgumentError(
            f"{name} is no report of the bench, such as --json writes: {type(error).__name__}: "
            f"{error}"
        ) from error


def merge(older: Report, newer: Report) -> Report:
    """Put two reports of one machine together.

    What both have measured counts as the newer has it, race by race and kind by kind.

    Raises:
        ArgumentError: They are of two machines.
    """
    if (older.machine.cpu, older.machine.cpus) != (newer.machine.cpu, newer.machine.cpus):
        raise ArgumentError(
            f"the reports are of two machines, {older.machine.cpu} with {older.machine.cpus} CPUs "
            f"and {newer.machine.cpu} with {newer.machine.cpus}: their figures say nothing together"
        )
    versions = {**older.machine.versions, **newer.machine.versions}
    return Report(
        machine=replace(newer.machine, versions=versions),
        suites=_newest(older.suites, newer.suites),
        networks=_newest(older.networks, newer.networks),
        startup={**older.startup, **newer.startup},
        memory={**older.memory, **newer.memory},
    )


def _newest(older: Iterable[Race], newer: Iterable[Race]) -> tuple[Race, ...]:
    """All races; of those of the same contestants over the same subject, the newer."""
    kept = {_what(race): race for race in older}
    kept.update({_what(race): race for race in newer})
    return tuple(kept.values())


def _what(race: Race) -> tuple[Any, ...]:
    return race.subject, race.variant, tuple(sorted({*race.seconds, *race.absent}))


def _races(documents: Iterable[Mapping[str, Any]]) -> tuple[Race, ...]:
    return tuple(Race(**document) for document in documents)
