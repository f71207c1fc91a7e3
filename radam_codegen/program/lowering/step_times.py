"""How long a run of a program takes before and after it is lowered."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from statistics import median
from time import perf_counter
from typing import Any

import numpy as np
import paddle
from paddle.base import unique_name

from radam_codegen.errors import (
    ArgumentError,
    ArgumentTypeError,
    ProgramError,
    RadamCodegenError,
)
from radam_codegen.program.lowering.feeds import Feed
from radam_codegen.program.lowering.scratch import scratch_scope, shared_scope

__all__ = ["StepTimes", "check_time_steps", "measure"]

#: Runs that are not counted. Paddle makes a program ready in the first one, and the kernel may be
#: compiled in it; from the sixth step on the update is rectified, as it is for all of a training.
WARM_UP = 5


@dataclass(frozen=True)
class StepTimes:
    """Medians of the runs of a main program, in seconds.

    Attributes:
        before: As it was.
        after: Lowered.
        repeats: How many runs of each were counted.
    """

    before: float
    after: float
    repeats: int

    def __str__(self) -> str:
        steps = f"{self.repeats} step{'' if self.repeats == 1 else 's'}"
        figures = f"{_milliseconds(self.before)} -> {_milliseconds(self.after)} ms"
        return f"{figures} (median of {steps} each, in turns)"


def _milliseconds(seconds: float) -> str:
    number = 1e3 * seconds
    return f"{number:,.1f}" if number >= 10 else f"{number:.3f}"


def check_time_steps(value: Any) -> int:
    """Return a number of steps.

    Raises:
        ArgumentTypeError: it is no integer.
        ArgumentError: it is negative.
    """
    if isinstance(value, bool) or not isinstance(value, (int, np.integer)):
        raise ArgumentTypeError(
            f"time_steps is a number of steps, but this is a {type(value).__name__}: {value!r}"
        )
    if value < 0:
        raise ArgumentError(f"time_steps is {value}; give 0 for no timing, or how many steps")
    return int(value)


def measure(
    main: Any,
    startup: Any,
    *,
    scope: Any,
    feed: Feed,
    repeats: int,
    lowered_copy: Callable[[Any], tuple[Any, Any]],
) -> StepTimes:
    """Time steps of a program, and of what lowering makes of it, which take turns.

    Copies of the programs run, in scopes that hold copies of what is in the given one. Neither
    unique names nor random numbers of this process go on by it.

    Args:
        main: the main program, not lowered yet.
        startup: its startup program, or None.
        scope: where the state is, if the startup program has run.
        feed: what each run is given.
        repeats: how many runs of each count.
        lowered_copy: given a scope with the state, as far as there is any, returns copies of both
            programs that are lowered, and adds their state to the scope.

    Raises:
        ProgramError: a run fails.
    """
    randomness = paddle.get_rng_state()
    try:
        with unique_name.guard():
            # First, as it is here that a program shows to be one that cannot be lowered.
            values = shared_scope(main, scope)
            program, start = lowered_copy(values)
            after = _Runner(program, scratch_scope(program, start, values), feed)
            del values  # and the state in it, which has been copied
            before = _Runner(main.clone(), scratch_scope(main, startup, scope), feed)
            return _in_turns(before, after, repeats)
    finally:
        paddle.set_rng_state(randomness)


class _Runner:
    """A program that is run as its user would, except that nothing is fetched."""

    def __init__(self, program: Any, scope: Any, feed: Feed) -> None:
        self._program = program
        self._scope = scope
        self._feed = feed
        self._executor = paddle.static.Executor()
        self._waits = paddle.device.get_device() != "cpu"

    def step(self) -> float:
        """Run once; return the seconds.

        Raises:
            ProgramError: the run fails.
        """
        # Not as an argument: schedulers of native optimizers write into the current scope only.
        with paddle.static.scope_guard(self._scope):
            start = perf_counter()
            try:
                # Paddle may take something out of the dict.
                self._executor.run(self._program, feed=dict(self._feed.arrays))
                if self._waits:
                    paddle.device.synchronize()
            except RadamCodegenError:
                raise
            except Exception as error:  # whatever an operator throws
                raise _refusal(self._feed, error) from error
            return perf_counter() - start


def _in_turns(before: _Runner, after: _Runner, repeats: int) -> StepTimes:
    # Both meet the same load of the machine, so that their ratio does not depend on it.
    pairs = [(before.step(), after.step()) for _ in range(WARM_UP + repeats)][WARM_UP:]
    return StepTimes(
        before=median(first for first, _ in pairs),
        after=median(second for _, second in pairs),
        repeats=repeats,
    )


def _refusal(feed: Feed, error: Exception) -> ProgramError:
    advice = "correct feed"
    if feed.made_up:
        names = ", ".join(map(repr, feed.made_up))
        advice = f"values were made up for {names}: give feed with some that the program can take"
    return ProgramError(
        "the programs could not be run with the feed, so there are no step times; "
        f"{advice}, or leave the timing out. Paddle says: "
        f"{str(error).strip() or type(error).__name__}"
    )
