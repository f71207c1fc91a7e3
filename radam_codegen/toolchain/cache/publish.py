"""Making one entry: privately, then visible by one rename.

The order, and what a crash after each step leaves:

1. The builder writes into ``.new-<key>-*``, which nobody looks into: a leftover, which the next
   holder of the key's lock removes.
2. Every file is synced, then the manifest is written, with the digests of what was synced, and
   synced with the names: still a leftover.
3. The folder is renamed to its key. Readers see nothing before, and all of it after.
4. The parent is synced: from here on the entry outlives a loss of power. Before, it may be gone
   afterwards, but it cannot be there in part: where a disk loses what was synced, the digests tell.
"""

from __future__ import annotations

import contextlib
import errno
import os
import shutil
import tempfile
from collections.abc import Mapping
from pathlib import Path
from typing import Any, Callable

from radam_codegen.toolchain.cache.durable import sync_file, sync_files, sync_folder
from radam_codegen.toolchain.cache.failure import BuildFailedError
from radam_codegen.toolchain.cache.layout import FAILED, prefix
from radam_codegen.toolchain.cache.removal import delete, limit_failed, remove_entry
from radam_codegen.toolchain.manifest import MANIFEST, find_fault, write_manifest

__all__ = ["Builder", "build_entry"]

#: Writes an entry's files into the folder it is given; returns what the manifest says of the build.
Builder = Callable[[Path], Mapping[str, Any]]

#: What compilers print, in English, when they cannot write.
_FULL_DISK_WORDS = (b"No space left on device", b"Disk quota exceeded")
_PROBE_BYTES = 1 << 16


def build_entry(
    root: Path, kind: str, key: str, build: Builder, own_copy: Callable[[], Path]
) -> tuple[Path, bool]:
    """Build an entry and publish it.

    Args:
        root: Folder of the cache, with its folders in place.
        kind: The entry's kind.
        key: The entry's key, the lock of which is held.
        build: See :data:`Builder`.
        own_copy: Where an entry goes that cannot be published, since another one stands in its
            place that cannot be read.

    Returns:
        The entry's folder, and whether it is the one that was built here.

    Raises:
        BuildFailedError: ``build`` raised it; source and log were kept.
        FileNotFoundError: Somebody removed the folder meanwhile; another try may work.
        OSError: The cache cannot be written.
    """
    target = root / kind / key
    private = Path(tempfile.mkdtemp(prefix=prefix("new", key), dir=target.parent))
    try:
        facts = build(private)
        sync_files(private)
        write_manifest(private, key, facts)
        sync_file(private / MANIFEST)
        sync_folder(private)
        return _publish(private, target, key, own_copy)
    except BuildFailedError as failure:
        if _is_disk_full(private):
            raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC), str(root)) from failure
        failure.folder = _keep_failed(private, root, key)
        raise
    finally:
        delete(private)  # gone already when it was published


def _publish(
    private: Path, target: Path, key: str, own_copy: Callable[[], Path]
) -> tuple[Path, bool]:
    for _ in range(2):
        try:
            private.rename(target)
        except OSError:
            if not os.path.lexists(target):
                raise
        else:
            with contextlib.suppress(OSError):  # it is in use by now
                sync_folder(target.parent)
            return target, True
        # Only without locks can another entry have come here meanwhile.
        fault = find_fault(target, key)
        if fault is None:
            return target, False
        if fault.unreadable:
            break
        remove_entry(target, key)
    copy = own_copy()
    copy.parent.mkdir(mode=0o700, parents=True, exist_ok=True)
    shutil.copytree(private, copy)
    return copy, True


def _keep_failed(private: Path, root: Path, key: str) -> Path:
    target = root / FAILED / key
    target.parent.mkdir(mode=0o700, parents=True, exist_ok=True)
    for _ in range(2):
        delete(target)
        with contextlib.suppress(OSError):  # without locks, another one can have failed just now
            private.rename(target)
            break
    else:
        # A builder also fails because its folder was removed: then this raises FileNotFoundError.
        shutil.copytree(private, target, dirs_exist_ok=True)
    limit_failed(root)
    return target


def _is_disk_full(folder: Path) -> bool:
    """Whether a compiler failed for want of space, which it would say in a log, if that had any."""
    for log in folder.glob("*.log"):
        with contextlib.suppress(OSError):
            content = log.read_bytes()
            if any(words in content for words in _FULL_DISK_WORDS):
                return True
    try:
        with tempfile.TemporaryFile(dir=folder) as probe:
            probe.write(bytes(_PROBE_BYTES))
    except OSError as error:
        return error.errno in (errno.ENOSPC, errno.EDQUOT)
    return False
