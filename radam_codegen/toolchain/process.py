"""Starting compilers."""

from __future__ import annotations

import os
import shlex
import subprocess
from collections.abc import Sequence
from pathlib import Path

__all__ = ["compiler_environment", "run_logged"]


def compiler_environment() -> dict[str, str]:
    """Environment for a compiler: the process's own, but with messages in English."""
    env = dict(os.environ)
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
