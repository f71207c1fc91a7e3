"""The whole of a cache, for people: what is in it, whether it is as it was built, and clearing it.

All of it is safe while other processes build and load.
"""

from __future__ import annotations

import contextlib
import os
from dataclasses import dataclass
from pathlib import Path

from radam_codegen.errors import ArgumentError, ArtifactError
from radam_codegen.toolchain.cache.counters import read_counters
from radam_codegen.toolchain.cache.folders import check_folders
from radam_codegen.toolchain.cache.layout import FAILED, KEY, KINDS, LOCKS, listed
from radam_codegen.toolchain.cache.lock import forget, try_to_hold
from radam_codegen.toolchain.cache.removal import delete, sweep_leftovers
from radam_codegen.toolchain.cache.usage import Stored, remove_unless_held, size_of, stored_entries
from radam_codegen.toolchain.digests import MEMO
from radam_codegen.toolchain.manifest import find_fault

__all__ = ["Cleared", "Stats", "clear_cache", "find_stored", "stats", "verify_cache"]


@dataclass(frozen=True)
class Cleared:
    """What was removed.

    Attributes:
        entries: How many entries.
        failed: How many builds that had failed.
        size: Bytes of all their files.
        busy: How many entries were left, since they are being built just now.
    """

    entries: int
    failed: int
    size: int
    busy: int


@dataclass(frozen=True)
class Stats:
    """A cache in figures.

    Attributes:
        entries: How many entries there are.
        size: Bytes of their files.
        failed: How many failed builds are kept.
        counts: What happened since the cache was made, by the names in ``counters.NAMES``.
    """

    entries: int
    size: int
    failed: int
    counts: dict[str, int]


def stats(root: Path) -> Stats:
    """Count what is in a cache, and what happened in it."""
    entries = stored_entries(root)
    size = sum(entry.size for entry in entries)
    return Stats(len(entries), size, len(_failed(root)), read_counters(root))


def find_stored(root: Path, beginning: str) -> Stored:
    """Find the one entry whose key begins so.

    Raises:
        ArgumentError: There is none, or more than one.
    """
    found = [entry for entry in stored_entries(root) if entry.key.startswith(beginning)]
    if not beginning or not found:
        raise ArgumentError(
            f"No entry of the cache {root} has a key that begins with {beginning!r}. "
            "`radam-codegen cache list` shows them all."
        )
    if len(found) > 1:
        keys = ", ".join(entry.key for entry in found[:5])
        raise ArgumentError(
            f"{len(found)} entries of the cache {root} have a key that begins with {beginning!r}: "
            f"{keys}{', ...' if len(found) > 5 else ''}. Give more digits."
        )
    return found[0]


def verify_cache(root: Path) -> list[str]:
    """Compare every file of every entry with its digest.

    Returns:
        What is wrong, a line for each finding.
    """
    findings = []
    for kind in KINDS:
        try:
            check_folders(root, kind)
        except ArtifactError as error:
            findings.append(str(error))
    for entry in stored_entries(root):
        fault = find_fault(entry.folder, entry.key)
        # Another process may have removed it between the listing and the look.
        if fault is not None and os.path.lexists(entry.folder):
            findings.append(f"{entry.kind}/{entry.key}: {fault}")
    return list(dict.fromkeys(findings))


def clear_cache(root: Path) -> Cleared:
    """Remove all entries and failed builds, and what dead processes left.

    Files that this package did not make stay, and so do the counts.

    Raises:
        ArtifactError: Another user can write to the cache.
    """
    if not root.is_dir():
        return Cleared(0, 0, 0, 0)
    for kind in KINDS:
        check_folders(root, kind)
    removed = size = busy = 0
    for entry in stored_entries(root):
        if remove_unless_held(root, entry):
            removed += 1
            size += entry.size
        else:
            busy += os.path.lexists(entry.folder)
    failed = _failed(root)
    for folder in failed:
        with contextlib.suppress(OSError):
            size += size_of(folder)
        delete(folder)
    sweep_leftovers(root)
    _remove_locks(root)
    delete(root / MEMO)
    return Cleared(removed, len(failed), size, busy)


def _remove_locks(root: Path) -> None:
    for path in listed(root / LOCKS):
        if path.suffix == ".lock" and KEY.fullmatch(path.stem):
            with contextlib.suppress(OSError), try_to_hold(root, path.stem) as held:
                if held is not None:
                    forget(root, path.stem)


def _failed(root: Path) -> list[Path]:
    return [path for path in listed(root / FAILED) if KEY.fullmatch(path.name)]
