"""The temporary folder that takes the place of a cache that cannot be used."""

from __future__ import annotations

import atexit
import contextlib
import fcntl
import os
import shutil
import tempfile
import threading
import warnings
from pathlib import Path

from radam_codegen.errors import ArtifactError
from radam_codegen.toolchain.forks import in_forked_child

__all__ = ["roots_of", "temporary_root"]

#: No other temporary folder begins so: what nobody holds is removed.
_PREFIX = "radam_codegen-cache-"

_temporary: dict[Path, Path] = {}
_descriptors: list[int] = []
_lock = threading.Lock()


def roots_of(root: Path) -> list[Path]:
    """Folders in which an entry may be: the cache, and what takes its place in this process."""
    temporary = _temporary.get(root)
    return [root] if temporary is None else [root, temporary]


def temporary_root(root: Path, reason: str) -> Path:
    """Folder that takes the place of a cache until this process ends, with one warning.

    It is removed when the process ends or, where that does not happen, by the next process that
    needs such a folder: a kernel lock on it says whether its owner lives.

    Args:
        root: The cache.
        reason: Why it cannot be used.

    Raises:
        ArtifactError: There is no place for temporary files either.
    """
    in_forked_child(_leave_to_parent)
    with _lock:
        if root in _temporary:
            return _temporary[root]
        try:
            temporary = _make()
        except OSError as error:
            raise ArtifactError(
                f"Neither the cache {root} ({reason}) nor a temporary folder ({error}) can be "
                "written. Set RADAM_CODEGEN_CACHE_DIR to a folder that can."
            ) from error
        _temporary[root] = temporary
        atexit.register(_remove_if_owner, temporary, os.getpid())
    warnings.warn(
        f"The cache {root} cannot be used ({reason}); {temporary} takes its place until this "
        "process ends. Set RADAM_CODEGEN_CACHE_DIR to a folder that can be written.",
        RuntimeWarning,
        stacklevel=2,
    )
    return temporary


def _make() -> Path:
    parent = Path(tempfile.gettempdir())
    for path in parent.glob(f"{_PREFIX}*"):
        _remove_if_left(path)
    temporary = Path(tempfile.mkdtemp(prefix=_PREFIX, dir=parent))
    descriptor = _locked(temporary)
    if descriptor is not None:
        _descriptors.append(descriptor)
    return temporary


def _remove_if_left(path: Path) -> None:
    """Remove the folder of a process that is no more."""
    with contextlib.suppress(OSError):
        if path.lstat().st_uid != os.geteuid():
            return
        descriptor = _locked(path)
        if descriptor is not None:
            shutil.rmtree(path, ignore_errors=True)
            os.close(descriptor)


def _locked(folder: Path) -> int | None:
    """Lock a folder; None when another process has, or when that is not possible here."""
    try:
        descriptor = os.open(folder, os.O_RDONLY | os.O_DIRECTORY | os.O_NOFOLLOW | os.O_CLOEXEC)
    except OSError:
        return None
    try:
        fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except OSError:
        os.close(descriptor)
        return None
    return descriptor


def _leave_to_parent() -> None:
    # The parent removes its folder when it ends; a child that needs one makes its own.
    global _lock
    _lock = threading.Lock()
    _temporary.clear()
    for descriptor in _descriptors:
        with contextlib.suppress(OSError):
            os.close(descriptor)
    _descriptors.clear()


def _remove_if_owner(folder: Path, pid: int) -> None:
    if os.getpid() == pid:
        shutil.rmtree(folder, ignore_errors=True)
