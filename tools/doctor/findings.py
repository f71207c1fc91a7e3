"""What a check finds."""

from __future__ import annotations

from dataclasses import asdict, dataclass
from typing import Any

from radam_codegen.config import Config

__all__ = ["FAILURE", "NOTE", "OK", "REINSTALL", "WARNING", "Finding", "Fix", "unless_off"]

OK = "ok"
#: Worth knowing; nothing is wrong.
NOTE = "note"
#: Something is not as it should be, but training works.
WARNING = "warning"
#: Training would fail.
FAILURE = "failure"


@dataclass(frozen=True)
class Fix:
    """One way to mend it.

    Attributes:
        text: What to do.
        command: How, in a shell; empty where there is no one command.
    """

    text: str
    command: str = ""


#: The way out where a part of the package, or something that it needs, does not load.
REINSTALL = Fix(
    "Install the package and what it needs anew.", "pip install --force-reinstall radam-codegen"
)


@dataclass(frozen=True)
class Finding:
    """What one check came to.

    Attributes:
        check: What was looked at.
        status: :data:`OK`, :data:`NOTE`, :data:`WARNING` or :data:`FAILURE`.
        found: What there is.
        cause: Why that is not well, and what comes of it; empty where it is well.
        fixes: What can be done about it, the best first.
    """

    check: str
    status: str
    found: str
    cause: str = ""
    fixes: tuple[Fix, ...] = ()

    def to_json(self) -> dict[str, Any]:
        """Return it as JSON values."""
        return asdict(self)


def unless_off(config: Config, status: str) -> str:
    """Weaken a status to a note where mode ``off`` makes its cause matter to nobody."""
    return NOTE if config.mode == "off" else status
