"""What a forked child must not take over from its parent, and locks that it does not."""

from __future__ import annotations

import functools
import os
import threading
from collections.abc import Hashable
from typing import Callable

__all__ = ["ForkSafeLock", "KeyedLocks", "in_forked_child"]

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


class ForkSafeLock:
    """A lock for ``with`` that is free in a forked child, whoever held it in the parent.

    A thread that holds a lock while another one forks does not exist in the child, and would hold
    it there for ever.
    """

    def __init__(self) -> None:
        self._owner = os.getpid()
        self._lock = threading.Lock()

    def __enter__(self) -> None:
        if self._owner != os.getpid():
            self._lock = threading.Lock()
            self._owner = os.getpid()
        self._lock.acquire()

    def __exit__(self, *_: object) -> None:
        self._lock.release()


class KeyedLocks:
    """A lock per key, made when it is first asked for."""

    def __init__(self) -> None:
        self._guard = ForkSafeLock()
        self._locks: dict[Hashable, ForkSafeLock] = {}

    def of(self, key: Hashable) -> ForkSafeLock:
        """Return the lock of a key."""
        with self._guard:
            return self._locks.setdefault(key, ForkSafeLock())
