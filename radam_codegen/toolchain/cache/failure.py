"""What a builder raises when it cannot build."""

from __future__ import annotations

from pathlib import Path

__all__ = ["BuildFailedError"]


class BuildFailedError(Exception):
    """A build gave up; its folder is kept.

    Attributes:
        command: What was run.
        reason: Why it failed, where that is not in the log's own words: a sentence.
        folder: Where source and log are; set by ``get_or_build``.
    """

    def __init__(self, command: tuple[str, ...], reason: str | None = None) -> None:
        super().__init__(" ".join(command))
        self.command = command
        self.reason = reason
        self.folder = Path()
