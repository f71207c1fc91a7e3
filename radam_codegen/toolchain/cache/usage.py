"""How much a cache holds, when each entry was used last, and what goes when it is too much.

The time of an entry's last use is the modification time of its manifest, kept to the hour: that
works where reading leaves no times, and costs a write per hour and entry.
"""

from __future__ import annotations

import contextlib
import os
import time
from dataclasses import dataclass
from pathlib import Path

from radam_codegen.errors import ArtifactError
from radam_codegen.toolchain.cache.layout import KEY, KINDS, listed
from radam_codegen.toolchain.cache.lock import forget, hold, try_to_hold
from radam_codegen.toolchain.cache.removal import remove_entry
from radam_codegen.toolchain.manifest import MANIFEST

__all__ = ["Stored", "evict", "mark_used", "remove_unless_held", "size_of", "stored_entries"]

_HOUR = 3600.0
#: Longest wait for another process that makes room.
_MOST_SECONDS = 30.0


@dataclass(frozen=True)
class Stored:
    """An entry, as it lies in the cache.

    Attributes:
        kind: Its kind, a folder of the cache.
        key: Its key.
        folder: Where it is.
        size: Bytes of its files.
        used: When it was used last, to the hour, in seconds since 1970; 0 where that is unknown.
    """

    kind: str
    key: str
    folder: Path
    size: int
    used: float


def stored_entries(root: Path) -> list[Stored]:
    """Entries of a cache, in the order of kinds and keys; those that vanish meanwhile left out."""
    found = []
    for kind in KINDS:
        for path in listed(root / kind):
            if KEY.fullmatch(path.name):
                with contextlib.suppress(OSError):
                    size = size_of(path)
                    found.append(Stored(kind, path.name, path, size, _used(path)))
    return found


def mark_used(entry: Path) -> None:
    """Write down that an entry is used now."""
    manifest = entry / MANIFEST
    with contextlib.suppress(OSError):  # a cache that can only be read has no need of it
        # A time to come is no better than one long past: the clock went back.
        if abs(time.time() - manifest.lstat().st_mtime) > _HOUR:
            os.utime(manifest, follow_symlinks=False)


def evict(root: Path, limit: int, keep: str) -> int:
    """Remove entries, the one used longest ago first, until the rest fits.

    Entries that are being built are left alone.

    Args:
        root: Folder of the cache.
        limit: Bytes that the entries may have.
        keep: Key of an entry that stays, whatever its size.

    Returns:
        How many were removed.
    """
    if sum(entry.size for entry in stored_entries(root)) <= limit:
        return 0
    removed = 0
    # One process at a time, or two would both make the same room, and so twice as much.
    with contextlib.suppress(OSError, ArtifactError), hold(root, "eviction", _MOST_SECONDS):
        entries = stored_entries(root)
        total = sum(entry.size for entry in entries)
        for entry in sorted(entries, key=lambda each: each.used):
            if total <= limit:
                break
            if entry.key != keep and remove_unless_held(root, entry):
                total -= entry.size
                removed += 1
    return removed


def remove_unless_held(root: Path, entry: Stored) -> bool:
    """Remove an entry and its lock file; False where somebody builds it, or it cannot be moved."""
    with contextlib.suppress(OSError), try_to_hold(root, entry.key) as held:
        if held is not None:
            removed = remove_entry(entry.folder, entry.key)
            forget(root, entry.key)
            return removed
    return False


def _used(entry: Path) -> float:
    try:
        used = (entry / MANIFEST).lstat().st_mtime
    except OSError:
        return 0.0
    # A time to come says nothing. Were it believed, its entry would outlive all that are in use.
    return used if 0 <= used <= time.time() + _HOUR else 0.0


def size_of(folder: Path) -> int:
    """Bytes of the files in a folder.

    Raises:
        OSError: Some of it is gone, or out of reach.
    """
    if folder.is_symlink() or not folder.is_dir():
        return folder.lstat().st_size
    return sum(path.lstat().st_size for path in listed(folder))
