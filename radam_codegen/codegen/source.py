"""What rendering yields."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

__all__ = ["KernelSource"]


@dataclass(frozen=True)
class KernelSource:
    """The source of one kernel."""

    #: Readable identifier of the kernel's structure; also a valid C identifier.
    name: str
    #: ``"c"`` or ``"cuda"``.
    language: str
    #: The whole file.
    text: str
    #: Hash of the text in UTF-8, in hexadecimal.
    sha256: str
    #: Where the file lies once it has been compiled.
    path: Path | None = None
