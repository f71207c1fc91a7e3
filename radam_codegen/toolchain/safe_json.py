"""Reading small files that anything may have happened to."""

from __future__ import annotations

import contextlib
import errno
import json
import os
import stat
from collections.abc import Iterator
from pathlib import Path
from typing import Any

__all__ = ["open_regular", "read_json", "read_small"]

#: Longer integers are no sizes, counts or process ids; old Pythons take seconds for very long ones.
_MOST_DIGITS = 20


@contextlib.contextmanager
def open_regular(path: str | Path, folder: int | None = None) -> Iterator[int]:
    """Open a file for reading and hand out its descriptor.

    Args:
        path: The file; relative to ``folder`` where that is given.
        folder: Descriptor of a folder.

    Raises:
        OSError: It cannot be opened, or is no regular file: links are not followed, and a pipe
            nobody writes into is not waited for.
    """
    flags = os.O_RDONLY | os.O_NOFOLLOW | os.O_NONBLOCK | os.O_CLOEXEC
    descriptor = os.open(path, flags, dir_fd=folder)
    try:
        if not stat.S_ISREG(os.fstat(descriptor).st_mode):
            raise OSError(errno.ELOOP, "Not a regular file", str(path))
        yield descriptor
    finally:
        os.close(descriptor)


def read_small(path: str | Path, most_bytes: int, folder: int | None = None) -> bytes:
    """Read a regular file that is not longer than it should be.

    Raises:
        OSError: It cannot be read, or is no regular file.
        ValueError: It is too long.
    """
    with open_regular(path, folder) as descriptor, os.fdopen(descriptor, "rb", closefd=False) as f:
        content = f.read(most_bytes + 1)
    if len(content) > most_bytes:
        raise ValueError(f"{path} is longer than {most_bytes} bytes")
    return content


def read_json(content: bytes) -> Any:
    """Read JSON that nobody vouches for.

    Raises:
        ValueError: It is no JSON, or none that a person or this package would write.
    """
    try:
        return json.loads(content.decode("utf-8"), parse_int=_integer)
    except (RecursionError, MemoryError) as error:
        raise ValueError("nested too deeply") from error


def _integer(digits: str) -> int:
    if len(digits) > _MOST_DIGITS:
        raise ValueError("a number has too many digits")
    return int(digits)
