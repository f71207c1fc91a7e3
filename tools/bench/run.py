"""A run of the bench: from what was asked for to a report."""

from __future__ import annotations

import sys
import tempfile
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from itertools import groupby
from pathlib import Path

from radam_codegen.config import current
from radam_codegen.errors import ArgumentError
from radam_codegen.tools.bench.contestants import CONTESTANTS, Contestant
from radam_codegen.tools.bench.equipment import build_equipment
from radam_codegen.tools.bench.fresh import measure_memory, measure_startup
from radam_codegen.tools.bench.machine import available_bytes, describe_machine, physical_cores
from radam_codegen.tools.bench.networks import network_contestants
from radam_codegen.tools.bench.races import Entrant, Race, Turns, run_race
from radam_codegen.tools.bench.report import Report
from radam_codegen.tools.bench.suites import VARIANTS, Suite, Variant
from radam_codegen.tools.bench.workers import modules_of, usable_cpus

__all__ = ["Request", "packed", "run_bench"]

#: Part of the free memory that the processes of a race may take.
_MEMORY_PART = 0.85
_STARTUPS = 5
#: In every race over a suite, where they take part at all: what the others are compared with.
_ALWAYS = ("ours-dygraph", "ours-pir")


@dataclass(frozen=True)
class Request:
    """What to measure.

    Attributes:
        suites: Sets of parameters.
        variants: What comes with the step.
        contestants: Who takes part.
        turns: How long a race is.
        networks: Names of the networks whose training steps are measured, in PIR and legacy.
        startup: Whether startup and imports are measured, in fresh processes.
        memory: Whether memory is measured, in fresh processes.
        threads: How many threads everybody has; None: as many as there are physical cores.
        peer_python: The interpreter that has the peers; None: this one.
    """

    suites: Sequence[Suite] = ()
    variants: Sequence[Variant] = ()
    contestants: Sequence[Contestant] = field(default_factory=lambda: tuple(CONTESTANTS.values()))
    turns: Turns = field(default_factory=lambda: Turns(7))
    networks: Sequence[str] = ()
    startup: bool = False
    memory: bool = False
    threads: int | None = None
    peer_python: str | None = None

    @property
    def wants_anything(self) -> bool:
        """Whether there is anything to measure."""
        return bool(self.suites or self.networks or self.startup or self.memory)


def run_bench(request: Request, on_progress: Callable[[str], None] = lambda text: None) -> Report:
    """Measure.

    Args:
        request: What.
        on_progress: Called with what is being done.

    Raises:
        ArgumentError: There are not that many CPUs.
        CompilerNotFoundError: There is no C compiler.
        WorkerError: ``peer_python`` is no Python, or a process of ours failed.
    """
    threads = request.threads or physical_cores()
    if threads > len(usable_cpus()):
        raise ArgumentError(
            f"{threads} threads would share the {len(usable_cpus())} CPUs that this process may "
            "use; ask for fewer"
        )
    peer_python = request.peer_python or sys.executable
    machine = describe_machine(current(), peer_python)
    with tempfile.TemporaryDirectory(prefix="radam_codegen_bench_") as folder:
        bench = _Bench(
            request=request,
            threads=threads,
            peer_python=peer_python,
            installed=_installed(request.contestants, peer_python),
            equipment=str(build_equipment(Path(folder), current())),
            on_progress=on_progress,
        )
        suites = [
            race
            for suite in request.suites
            for variant in request.variants
            for race in bench.race_suite(suite, variant)
        ]
        networks = [
            race
            for network in request.networks
            for variant in request.variants
            for race in bench.race_network(network, variant)
        ]
    return Report(
        machine,
        suites=tuple(suites),
        networks=tuple(networks),
        startup=measure_startup(_STARTUPS, threads, on_progress) if request.startup else {},
        memory=measure_memory(VARIANTS["clip-l2"], threads, on_progress) if request.memory else {},
    )


def packed(sizes: Mapping[str, int], space: int, always: Sequence[str]) -> list[tuple[str, ...]]:
    """Pack contestants into races, none of which needs more memory than there is.

    Args:
        sizes: Bytes that each needs, in their order.
        space: Bytes that there are.
        always: Who takes part in every race. A race that needs more all the same has one more.

    Returns:
        Names by race, each race in the order of ``sizes``.
    """
    constant = [name for name in always if name in sizes]
    taken = sum(sizes[name] for name in constant)
    races: list[list[str]] = []
    free = 0
    for name in sizes:
        if name in constant:
            continue
        if not races or sizes[name] > free:
            races.append([*constant])
            free = space - taken
        races[-1].append(name)
        free -= sizes[name]
    return [tuple(name for name in sizes if name in race) for race in races or [constant] if race]


def _installed(contestants: Sequence[Contestant], peer_python: str) -> set[str]:
    """What of the contestants' modules there is, each in its own interpreter."""
    own = {each.needs for each in contestants if not each.is_peer}
    peers = {each.needs for each in contestants if each.is_peer}
    return modules_of(sys.executable, own) | (modules_of(peer_python, peers) if peers else set())


@dataclass(frozen=True)
class _Bench:
    """What all races of a run have in common."""

    request: Request
    threads: int
    peer_python: str
    installed: set[str]
    equipment: str
    on_progress: Callable[[str], None]

    def race_suite(self, suite: Suite, variant: Variant) -> list[Race]:
        """Race over a suite: once, or as often as it takes for everybody to fit in."""
        contestants = [
            each
            for each in self.request.contestants
            if each.most_elements is None or suite.elements <= each.most_elements
        ]
        absent = {
            each.name: f"{each.needs} is not installed"
            for each in contestants
            if each.needs not in self.installed
        }
        sizes = {
            each.name: each.bytes_for(suite) for each in contestants if each.name not in absent
        }
        names = packed(sizes, int(available_bytes() * _MEMORY_PART), _ALWAYS)
        races = [self._race(suite, variant, [CONTESTANTS[name] for name in each]) for each in names]
        if not absent:
            return races
        first = races[0] if races else self._race(suite, variant, [])
        return [replace(first, absent={**first.absent, **absent}), *races[1:]]

    def race_network(self, network: str, variant: Variant) -> list[Race]:
        """Race over a network, once per IR."""
        return [
            self._race(Suite(network, ()), variant, network_contestants(network, ir))
            for ir in ("pir", "legacy")
        ]

    def _race(self, suite: Suite, variant: Variant, contestants: Sequence[Contestant]) -> Race:
        def tell(text: str) -> None:
            self.on_progress(f"{suite.name}, {variant.title}: {text}")

        entrants = [self._entrant(each, suite, variant) for each in contestants]
        race = Race(suite.name, variant.name, self.threads, len(suite.shapes), suite.elements, {})
        return run_race(race, entrants, self.request.turns, tell)

    def _entrant(self, contestant: Contestant, suite: Suite, variant: Variant) -> Entrant:
        workload = {
            "shapes": [[shape, len(list(equal))] for shape, equal in groupby(suite.shapes)],
            "threads": self.threads,
            "clip_norm": variant.clip_norm,
            "weight_decay": variant.weight_decay,
        }
        return Entrant(
            contestant.name,
            self.peer_python if contestant.is_peer else sys.executable,
            contestant.environment,
            {
                "module": contestant.module,
                "options": dict(contestant.options),
                "equipment": self.equipment,
                "workload": workload,
            },
        )
