"""Making the Nth call that writes to a folder fail, in real processes and their compilers.

``faults.c`` is the half that sits in those processes; this half compiles it and tells it what to
do.
"""

from __future__ import annotations

import errno
import mmap
import os
import struct
import subprocess
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

__all__ = ["FAULTS", "Call", "Fault", "Faults"]

_SOURCE = Path(__file__).with_name("faults.c")
# struct state of faults.c
_LAYOUT = struct.Struct("=1024s1024s8q")
_CLOCK = struct.Struct("=q")
_CLOCK_AT = _LAYOUT.size - 3 * _CLOCK.size
_COUNTS = struct.Struct("=2q")
_COUNTS_AT = _LAYOUT.size - _COUNTS.size
_PASS, _FAIL, _SHORT, _KILL_ALL, _KILL_CALLER, _KILL_PARENT = range(6)


@dataclass(frozen=True)
class Fault:
    """What becomes of a call.

    Attributes:
        action: A value of ``enum action``.
        error: The call's ``errno``, where it fails.
        lasting: Whether all calls after it fail the same way.
    """

    action: int
    error: int = 0
    lasting: bool = False

    def meets(self, call: Call) -> bool:
        """Whether it makes a difference to a call that this fault befalls it rather than others."""
        if self.action == _SHORT:
            return call.name in ("write", "pwrite")
        # Where the process itself makes the call, these are the same as an end of everything.
        return call.by == "compiler" or self.action not in (_KILL_CALLER, _KILL_PARENT)


#: Every kind of fault, by name.
FAULTS: Mapping[str, Fault] = {
    "no space": Fault(_FAIL, errno.ENOSPC),
    "no space from here on": Fault(_FAIL, errno.ENOSPC, lasting=True),
    "input/output error": Fault(_FAIL, errno.EIO),
    "input/output errors from here on": Fault(_FAIL, errno.EIO, lasting=True),
    "access denied": Fault(_FAIL, errno.EACCES),
    "access denied from here on": Fault(_FAIL, errno.EACCES, lasting=True),
    "half a write": Fault(_SHORT, lasting=True),
    "everything killed": Fault(_KILL_ALL),
    "one program killed": Fault(_KILL_CALLER),
    "process killed, its compiler not": Fault(_KILL_PARENT),
}


@dataclass(frozen=True)
class Call:
    """A call that was counted.

    Attributes:
        number: Which one it was, from 1.
        by: ``"process"``, or ``"compiler"`` for any program that the process started.
        name: ``"write"``, ``"fsync"`` and so on.
        path: The file.
    """

    number: int
    by: str
    name: str
    path: str


class Faults:
    """The preloaded library, and the file that tells it what to do.

    Args:
        scratch: Folder of library, file and log, which :meth:`prepare` has filled; outside of the
            folders that are watched.
    """

    def __init__(self, scratch: Path) -> None:
        self._library = scratch / "faults.so"
        self._log = scratch / "faults.log"
        self._state = scratch / "faults.state"
        with self._state.open("r+b") as file:
            self._shared = mmap.mmap(file.fileno(), 0)

    @classmethod
    def prepare(cls, scratch: Path) -> Faults:
        """Compile the library into a folder, and make the file."""
        command = ("gcc", "-O1", "-fPIC", "-shared", _SOURCE, "-o", scratch / "faults.so", "-ldl")
        subprocess.run(command, check=True)
        (scratch / "faults.state").write_bytes(bytes(_LAYOUT.size))
        return cls(scratch)

    def environment(self) -> dict[str, str]:
        """Variables that a process must be started with."""
        return {"LD_PRELOAD": str(self._library), "FAULTS_STATE": str(self._state)}

    def log(self, parent: int, watched: Path) -> None:
        """Write down each call from now on; see :meth:`calls`."""
        if self._log.exists():
            self._log.unlink()
        self._write(parent, watched, log=str(self._log))

    def arm(self, parent: int, watched: Path, nth: int, fault: Fault) -> None:
        """Have the Nth call from now on fail.

        Args:
            parent: The process under test.
            watched: Calls that write below this folder count.
            nth: Which of them, from 1.
            fault: What becomes of it.
        """
        self._write(parent, watched, nth, fault)

    def disarm(self) -> None:
        """Let everything through, uncounted."""
        self._shared[0 : _LAYOUT.size] = bytes(_LAYOUT.size)

    def set_clock(self, seconds: int) -> None:
        """Have clocks say so many seconds more than it is."""
        self._shared[_CLOCK_AT : _CLOCK_AT + _CLOCK.size] = _CLOCK.pack(seconds)

    def unavailable(self) -> str | None:
        """Why calls cannot be made to fail on this machine; None where they can."""
        done = subprocess.run(
            ["true"], env={**os.environ, **self.environment()}, capture_output=True, text=True
        )
        return done.stderr.strip() if done.returncode else None

    @property
    def struck(self) -> int:
        """How many calls did not go through as they were."""
        count = _COUNTS.unpack_from(self._shared, _COUNTS_AT)
        return int(count[1])

    def calls(self) -> list[Call]:
        """The calls that were written down."""
        lines = self._log.read_text(encoding="utf-8").splitlines() if self._log.exists() else []
        found = []
        for line in lines:
            number, by, name, path = line.split(" ", 3)
            found.append(Call(int(number), by, name, path))
        return found

    def _write(
        self,
        parent: int,
        watched: Path,
        nth: int = 0,
        fault: Fault | None = None,
        log: str = "",
    ) -> None:
        chosen = fault or Fault(_PASS)
        self._shared[0 : _LAYOUT.size] = _LAYOUT.pack(
            os.fsencode(f"{os.path.realpath(watched)}/"),
            os.fsencode(log),
            parent,
            nth,
            chosen.action,
            chosen.error,
            chosen.lasting,
            *(0, 0, 0),
        )
