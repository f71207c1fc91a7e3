"""Hundreds of real processes, cheaply: a server that has imported all and forks one per request.

A test starts a :class:`ForkServer`; what runs in its processes is in ``forked_cases.py`` or
``training_cases.py``. The server itself has loaded no kernel and uses no cache but its own, so each
child begins as a process that has just been started, less the time that imports take.
"""

from __future__ import annotations

import atexit
import ctypes
import importlib
import json
import os
import signal
import subprocess
import sys
import warnings
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import pytest

from support.faults import FAULTS, Faults

__all__ = ["ForkServer", "Outcome"]

_TESTS = Path(__file__).resolve().parents[1]


@dataclass(frozen=True)
class Outcome:
    """How a forked process ended.

    Attributes:
        signal: Name of the signal that ended it; None where it ended by itself.
        result: What its function returned; None where it raised.
        error: Class of what it raised, and its bases, the nearest first.
        message: What that said.
        warnings: What it warned of.
        struck: How many of its calls met the fault.
    """

    signal: str | None = None
    result: Any = None
    error: list[str] = field(default_factory=list)
    message: str = ""
    warnings: list[str] = field(default_factory=list)
    struck: int = 0


class ForkServer:
    """A process that forks.

    Args:
        scratch: Folder for its own files.
        watched: Folder in which calls can be made to fail; None: calls are left alone.
        environ: Variables that it gets besides this process's own.
        cases: Module with the functions that its processes run.
    """

    def __init__(
        self,
        scratch: Path,
        watched: Path | None = None,
        environ: dict[str, str] | None = None,
        cases: str = "support.forked_cases",
    ) -> None:
        scratch.mkdir(parents=True, exist_ok=True)
        self.faults = None if watched is None else Faults.prepare(scratch)
        self._unavailable = self.faults.unavailable() if self.faults is not None else None
        preload = {}
        if self.faults is not None and self._unavailable is None:
            preload = self.faults.environment()
        threads = {"OMP_NUM_THREADS": "1", "OPENBLAS_NUM_THREADS": "1"}
        self._process = subprocess.Popen(
            [sys.executable, "-W", "always", "-m", "support.fork_server", str(scratch), cases],
            cwd=_TESTS,
            env={**os.environ, **threads, **preload, **(environ or {})},
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            text=True,
        )
        self._watched = watched

    def run(
        self,
        case: str,
        *,
        fault: tuple[int, str] | None = None,
        watched: Path | None = None,
        log: bool = False,
        clock: int = 0,
        leave_orphans: bool = False,
        **arguments: Any,
    ) -> Outcome:
        """Run a function in a process of its own.

        Skips the test where it wants calls to fail and the kernel of this machine does not let it.

        Args:
            case: Its name.
            fault: Which call fails, and how: a name of :data:`FAULTS`.
            watched: Which calls count: those below this folder. None: as the server has it.
            log: Whether to write its calls down; see :meth:`Faults.calls`.
            clock: Seconds by which its clock is ahead.
            leave_orphans: Whether to return while compilers that it started still run.
            arguments: The function's arguments; JSON values.
        """
        if self._unavailable is not None and (fault is not None or log or clock):
            pytest.skip(f"calls cannot be made to fail here: {self._unavailable}")
        request = {
            "case": case,
            "arguments": arguments,
            "fault": fault,
            "watched": str(watched or self._watched),
            "log": log,
            "clock": clock,
            "leave_orphans": leave_orphans,
        }
        assert self._process.stdin is not None
        assert self._process.stdout is not None
        self._process.stdin.write(json.dumps(request) + "\n")
        self._process.stdin.flush()
        answer = self._process.stdout.readline()
        assert answer, f"the fork server died with {self._process.wait()}"
        return Outcome(**json.loads(answer))

    def close(self) -> None:
        """End the server."""
        assert self._process.stdin is not None
        self._process.stdin.close()
        assert self._process.wait(60) == 0
        assert self._process.stdout is not None
        self._process.stdout.close()


# ---- In the server ------------------------------------------------------------------------------


def _serve(scratch: Path, module: str) -> None:
    cases = importlib.import_module(module)
    _adopt_orphans()
    cases.warm_up(scratch / "warm-up")
    faults = Faults(scratch) if "FAULTS_STATE" in os.environ else None
    for line in sys.stdin:
        request = json.loads(line)
        function = getattr(cases, request["case"])
        print(json.dumps(_answer(faults, function, request)), flush=True)


def _answer(faults: Faults | None, function: Any, request: dict[str, Any]) -> dict[str, Any]:
    reader, writer = os.pipe()
    child = os.fork()
    if child == 0:
        os.close(reader)
        _run_child(faults, function, request, writer)
    os.close(writer)
    with os.fdopen(reader, "rb") as stream:
        said = stream.read()
    _, status = os.waitpid(child, 0)
    if not request["leave_orphans"]:
        _wait_for_orphans()
    answer: dict[str, Any] = json.loads(said) if said else {}
    if os.WIFSIGNALED(status):
        answer["signal"] = signal.Signals(os.WTERMSIG(status)).name
    if faults is not None:
        answer["struck"] = faults.struck
        faults.disarm()
    return answer


def _run_child(faults: Faults | None, function: Any, request: dict[str, Any], writer: int) -> None:
    os.setsid()  # a process group of its own, for faults that end all of it
    answer: dict[str, Any] = {}
    with warnings.catch_warnings(record=True) as caught:
        warnings.simplefilter("always")
        _arm(faults, request)
        try:
            answer["result"] = function(**request["arguments"])
        except BaseException as error:
            answer["error"] = [each.__name__ for each in type(error).__mro__]
            answer["message"] = str(error)
        answer["warnings"] = [str(each.message) for each in caught]
    os.write(writer, json.dumps(answer).encode())
    atexit._run_exitfuncs()  # as a process does that ends
    os._exit(0)


def _arm(faults: Faults | None, request: dict[str, Any]) -> None:
    if faults is None:
        return
    watched = Path(request["watched"])
    if request["log"]:
        faults.log(os.getpid(), watched)
    elif request["fault"] is not None:
        number, name = request["fault"]
        faults.arm(os.getpid(), watched, number, FAULTS[name])
    faults.set_clock(request["clock"])


def _adopt_orphans() -> None:
    """Become the parent of compilers whose parent was killed."""
    set_child_subreaper = 36
    ctypes.CDLL(None).prctl(set_child_subreaper, 1, 0, 0, 0)


def _wait_for_orphans() -> None:
    while True:
        try:
            os.waitpid(-1, 0)
        except ChildProcessError:
            return


if __name__ == "__main__":
    _serve(Path(sys.argv[1]), sys.argv[2])
