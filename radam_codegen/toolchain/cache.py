"""The folder of built files, one entry per key, and the way by which an entry gets there.

    <cache>/<kind>/<key>/      an entry: complete, never changed, made visible by one rename
    <cache>/<kind>/.new-*/     entries in the making, each private to one build
    <cache>/failed/<key>/      source and compiler log of a build that failed

Processes that build one key at once each build privately; the first rename wins, and the others
take what it published.
"""

from __future__ import annotations

import atexit
import contextlib
import hashlib
import json
import os
import shutil
import tempfile
import threading
import warnings
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Callable

from radam_codegen.errors import ArtifactError
from radam_codegen.toolchain.manifest import find_fault, write_manifest

__all__ = ["BuildFailedError", "Entry", "content_key", "get_or_build"]

#: 128 bits: short enough to read in a path, and no two contents share it.
_KEY_DIGITS = 32


class BuildFailedError(Exception):
    """A build gave up; its folder is kept.

    Attributes:
        command: What was run.
        folder: Where source and log are; set by :func:`get_or_build`.
    """

    def __init__(self, command: tuple[str, ...]) -> None:
        super().__init__(" ".join(command))
        self.command = command
        self.folder = Path()


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
    text = json.dumps(parts, sort_keys=True, ensure_ascii=True)
    return hashlib.sha256(text.encode("ascii")).hexdigest()[:_KEY_DIGITS]


def get_or_build(
    root: Path, kind: str, key: str, build: Callable[[Path], Mapping[str, Any]]
) -> Entry:
    """Find an entry, or build it.

    Args:
        root: Folder of the cache; made when it is missing. When it cannot be written, a temporary
            folder takes its place until the process ends, with one warning.
        kind: ``"kernels"`` or ``"operators"``.
        key: See :func:`content_key`.
        build: Writes the entry's files into the folder that it is given, and returns what the
            manifest says about the build.

    Raises:
        BuildFailedError: What ``build`` raised; its ``folder`` is where source and log are now.
        ArtifactError: Neither the cache nor a temporary folder can be written.
    """
    with _lock_of(key):
        for folder in _roots(root):
            entry = folder / kind / key
            if _is_usable(entry, key):
                return Entry(entry, built=False)
        try:
            return _build_entry(root, kind, key, build)
        except OSError as error:
            return _build_entry(_temporary_root(root, error), kind, key, build)


# ---- Building -----------------------------------------------------------------------------------


def _build_entry(
    root: Path, kind: str, key: str, build: Callable[[Path], Mapping[str, Any]]
) -> Entry:
    parent = root / kind
    parent.mkdir(mode=0o700, parents=True, exist_ok=True)
    private = Path(tempfile.mkdtemp(prefix=".new-", dir=parent))
    try:
        facts = build(private)
        write_manifest(private, key, facts)
        built = _publish(private, parent / key, key)
    except BuildFailedError as failure:
        failure.folder = _keep_failed(private, root / "failed" / key)
        raise
    finally:
        shutil.rmtree(private, ignore_errors=True)  # gone already when it was published
    return Entry(parent / key, built)


def _publish(private: Path, target: Path, key: str) -> bool:
    """Rename a complete folder into place; False when another process was faster."""
    for _ in range(2):
        try:
            private.rename(target)
            return True
        except OSError:
            if not target.exists():
                raise
        if find_fault(target, key) is None:
            return False
        _set_aside(target)
    private.rename(target)
    return True


def _keep_failed(private: Path, target: Path) -> Path:
    target.parent.mkdir(mode=0o700, parents=True, exist_ok=True)
    if target.exists():
        shutil.rmtree(target, ignore_errors=True)
    try:
        private.rename(target)
    except OSError:  # another process failed at the same, just now
        shutil.copytree(private, target, dirs_exist_ok=True)
    return target


def _is_usable(entry: Path, key: str) -> bool:
    if not entry.is_dir():
        return False
    fault = find_fault(entry, key)
    if fault is None:
        return True
    warnings.warn(
        f"The cache entry {entry} is damaged and will be built again: {fault}.",
        RuntimeWarning,
        stacklevel=2,
    )
    with contextlib.suppress(OSError):  # where it cannot be moved, building fails and says why
        _set_aside(entry)
    return False


def _set_aside(entry: Path) -> None:
    """Take a damaged entry out of the way, and then away."""
    aside = Path(tempfile.mkdtemp(prefix=".old-", dir=entry.parent))
    try:
        entry.rename(aside / entry.name)
    except FileNotFoundError:
        pass  # another process has done it
    finally:
        shutil.rmtree(aside, ignore_errors=True)


# ---- One build per key at a time in this process ------------------------------------------------

_locks: dict[str, threading.Lock] = {}
_locks_lock = threading.Lock()


def _lock_of(key: str) -> threading.Lock:
    with _locks_lock:
        return _locks.setdefault(key, threading.Lock())


# ---- Where the cache cannot be written ----------------------------------------------------------

_temporary: dict[Path, Path] = {}
_temporary_lock = threading.Lock()


def _roots(root: Path) -> list[Path]:
    """Folders in which an entry may be: the cache, and what takes its place in this process."""
    temporary = _temporary.get(root)
    return [root] if temporary is None else [root, temporary]


def _temporary_root(root: Path, error: OSError) -> Path:
    with _temporary_lock:
        if root in _temporary:
            return _temporary[root]
        try:
            temporary = Path(tempfile.mkdtemp(prefix="radam_codegen-"))
        except OSError as second:
            raise ArtifactError(
                f"Neither the cache {root} ({error}) nor a temporary folder ({second}) can be "
                "written. Set RADAM_CODEGEN_CACHE_DIR to a folder that can."
            ) from error
        _temporary[root] = temporary
        atexit.register(_remove_if_owner, temporary, os.getpid())
    warnings.warn(
        f"The cache {root} cannot be written ({error}); {temporary} takes its place until this "
        "process ends. Set RADAM_CODEGEN_CACHE_DIR to a folder that can be written.",
        RuntimeWarning,
        stacklevel=2,
    )
    return temporary


def _remove_if_owner(folder: Path, pid: int) -> None:
    if os.getpid() == pid:  # a forked child leaves its parent's folder alone
        shutil.rmtree(folder, ignore_errors=True)
