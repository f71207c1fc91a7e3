"""What happened in a cache, counted exactly over all processes that share it.

The counts stand in one small file of constant length that is written in place, under a kernel lock:
a process that is killed has counted or it has not. Counting never gets in the way: where the file
cannot be read, counts begin anew; where it cannot be written, they are lost.
"""

from __future__ import annotations

import contextlib
import fcntl
import json
import os
import stat
import threading
import time
from pathlib import Path

from radam_codegen.toolchain.cache.layout import COUNTERS
from radam_codegen.toolchain.forks import in_forked_child
from radam_codegen.toolchain.safe_json import read_json, read_small

__all__ = ["NAMES", "count", "read_counters"]

#: Each call of ``get_or_build`` is a hit or a miss.
NAMES = {
    "hits": "found, without building or after another process had built it",
    "misses": "not found, so a build was begun",
    "builds": "builds that succeeded",
    "failures": "builds that failed",
    "refusals": "entries that were damaged, and so not loaded",
    "rebuilds": "builds that took the place of a damaged entry",
    "evictions": "entries removed to stay below the size limit",
    "lock_waits": "waits for another process that built the same",
    "fallbacks": "builds in a temporary folder, as the cache could not be written",
}

_FILE_BYTES = 1024
_MOST_SECONDS = 2.0

_lock = threading.Lock()
_open: set[int] = set()


def count(root: Path, **events: int) -> None:
    """Add to the counts of a cache.

    Args:
        root: Folder of the cache.
        **events: How often each of :data:`NAMES` happened.
    """
    in_forked_child(_drop_inherited)
    with contextlib.suppress(OSError), _lock:
        flags = os.O_RDWR | os.O_CREAT | os.O_NOFOLLOW | os.O_NONBLOCK | os.O_CLOEXEC
        descriptor = os.open(root / COUNTERS, flags, 0o600)
        _open.add(descriptor)
        try:
            if stat.S_ISREG(os.fstat(descriptor).st_mode) and _locked(descriptor):
                _add(descriptor, events)
        finally:
            _open.discard(descriptor)
            with contextlib.suppress(OSError):
                fcntl.flock(descriptor, fcntl.LOCK_UN)  # a child may have been forked meanwhile
            os.close(descriptor)


def read_counters(root: Path) -> dict[str, int]:
    """Read the counts of a cache; those that never happened are 0."""
    try:
        counts = _counts(read_small(root / COUNTERS, _FILE_BYTES))
    except (OSError, ValueError):
        counts = {}
    return {name: counts.get(name, 0) for name in NAMES}


def _add(descriptor: int, events: dict[str, int]) -> None:
    counts = _counts(os.pread(descriptor, _FILE_BYTES, 0))
    for name, number in events.items():
        counts[name] = counts.get(name, 0) + number
    text = json.dumps(counts, indent=1, sort_keys=True).encode("ascii")
    if len(text) < _FILE_BYTES:
        os.pwrite(descriptor, text.ljust(_FILE_BYTES - 1) + b"\n", 0)


def _counts(content: bytes) -> dict[str, int]:
    """Counts in a file, those of other versions of this package too."""
    try:
        read = read_json(content)
    except ValueError:
        return {}
    if not isinstance(read, dict):
        return {}
    return {name: n for name, n in read.items() if type(n) is int and 0 <= n < 2**63}


def _locked(descriptor: int) -> bool:
    """Wait for those who count just now; False when one of them stands still."""
    end = time.monotonic() + _MOST_SECONDS
    while True:
        try:
            fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
            return True
        except BlockingIOError:
            if time.monotonic() > end:
                return False
            time.sleep(0.001)
        except OSError:
            return True  # a file system without locks: nearly exact will have to do


def _drop_inherited() -> None:
    global _lock
    _lock = threading.Lock()
    for descriptor in _open:
        with contextlib.suppress(OSError):
            os.close(descriptor)
    _open.clear()
