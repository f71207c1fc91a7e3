"""One build per key at a time, over all processes that share a cache.

The lock is the kernel's own (``flock``): it ends with the process that holds it, however that ends.
Neither a compiler nor a forked child takes it over. The lock file itself stays empty; who holds it
stands beside it, for those who wait too long.
"""

from __future__ import annotations

import contextlib
import errno
import fcntl
import os
import time
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

from radam_codegen.errors import ArtifactError
from radam_codegen.toolchain.cache.holder import holder_of, remove_holder, write_holder
from radam_codegen.toolchain.cache.layout import LOCKS
from radam_codegen.toolchain.forks import in_forked_child
from radam_codegen.toolchain.status_line import StatusLine

if TYPE_CHECKING:
    from filelock import FileLock

__all__ = ["Held", "forget", "hold", "try_to_hold"]

_POLL_SECONDS = 0.02
_NO_LOCKS = frozenset({errno.ENOSYS, errno.ENOLCK, errno.ENOTSUP, errno.EINVAL})


@dataclass(frozen=True)
class Held:
    """A key that is ours for now.

    Attributes:
        waited: Whether another process or thread held it before.
        exclusive: False where the file system has no kernel locks. There, two may build one key at
            once, and one rename decides.
    """

    waited: bool
    exclusive: bool


@contextlib.contextmanager
def hold(root: Path, key: str, timeout: float) -> Iterator[Held]:
    """Hold the lock of a key.

    Args:
        root: Folder of the cache.
        key: Key, or the name of another lock.
        timeout: Longest wait, in seconds.

    Raises:
        ArtifactError: Somebody held it all the time; the message says who.
        OSError: The lock file cannot be made.
    """
    path = _lock_path(root, key)
    if not _has_kernel_locks(root):
        yield Held(waited=False, exclusive=False)
        return
    lock = _new_lock(path)
    waited = not _try(lock, path)
    if waited:
        _wait(lock, path, timeout)
    with _holding(lock, path):
        yield Held(waited, exclusive=True)


@contextlib.contextmanager
def try_to_hold(root: Path, key: str) -> Iterator[Held | None]:
    """Hold the lock of a key if nobody else does; hands out None otherwise.

    Raises:
        OSError: The lock file cannot be made.
    """
    path = _lock_path(root, key)
    if not _has_kernel_locks(root):
        yield Held(waited=False, exclusive=False)
        return
    lock = _new_lock(path)
    if not _try(lock, path):
        yield None
        return
    with _holding(lock, path):
        yield Held(waited=False, exclusive=True)


def forget(root: Path, key: str) -> None:
    """Remove the lock file of a key that is held: nobody will want it again soon.

    Who waits for it meanwhile sees that the file is another one, and starts again.
    """
    with contextlib.suppress(OSError):
        _lock_path(root, key).unlink()


# ---- The lock itself ----------------------------------------------------------------------------

#: Locks that this process holds, or is about to; for its forked children.
_held: set[FileLock] = set()


def _lock_path(root: Path, key: str) -> Path:
    return root / LOCKS / f"{key}.lock"


def _new_lock(path: Path) -> FileLock:
    from filelock import FileLock  # only who builds needs it

    # After filelock's own, newer versions of which do the same.
    in_forked_child(_drop_inherited)
    return FileLock(path, mode=0o600, thread_local=False)


def _try(lock: FileLock, path: Path) -> bool:
    from filelock import Timeout

    _held.add(lock)
    try:
        lock.acquire(timeout=0)
    except Timeout:
        _held.discard(lock)
        return False
    except BaseException:
        _held.discard(lock)
        raise
    if _is_current(lock, path):
        return True
    _release(lock)  # somebody removed the file between the opening and the locking
    return False


def _wait(lock: FileLock, path: Path, timeout: float) -> None:
    begin = time.monotonic()
    line = StatusLine(
        lambda: f"waiting for {holder_of(path) or 'another process'}, which builds the same"
    )
    try:
        while not _try(lock, path):
            waited = time.monotonic() - begin
            if waited >= timeout:
                raise ArtifactError(
                    f"Gave up after waiting {waited:.0f} s for "
                    f"{holder_of(path) or 'a process that cannot be named'}, which holds {path}. "
                    "If it hangs, end it. If it only takes its time, set "
                    "RADAM_CODEGEN_LOCK_TIMEOUT to more seconds. Or set RADAM_CODEGEN_CACHE_DIR "
                    "to a folder that it does not use."
                )
            line.update(waited)
            time.sleep(_POLL_SECONDS)
    finally:
        line.close()


@contextlib.contextmanager
def _holding(lock: FileLock, path: Path) -> Iterator[None]:
    owner = os.getpid()
    try:
        write_holder(path)
        yield
    finally:
        if os.getpid() == owner:  # a forked child that comes this way holds nothing
            remove_holder(path)
            _release(lock)


def _release(lock: FileLock) -> None:
    _held.discard(lock)
    with contextlib.suppress(OSError):
        lock.release()


def _descriptor(lock: FileLock) -> int | None:
    # filelock has no public name for it that its versions for Python 3.9 know.
    found: int | None = getattr(getattr(lock, "_context", None), "lock_file_fd", None)
    return found


def _is_current(lock: FileLock, path: Path) -> bool:
    descriptor = _descriptor(lock)
    if descriptor is None:
        return True
    try:
        return os.path.samestat(os.fstat(descriptor), os.stat(path, follow_symlinks=False))
    except OSError:
        return False


def _drop_inherited() -> None:
    # The parent's lock lasts while any process has its descriptor, so this one lets go of it:
    # closes it, and does not unlock it.
    for lock in _held:
        descriptor = _descriptor(lock)
        if descriptor is not None:
            with contextlib.suppress(OSError):
                os.close(descriptor)
            lock._context.lock_file_fd = None
    _held.clear()


def _has_kernel_locks(root: Path) -> bool:
    """Whether the file system knows ``flock``; makes the folder of the locks.

    Asked every time, since filelock in such a place waits for ever, or takes a file for a lock,
    which outlives its holder: the versions differ.
    """
    folder = root / LOCKS
    folder.mkdir(mode=0o700, parents=True, exist_ok=True)
    flags = os.O_RDWR | os.O_CREAT | os.O_NOFOLLOW | os.O_CLOEXEC
    descriptor = os.open(folder / "probe", flags, 0o600)
    try:
        fcntl.flock(descriptor, fcntl.LOCK_SH | fcntl.LOCK_NB)  # which nobody stands in the way of
    except OSError as error:
        if error.errno in _NO_LOCKS:
            return False
        raise
    finally:
        os.close(descriptor)
    return True
