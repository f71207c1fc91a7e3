"""Starting compilers."""

from __future__ import annotations

import os
import shlex
import subprocess
from collections.abc import Sequence
from pathlib import Path

__all__ = ["compiler_environment", "run_logged"]


#: What would reach into a library past its key: headers found before ours, a run path, a date; or
#: would have the compiler write files that nobody asked for.
_KEPT_FROM_COMPILERS = frozenset(
    {
        "CPATH",
        "C_INCLUDE_PATH",
        "CPLUS_INCLUDE_PATH",
        "DEPENDENCIES_OUTPUT",
        "LD_RUN_PATH",
        "SOURCE_DATE_EPOCH",
        "SUNPRO_DEPENDENCIES",
    }
)


def compiler_environment() -> dict[str, str]:
    """Environment for a compiler: the process's own, with messages in English.

    Variables that would change what it makes are left out: they are in no key.
    """
    env = {name: text for name, text in os.environ.items() if name not in _KEPT_FROM_COMPILERS}
    env["LC_ALL"] = "C"
    return env


def run_logged(command: Sequence[str], cwd: Path, log: Path) -> int:
    """Run a command in a folder and write it, with all it prints, into a log.

    Returns:
        The exit status.

    Raises:
        OSError: The command cannot be started, or the log cannot be written.
    """
    with log.open("wb") as stream:
        stream.write(f"$ {shlex.join(command)}\n".encode("utf-8", "surrogateescape"))
        stream.flush()
        status = subprocess.run(
            list(command),
            cwd=cwd,
            stdin=subprocess.DEVNULL,
            stdout=stream,
            stderr=subprocess.STDOUT,
            env=compiler_environment(),
            check=False,
        ).returncode
        stream.write(f"exit status {status}\n".encode())
    return status
