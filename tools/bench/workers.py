"""Processes of contestants, and talking to them."""

from __future__ import annotations

import contextlib
import json
import os
import select
import subprocess
import tempfile
import time
from collections.abc import Iterable, Mapping
from pathlib import Path
from types import TracebackType
from typing import IO, Any

from radam_codegen.errors import RadamCodegenError

__all__ = ["Worker", "WorkerError", "modules_of", "usable_cpus"]

#: The folder is on the path only while the package in it is found: its neighbours are called what
#: others may be called, too.
_START = """
import os, sys
os.sched_setaffinity(0, {cpus!r})
sys.path.insert(0, {folder!r})
import worker.main
del sys.path[0]
worker.main.main()
"""
_LOOK = "import importlib.util as u, sys; print(*(n for n in sys.argv[1:] if u.find_spec(n)))"
_FOLDER = str(Path(__file__).resolve().parent)
_END_SECONDS = 10.0
_TOLD = 1500


class WorkerError(RadamCodegenError, RuntimeError):
    """A contestant's process cannot do what it is asked to."""


def usable_cpus() -> list[int]:
    """CPUs that this process may run on."""
    return sorted(os.sched_getaffinity(0))


class Worker:
    """A process that waits for requests; used as a context, at whose end it is gone.

    Args:
        python: The interpreter to start.
        environment: Added to this process's own.
        threads: How many CPUs it may use, the first ones of this process's.
    """

    def __init__(self, python: str, environment: Mapping[str, str], threads: int) -> None:
        cpus = usable_cpus()[:threads]
        count = str(threads)
        self._said: IO[bytes] = tempfile.TemporaryFile()  # noqa: SIM115 -- closed with the worker
        try:
            self._process = subprocess.Popen(
                [python, "-c", _START.format(folder=_FOLDER, cpus=cpus)],
                stdin=subprocess.PIPE,
                stdout=subprocess.PIPE,
                stderr=self._said,
                env={
                    **os.environ,
                    "OMP_NUM_THREADS": count,
                    "MKL_NUM_THREADS": count,
                    "OPENBLAS_NUM_THREADS": count,
                    "RADAM_CODEGEN_NUM_THREADS": count,
                    "GLOG_minloglevel": "2",
                    "PYTHONWARNINGS": "ignore",
                    **environment,
                },
            )
        except OSError as error:
            self._said.close()
            raise WorkerError(f"{python} could not be started: {error}") from error

    def __enter__(self) -> Worker:
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        traceback: TracebackType | None,
    ) -> None:
        if kind is not None:
            self._process.kill()
        self.close()

    def close(self) -> None:
        """End the process and wait until it is gone; what it held in memory is free then."""
        assert self._process.stdin is not None
        assert self._process.stdout is not None
        with contextlib.suppress(OSError):
            self._process.stdin.close()
        try:
            self._process.wait(_END_SECONDS)
        except subprocess.TimeoutExpired:
            self._process.kill()
            self._process.wait()
        self._process.stdout.close()
        self._said.close()

    def ask(self, timeout: float, **request: Any) -> dict[str, Any]:
        """Send a request and wait for the answer.

        Raises:
            WorkerError: It answered with an error, not in time, or not at all.
        """
        self.send(**request)
        return self.receive(timeout)

    def send(self, **request: Any) -> None:
        """Send a request, whose answer :meth:`receive` returns.

        Raises:
            WorkerError: The process is gone.
        """
        assert self._process.stdin is not None
        try:
            self._process.stdin.write(json.dumps(request).encode() + b"\n")
            self._process.stdin.flush()
        except OSError as error:
            raise WorkerError(self._ended()) from error

    def receive(self, timeout: float) -> dict[str, Any]:
        """Wait for the answer to what was sent.

        Raises:
            WorkerError: It is an error, or does not come within ``timeout`` seconds.
        """
        assert self._process.stdout is not None
        line = b""
        end = time.monotonic() + timeout
        # Not buffered by Python: a line that select() does not see would wait for ever.
        while not line.endswith(b"\n"):
            ready, _, _ = select.select([self._process.stdout], [], [], end - time.monotonic())
            if not ready:
                self._process.kill()
                raise WorkerError(f"it did not answer within {timeout:g} s and was ended")
            part = os.read(self._process.stdout.fileno(), 1 << 16)
            if not part:
                raise WorkerError(self._ended())
            line += part
        answer: dict[str, Any] = json.loads(line)
        if "error" in answer:
            # Paddle ends its messages in the place in its own source.
            said = answer["error"].strip().partition("\n")[0].partition(" (at /")[0]
            raise WorkerError(said)
        return answer

    def _ended(self) -> str:
        status = self._process.wait()
        self._said.seek(0)
        said = self._said.read().decode("utf-8", "replace").strip()
        return f"its process ended with status {status}; it last said: {said[-_TOLD:] or 'nothing'}"


def modules_of(python: str, modules: Iterable[str]) -> set[str]:
    """Which of the modules an interpreter has; none of them is imported.

    Raises:
        WorkerError: It cannot be started, or is no Python.
    """
    command = [python, "-c", _LOOK, *sorted(set(modules))]
    try:
        done = subprocess.run(command, capture_output=True, text=True, check=False, timeout=60)
    except (OSError, subprocess.TimeoutExpired) as error:
        raise WorkerError(f"{python} could not be started: {error}") from error
    if done.returncode != 0:
        raise WorkerError(f"{python} is no Python: {done.stderr.strip()[-_TOLD:]}")
    return set(done.stdout.split())
