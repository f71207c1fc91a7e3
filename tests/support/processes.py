"""Processes that were told to end."""

from __future__ import annotations

import time
from pathlib import Path

__all__ = ["ends"]


def ends(process: int, seconds: float = 30.0) -> bool:
    """Whether a process ends within some time.

    A signal takes effect once the process is given a core: not at once where they are busy.
    """
    end = time.monotonic() + seconds
    while _is_running(process):
        if time.monotonic() > end:
            return False
        time.sleep(0.02)
    return True


def _is_running(process: int) -> bool:
    try:
        state = Path(f"/proc/{process}/stat").read_text().rpartition(")")[2].split()[0]
    except (FileNotFoundError, ProcessLookupError):
        return False
    return state != "Z"  # whoever adopted it may not have asked for its end yet
