"""A race: contestants in turn, each in a process of its own, over the same numbers."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import ExitStack
from dataclasses import dataclass, field, replace
from typing import Any

from radam_codegen.tools.bench.workers import Worker, WorkerError

__all__ = ["Entrant", "Race", "Turns", "run_race"]

#: Making a program of a thousand operators, or compiling, may take this long.
_PREPARE_SECONDS = 600.0
_TURN_SECONDS = 300.0


@dataclass(frozen=True)
class Entrant:
    """A contestant in one race: what its process is started with and told to prepare."""

    name: str
    python: str
    environment: Mapping[str, str]
    request: Mapping[str, Any]


@dataclass(frozen=True)
class Turns:
    """How long a race is.

    Attributes:
        rounds: How often everybody has a turn.
        seconds: How long a turn is, roughly.
        most: Steps of a turn at most.
    """

    rounds: int
    seconds: float = 0.1
    most: int = 1000


@dataclass(frozen=True)
class Race:
    """What a race came to.

    Attributes:
        subject: Name of the suite or of the network.
        variant: Name of the variant.
        threads: How many threads everybody had.
        tensors: How many parameters there are.
        elements: How many elements they have.
        seconds: By contestant, the median step of each round.
        ceilings: By contestant, the same of the ceiling over its memory, in the same rounds.
        absent: By contestant, why there is nothing.
        facts: By contestant, what else it said.
    """

    subject: str
    variant: str
    threads: int
    tensors: int
    elements: int
    seconds: Mapping[str, Sequence[float]]
    ceilings: Mapping[str, Sequence[float]] = field(default_factory=dict)
    absent: Mapping[str, str] = field(default_factory=dict)
    facts: Mapping[str, Mapping[str, Any]] = field(default_factory=dict)

    def ceiling_of(self, name: str) -> Sequence[float] | None:
        """The ceiling over a contestant's own memory, else over the first one's that has any."""
        return self.ceilings.get(name) or next(iter(self.ceilings.values()), None)


def run_race(
    race: Race,
    entrants: Sequence[Entrant],
    turns: Turns,
    on_progress: Callable[[str], None] = lambda text: None,
) -> Race:
    """Have the contestants take turns, round after round.

    A contestant that fails is out, with the reason in ``absent``; the others go on.

    Args:
        race: What it is about; its figures are empty.
        entrants: Who takes part; they must fit into the memory together.
        turns: How long it is.
        on_progress: Called with what is being done.

    Returns:
        The race with its figures.
    """
    absent = dict(race.absent)
    with ExitStack() as stack:
        # As many at a time as there are CPUs for them.
        with ThreadPoolExecutor(race.threads) as pool:
            prepared = pool.map(lambda each: _prepared(each, race, stack, on_progress), entrants)
            outcomes = dict(zip((each.name for each in entrants), prepared))
        runners = [each for each in outcomes.values() if isinstance(each, _Runner)]
        absent.update({name: each for name, each in outcomes.items() if isinstance(each, str)})
        for number in range(turns.rounds):
            on_progress(f"round {number + 1} of {turns.rounds}")
            # Nobody always comes after the same one.
            first = number % len(runners) if runners else 0
            for runner in [*runners[first:], *runners[:first]]:
                try:
                    runner.take_turns(turns)
                except WorkerError as error:
                    absent[runner.name] = str(error)
                    runners.remove(runner)
    return replace(
        race,
        seconds={each.name: tuple(each.seconds["step"]) for each in runners},
        ceilings={
            each.name: tuple(each.seconds["ceiling"])
            for each in runners
            if "ceiling" in each.seconds
        },
        absent=absent,
        facts={each.name: each.facts for each in runners if each.facts},
    )


def _prepared(
    entrant: Entrant, race: Race, stack: ExitStack, on_progress: Callable[[str], None]
) -> _Runner | str:
    """A contestant that is ready, whose process the stack ends; or why there is none."""
    on_progress(f"preparing {entrant.name}")
    try:
        worker = Worker(entrant.python, entrant.environment, race.threads)
        runner = _Runner(entrant.name, stack.enter_context(worker))
        runner.prepare(entrant)
    except WorkerError as error:
        return str(error)
    return runner


class _Runner:
    """A contestant in its process, and the median of every turn by what it was about."""

    def __init__(self, name: str, worker: Worker) -> None:
        self.name = name
        self.seconds: dict[str, list[float]] = {}
        self.facts: Mapping[str, Any] = {}
        self._worker = worker

    def prepare(self, entrant: Entrant) -> None:
        answer = self._ask(_PREPARE_SECONDS, do="prepare", **entrant.request)
        self.seconds = {lane: [] for lane in answer["lanes"]}
        self.facts = answer["facts"]

    def take_turns(self, turns: Turns) -> None:
        for lane, medians in self.seconds.items():
            answer = self._ask(
                _TURN_SECONDS, do="turn", what=lane, seconds=turns.seconds, most=turns.most
            )
            medians.append(answer["seconds"])

    def _ask(self, timeout: float, **request: Any) -> dict[str, Any]:
        try:
            return self._worker.ask(timeout, **request)
        except WorkerError:
            self._worker.close()  # what it holds in memory is others' now
            raise
