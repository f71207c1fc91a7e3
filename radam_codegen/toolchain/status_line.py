"""A line on standard error for what takes longer than people wait in silence."""

from __future__ import annotations

import contextlib
import sys
from typing import Callable

__all__ = ["StatusLine"]

_SILENT_SECONDS = 2.0


class StatusLine:
    """Says once what takes so long and, on a terminal, keeps saying for how long.

    Where there is no standard error, or it is closed, nothing is said.

    Args:
        text: Says what it is that takes so long; called when there is something to say.
    """

    def __init__(self, text: Callable[[], str]) -> None:
        self._text = text
        self._shown = -1

    def update(self, seconds: float) -> None:
        """Tell the line how long it has been by now; call it several times a second."""
        whole = int(seconds)
        if seconds < _SILENT_SECONDS or whole == self._shown:
            return
        first, self._shown = self._shown < 0, whole
        if first:
            self._write(f"radam_codegen: {whole} s so far: {self._text()}\n")
        elif self._on_terminal():
            self._write(f"\r\033[Kradam_codegen: {whole} s")

    def close(self) -> None:
        """Take away what changes; what was said once stays."""
        if self._shown >= 0 and self._on_terminal():
            self._write("\r\033[K")

    def _on_terminal(self) -> bool:
        with contextlib.suppress(OSError, ValueError, AttributeError):
            return bool(sys.stderr.isatty())
        return False

    def _write(self, text: str) -> None:
        # Standard error may be None, closed, a pipe nobody reads, or unable to say this text.
        with contextlib.suppress(OSError, ValueError, AttributeError):
            sys.stderr.write(text)
            sys.stderr.flush()
