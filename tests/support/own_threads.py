"""What the threads of this process are woken for."""

from __future__ import annotations

import threading
from collections.abc import Callable
from pathlib import Path
from typing import Any

__all__ = ["wakes_of_other_threads"]


def wakes_of_other_threads(call: Callable[[], Any], times: int) -> int:
    """How often other threads went to sleep during some calls, hence had been woken before."""
    before = _sleeps_of_others()
    for _ in range(times):
        call()
    after = _sleeps_of_others()
    return sum(count - before.get(thread, 0) for thread, count in after.items())


def _sleeps_of_others() -> dict[str, int]:
    counts = {}
    for task in Path("/proc/self/task").iterdir():
        if task.name == str(threading.get_native_id()):
            continue
        for line in (task / "status").read_text().splitlines():
            if line.startswith("voluntary_ctxt_switches:"):
                counts[task.name] = int(line.split()[1])
    return counts
