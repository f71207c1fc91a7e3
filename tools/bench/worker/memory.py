"""What memory a process takes: what the optimizer keeps, and what its steps take for a while."""

from __future__ import annotations

import ctypes
import re
from pathlib import Path
from typing import Any

from . import paddle_dynamic, paddle_static
from .workload import Workload

__all__ = ["measure"]

_STEPS = 30
_FLOAT = 4


def measure(options: dict[str, Any]) -> dict[str, float]:
    """Take steps in this fresh process.

    Args:
        options: ``module``: ``"paddle_static"`` or ``"paddle_dynamic"``; ``optimizer``: ``"ours"``
            or ``"native"``; ``elements`` of the one parameter; ``threads``; ``clip_norm`` and
            ``weight_decay``.

    Returns:
        Bytes: ``temporary``, by which the resident memory at its highest, first step included,
        exceeds that of before, parameter, gradient and state; ``state``, of the optimizer.
    """
    import paddle  # noqa: F401 -- it is there before anything is measured

    if options["optimizer"] == "ours":
        from radam_codegen import optimizer  # noqa: F401 -- likewise

    elements = options["elements"]
    workload = Workload(
        ((elements,),), options["threads"], options["clip_norm"], options["weight_decay"]
    )
    before = _resident("VmRSS")
    make = paddle_static.make if options["module"] == "paddle_static" else paddle_dynamic.make
    contestant = make(workload, {"optimizer": options["optimizer"]})
    # Making the values took memory, too: what of it is free goes back to the system, and the mark
    # of the highest goes down to what is there now.
    ctypes.CDLL(None).malloc_trim(0)
    Path("/proc/self/clear_refs").write_text("5", encoding="ascii")
    for _ in range(_STEPS):
        contestant.step()
    peak, state = _resident("VmHWM"), contestant.state_bytes()
    return {"temporary": peak - before - 2 * _FLOAT * elements - state, "state": state}


def _resident(name: str) -> int:
    status = Path("/proc/self/status").read_text(encoding="ascii")
    found = re.search(rf"^{name}:\s+(\d+) kB$", status, re.M)
    return int(found[1]) << 10 if found else 0
