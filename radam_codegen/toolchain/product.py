"""Whether a compiler that says it succeeded made what it was asked for."""

from __future__ import annotations

import os
import stat
import struct
from dataclasses import dataclass
from pathlib import Path

__all__ = ["find_defect"]

_MAGIC = b"\x7fELF"
_SHARED = 3  # e_type of a shared library
_HEADER_BYTES = 64


@dataclass(frozen=True)
class _Header:
    """What matters of the header of an ELF file.

    Attributes:
        kind: ``e_type``.
        target: Width, byte order and machine: what the file's code runs on.
        end: Where the table ends that stands last in a linker's output; 0 where there is none.
    """

    kind: int
    target: tuple[int, int, int]
    end: int


def find_defect(library: Path) -> str | None:
    """Look at a file that shall be a shared library for this machine.

    A file that is none would otherwise be kept, and fail to load from then on.

    Returns:
        What is wrong with it, as the end of a sentence; None when nothing is seen.

    Raises:
        OSError: It cannot be read.
    """
    try:
        status = library.lstat()
    except FileNotFoundError:
        return f"there is no {library.name}"
    if not stat.S_ISREG(status.st_mode):
        return f"{library.name} is no file"
    header = _header_of(library)
    if header is None or header.kind != _SHARED:
        return f"{library.name} is no shared library"
    own = _header_of(Path("/proc/self/exe"))
    if own is not None and own.target != header.target:
        return f"{library.name} is for another kind of machine than {os.uname().machine}"
    if header.end > status.st_size:
        return f"{library.name} is there in part only"
    return None


def _header_of(file: Path) -> _Header | None:
    try:
        with file.open("rb") as stream:
            header = stream.read(_HEADER_BYTES)
    except PermissionError:  # may be run, but not read
        return None
    if len(header) < _HEADER_BYTES or header[:4] != _MAGIC:
        return None
    wide, order = header[4] == 2, ">" if header[5] == 2 else "<"
    kind, machine = struct.unpack_from(f"{order}HH", header, 16)
    (offset,) = struct.unpack_from(f"{order}{'Q' if wide else 'I'}", header, 40 if wide else 32)
    size, count = struct.unpack_from(f"{order}HH", header, 58 if wide else 46)
    return _Header(kind, (header[4], header[5], machine), offset + size * count)
