"""Writing so that what is there after a crash is what was meant to be there."""

from __future__ import annotations

import errno
import os
from pathlib import Path

__all__ = ["sync_file", "sync_files", "sync_folder"]


def sync_files(folder: Path) -> None:
    """Have the content of every file in a folder reach the disk.

    Raises:
        OSError: It may not have.
    """
    for path in sorted(folder.iterdir()):
        if path.is_file() and not path.is_symlink():
            sync_file(path)


def sync_file(path: Path) -> None:
    """Have the content of a file reach the disk.

    Raises:
        OSError: It may not have.
    """
    _sync(path, os.O_RDONLY)


def sync_folder(folder: Path) -> None:
    """Have the names in a folder reach the disk.

    Raises:
        OSError: They may not have.
    """
    try:
        _sync(folder, os.O_RDONLY | os.O_DIRECTORY)
    except OSError as error:
        # Some network and user-space file systems cannot do it; they order things themselves.
        if error.errno not in (errno.EINVAL, errno.ENOTSUP, errno.ENOSYS):
            raise


def _sync(path: Path, flags: int) -> None:
    descriptor = os.open(path, flags | os.O_NOFOLLOW | os.O_CLOEXEC)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)
