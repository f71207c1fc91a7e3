"""Finding an entry, or building it: the one way to a library."""

from __future__ import annotations

import contextlib
import hashlib
import json
import os
import warnings
from collections import Counter
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from radam_codegen.errors import ArtifactError
from radam_codegen.toolchain.cache.counters import count
from radam_codegen.toolchain.cache.failure import BuildFailedError
from radam_codegen.toolchain.cache.fallback import roots_of, temporary_root
from radam_codegen.toolchain.cache.folders import check_folders, make_folders
from radam_codegen.toolchain.cache.layout import LOCKS
from radam_codegen.toolchain.cache.lock import hold
from radam_codegen.toolchain.cache.publish import Builder, build_entry
from radam_codegen.toolchain.cache.removal import (
    remove_entry,
    remove_leftovers_of,
    sweep_leftovers,
)
from radam_codegen.toolchain.cache.usage import evict, mark_used
from radam_codegen.toolchain.digests import remove_unfinished
from radam_codegen.toolchain.forks import KeyedLocks
from radam_codegen.toolchain.manifest import FORMAT, find_fault

__all__ = ["Entry", "content_key", "get_or_build"]

#: 128 bits: short enough to read in a path, and no two contents share it.
_KEY_DIGITS = 32

#: How often a build is begun anew after somebody removed its folder.
_MOST_ATTEMPTS = 3

_LOCK_SECONDS = 600.0

#: One build per key at a time in this process.
_locks = KeyedLocks()


@dataclass(frozen=True)
class Entry:
    """A folder of the cache whose files are as they were built.

    Attributes:
        folder: The folder.
        built: Whether this call built it, rather than finding it.
    """

    folder: Path
    built: bool


def content_key(parts: Mapping[str, Any]) -> str:
    """Key of an entry: a hash of everything that shapes it.

    Args:
        parts: JSON values by name.
    """
    # With the format, so that versions of this package do not take one another's entries for
    # damaged.
    text = json.dumps({"format": FORMAT, "parts": dict(parts)}, sort_keys=True, ensure_ascii=True)
    return hashlib.sha256(text.encode("ascii")).hexdigest()[:_KEY_DIGITS]


def get_or_build(
    root: Path,
    kind: str,
    key: str,
    build: Builder,
    *,
    cache_size: int | None = None,
    lock_timeout: float = _LOCK_SECONDS,
) -> Entry:
    """Find an entry, or build it.

    An entry is checked against its manifest, bit by bit, whenever it is found.

    Args:
        root: Folder of the cache; made when it is missing. When it cannot be written, a temporary
            folder takes its place until the process ends, with one warning.
        kind: ``"kernels"`` or ``"operators"``.
        key: See :func:`content_key`.
        build: Writes the entry's files into the folder that it is given, and returns what the
            manifest says about the build.
        cache_size: Bytes that the entries may have together; None: any number.
        lock_timeout: Longest wait for another process that builds the same, in seconds.

    Raises:
        BuildFailedError: What ``build`` raised; its ``folder`` is where source and log are now.
        ArtifactError: Neither the cache nor a temporary folder can be written; or another user can
            write to the cache; or the wait was too long.
    """
    with _locks.of(key):
        for folder in roots_of(root):
            check_folders(folder, kind)
            entry = folder / kind / key
            if os.path.lexists(entry) and find_fault(entry, key) is None:
                mark_used(entry)
                _clear_up_after_builder(folder, key)
                count(root, hits=1)
                return Entry(entry, built=False)
        return _Call(root, kind, key, build, cache_size, lock_timeout).run()


class _Call:
    """One call that found no entry."""

    def __init__(
        self,
        root: Path,
        kind: str,
        key: str,
        build: Builder,
        cache_size: int | None,
        lock_timeout: float,
    ) -> None:
        self._root = root
        self._kind = kind
        self._key = key
        self._build = build
        self._cache_size = cache_size
        self._lock_timeout = lock_timeout
        self._events: Counter[str] = Counter()

    def run(self) -> Entry:
        try:
            try:
                used = self._root
                entry = self._obtain(used)
            except OSError as error:
                self._events["fallbacks"] += 1
                used = temporary_root(self._root, _reason(error))
                entry = self._obtain_there(used, error)
            if entry.built:
                self._tidy(used)
            self._events["misses" if entry.built else "hits"] += 1
            return entry
        except BuildFailedError:
            self._events.update(misses=1, failures=1)
            raise
        finally:
            count(self._root, **self._events)

    def _obtain_there(self, temporary: Path, error: OSError) -> Entry:
        try:
            return self._obtain(temporary)
        except OSError as second:
            raise ArtifactError(
                f"Neither the cache {self._root} ({_reason(error)}) nor {temporary} "
                f"({_reason(second)}) can be written. Make room there, or set "
                "RADAM_CODEGEN_CACHE_DIR to a folder that can."
            ) from second

    def _obtain(self, root: Path) -> Entry:
        for _ in range(_MOST_ATTEMPTS - 1):
            # Somebody removed the folder of the cache: during the build, or before it began.
            with contextlib.suppress(FileNotFoundError):
                return self._obtain_once(root)
        return self._obtain_once(root)

    def _obtain_once(self, root: Path) -> Entry:
        make_folders(root, self._kind)
        folder = root / self._kind / self._key
        with hold(root, self._key, self._lock_timeout) as held:
            self._events["lock_waits"] += held.waited
            refused = False
            if os.path.lexists(folder):
                fault = find_fault(folder, self._key)
                if fault is None:  # another process built it just now
                    return Entry(folder, built=False)
                refused = True
                self._events["refusals"] += 1
                if not fault.unreadable:
                    _warn_of(folder, fault)
                    remove_entry(folder, self._key)
            if held.exclusive:
                remove_leftovers_of(folder.parent, self._key)
            folder, built = build_entry(root, self._kind, self._key, self._build, self._own_copy)
        if built:
            self._events["builds"] += 1
            self._events["rebuilds"] += refused
        return Entry(folder, built)

    def _own_copy(self) -> Path:
        self._events["fallbacks"] += 1
        temporary = temporary_root(self._root, f"its entry {self._key} cannot be read")
        return temporary / self._kind / self._key

    def _tidy(self, root: Path) -> None:
        """Clear up after processes that were killed, and make room."""
        with contextlib.suppress(OSError):
            sweep_leftovers(root)
            remove_unfinished(root)
            if self._cache_size is not None:
                self._events["evictions"] += evict(root, self._cache_size, keep=self._key)


def _clear_up_after_builder(root: Path, key: str) -> None:
    """Remove what is left of who published an entry and was killed before it let the lock go."""
    if os.path.lexists(root / LOCKS / f"{key}.holder"):
        with contextlib.suppress(OSError):
            sweep_leftovers(root)


def _reason(error: OSError) -> str:
    return error.strerror or str(error)


_warned: set[tuple[Path, str]] = set()


def _warn_of(folder: Path, fault: str) -> None:
    if (folder, fault) in _warned:
        return
    _warned.add((folder, fault))
    warnings.warn(
        f"The cache entry {folder} is damaged and will be built again: {fault}.",
        RuntimeWarning,
        stacklevel=2,
    )
