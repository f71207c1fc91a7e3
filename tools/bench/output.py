"""Files that the bench writes."""

from __future__ import annotations

from pathlib import Path

from radam_codegen.errors import RadamCodegenError

__all__ = ["write_file"]


def write_file(path: Path, text: str) -> None:
    """Write a text.

    Raises:
        RadamCodegenError: The file cannot be written.
    """
    try:
        path.write_text(text, encoding="utf-8")
    except OSError as error:
        raise RadamCodegenError(f"{path} cannot be written: {error.strerror}") from error
