"""What a verification found."""

from __future__ import annotations

from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

__all__ = ["Finding", "VerifyReport"]


@dataclass(frozen=True, order=True)
class Finding:
    """One thing that is not as it should be.

    Attributes:
        place: The entry or file, relative to the folder that was verified.
        what: What is wrong with it.
    """

    place: str
    what: str

    def __str__(self) -> str:
        return f"{self.place}: {self.what}"


@dataclass(frozen=True)
class VerifyReport:
    """The outcome of a verification.

    Attributes:
        folder: What was verified.
        entries: How many compiled kernels and operators are in it.
        sources: How many of their sources were rendered anew and compared.
        rebuilt: How many of their libraries were compiled anew and compared.
        findings: Everything that is wrong, sorted; empty when all is good.
    """

    folder: Path
    entries: int
    sources: int
    rebuilt: int
    findings: tuple[Finding, ...]

    @property
    def good(self) -> bool:
        """Whether nothing is wrong."""
        return not self.findings

    def to_json(self) -> dict[str, Any]:
        """The report as JSON values."""
        return {**asdict(self), "folder": str(self.folder), "good": self.good}

    def __str__(self) -> str:
        """The report as text: each finding in one line, and a summary."""
        lines = [str(finding) for finding in self.findings]
        done = f"{self.entries} entries, {self.sources} sources rendered anew"
        if self.rebuilt:
            done += f", {self.rebuilt} libraries compiled anew"
        count = len(self.findings)
        outcome = "all good" if self.good else f"{count} finding{'s' * (count != 1)}"
        return "\n".join([*lines, f"{self.folder}: {done}: {outcome}"])
