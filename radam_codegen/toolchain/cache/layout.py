"""Names in the folder of the cache."""

from __future__ import annotations

import os
import re
from pathlib import Path

__all__ = ["COUNTERS", "FAILED", "KEY", "KINDS", "LOCKS", "key_of_leftover", "listed", "prefix"]

#: Folders of entries.
KINDS = ("kernels", "cuda-kernels", "operators")
#: Folder of source and log of builds that failed.
FAILED = "failed"
#: Folder of lock files.
LOCKS = "locks"
#: File that counts what happened.
COUNTERS = "counters.json"

#: Name of an entry, and of what belongs to it elsewhere.
KEY = re.compile(r"[0-9a-f]{32}")

_LEFTOVER = re.compile(r"\.(?:new|old)-([0-9a-f]{32})-[^/]+")


def prefix(what: str, key: str) -> str:
    """Begin the name of a folder that is no entry: ``"new"`` not yet, ``"old"`` no longer."""
    return f".{what}-{key}-"


def key_of_leftover(path: Path) -> str | None:
    """Key of an entry in the making or on its way out; None for everything else."""
    found = _LEFTOVER.fullmatch(path.name)
    return None if found is None else found.group(1)


def listed(folder: Path) -> list[Path]:
    """What is in a folder, by name; nothing where it cannot be read."""
    try:
        return [folder / name for name in sorted(os.listdir(folder))]
    except OSError:
        return []
