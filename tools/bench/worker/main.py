"""The process of one contestant: takes requests on standard input, answers on standard output.

Both are lines of JSON. What libraries print goes to standard error.
"""

from __future__ import annotations

import json
import os
import statistics
import sys
import time
import traceback
from importlib import import_module
from typing import Any

from .ceiling import Ceiling
from .contestant import Contestant
from .workload import Workload

__all__ = ["main"]

#: The update is rectified from the sixth step on, which nearly all steps of a training are.
_WARM_UP_STEPS = 6
#: Fewer have no median to speak of.
_FEWEST_STEPS = 3
#: A process whose threads used less than this part of one core has come to rest.
_AT_REST = 0.1
_WATCH_SECONDS = 0.005
_LONGEST_WATCH_SECONDS = 1.0


def main() -> None:
    """Answer requests until there are no more."""
    with os.fdopen(os.dup(1), "w", encoding="utf-8") as answers:
        os.dup2(2, 1)
        worker = _Worker()
        for line in sys.stdin:
            try:
                answer = worker.answer(json.loads(line))
            except Exception as error:  # the one who asks decides what that means
                traceback.print_exc()
                answer = {"error": f"{type(error).__name__}: {error}"}
            answers.write(json.dumps(answer) + "\n")
            answers.flush()
    # Nothing here is worth an orderly end of all the libraries.
    os._exit(0)


class _Worker:
    def __init__(self) -> None:
        self._steppers: dict[str, Any] = {}

    def answer(self, request: dict[str, Any]) -> dict[str, Any]:
        if request["do"] == "measure":
            module = import_module(f".{request['module']}", __package__)
            return {"facts": module.measure(request["options"])}
        if request["do"] == "prepare":
            return self._prepare(request)
        return self._turn(request["what"], request["seconds"], request["most"])

    def _prepare(self, request: dict[str, Any]) -> dict[str, Any]:
        given = request["workload"]
        shapes = tuple(tuple(shape) for shape, count in given.pop("shapes") for _ in range(count))
        workload = Workload(shapes, **given)
        options = {**request["options"], "equipment": request["equipment"]}
        module = import_module(f".{request['module']}", __package__)
        contestant: Contestant = module.make(workload, options)
        for _ in range(_WARM_UP_STEPS):
            contestant.step()
        self._steppers = {"step": contestant}
        arrays = contestant.arrays()
        if arrays and request["equipment"] is not None:
            self._steppers["ceiling"] = Ceiling(
                request["equipment"], arrays, workload.threads, workload.clip_norm is not None
            )
            self._steppers["ceiling"].time_steps(1)
        _settle()
        return {"lanes": list(self._steppers), "facts": contestant.facts()}

    def _turn(self, what: str, seconds: float, most: int) -> dict[str, Any]:
        stepper = self._steppers[what]
        # The first step finds its data out of the caches, and says how long the others will take.
        first = stepper.time_steps(1)[0]
        count = max(_FEWEST_STEPS, min(most, int(seconds / max(first, 1e-7))))
        taken = stepper.time_steps(count)
        _settle()
        return {"seconds": statistics.median(taken), "steps": count}


def _settle() -> None:
    """Wait until the threads of this process no longer spin for work, so that others have rest."""
    end = time.monotonic() + _LONGEST_WATCH_SECONDS
    while time.monotonic() < end:
        begin, used = time.monotonic(), time.process_time()
        time.sleep(_WATCH_SECONDS)
        if time.process_time() - used < _AT_REST * (time.monotonic() - begin):
            return
