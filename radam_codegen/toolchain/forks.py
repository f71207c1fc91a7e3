"""What a forked child must not take over from its parent."""

from __future__ import annotations

import functools
import os
from typing import Callable

__all__ = ["in_forked_child"]

_resets: list[Callable[[], None]] = []


def in_forked_child(reset: Callable[[], None]) -> None:
    """Call a function in every child that is forked from now on, once per child.

    Asking twice for the same function is asking once.
    """
    _register()
    if reset not in _resets:
        _resets.append(reset)


@functools.cache
def _register() -> None:
    os.register_at_fork(after_in_child=_run)


def _run() -> None:
    for reset in _resets:
        reset()
