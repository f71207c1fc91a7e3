"""Who holds a lock, for those who wait too long.

It stands beside the lock file, which some versions of filelock empty when they try to lock it.
"""

from __future__ import annotations

import contextlib
import json
import os
import socket
from datetime import datetime, timezone
from pathlib import Path
from typing import Any

from radam_codegen.toolchain.safe_json import read_json, read_small

__all__ = ["holder_of", "remove_holder", "write_holder"]

_MOST_BYTES = 1 << 16
_MOST_COMMAND = 100
_MOST_TEXT = 500


def write_holder(lock: Path) -> None:
    """Write down that this process holds a lock, as far as that can be written."""
    remove_holder(lock)  # first, so that a full disk leaves nobody's name rather than a wrong one
    holder = {
        "pid": os.getpid(),
        "host": socket.gethostname(),
        "command": _command(),
        "since": datetime.now(timezone.utc).strftime("%Y-%m-%d %H:%M:%S UTC"),
    }
    flags = os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_NOFOLLOW | os.O_CLOEXEC
    with contextlib.suppress(OSError):
        descriptor = os.open(_path(lock), flags, 0o600)
        try:
            os.write(descriptor, json.dumps(holder).encode("ascii"))
        finally:
            os.close(descriptor)


def remove_holder(lock: Path) -> None:
    """Remove what :func:`write_holder` wrote."""
    with contextlib.suppress(OSError):
        _path(lock).unlink()


def holder_of(lock: Path) -> str | None:
    """Who holds a lock that is held, in words; None where that cannot be told."""
    try:
        said: Any = read_json(read_small(_path(lock), _MOST_BYTES))
        pid, host, command, since = (said[name] for name in ("pid", "host", "command", "since"))
    except (OSError, ValueError, KeyError, TypeError):
        return None
    text = f"process {pid} on {host} ({command}; since {since})"
    return "".join(c if c.isprintable() else "?" for c in text)[:_MOST_TEXT]


def _path(lock: Path) -> Path:
    return lock.with_suffix(".holder")


def _command() -> str:
    try:
        words = Path("/proc/self/cmdline").read_bytes().split(b"\0")
    except OSError:
        return "?"
    text = " ".join(b" ".join(words).decode("utf-8", "replace").split())
    return text if len(text) <= _MOST_COMMAND else f"{text[:_MOST_COMMAND]}..."
