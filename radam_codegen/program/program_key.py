"""The key by which Paddle's Executor finds what it has made ready for a PIR program.

Before every run the Executor prints the whole program and hashes the text, which takes more than
half of a step over many small tensors. Here that hash is kept by the program's fingerprint
(:mod:`~radam_codegen.program.fingerprint`), so that a program is printed once per state. Whatever
changes a program changes its fingerprint, and it is printed anew: two runs have the same key
exactly where their texts are the same, as without this.

It is done for programs that hold operators of this package, and can be switched off:
``RADAM_CODEGEN_PROGRAM_KEY=text``.
"""

from __future__ import annotations

from typing import Any

import paddle
from paddle.base.executor import _ExecutorCache, _get_program_cache_key

from radam_codegen.program.fingerprint import fingerprint_of
from radam_codegen.toolchain.forks import ForkSafeLock

__all__ = ["KnownTexts", "known_texts", "state_of_program", "use_known_texts"]


class KnownTexts:
    """Hashes of the texts of PIR programs, by fingerprint.

    Neither texts nor programs are kept, and no more than ``capacity`` hashes.

    Attributes:
        enabled: False has every text printed.
        printed: how many texts were printed.
        found: how many times that was not necessary.
    """

    def __init__(self, capacity: int = 64) -> None:
        self._capacity = capacity
        self._lock = ForkSafeLock()
        self._hashes: dict[bytes, int] = {}
        self.enabled = True
        self.printed = 0
        self.found = 0

    def hash_of(self, program: Any) -> int | None:
        """Return the hash of the program's text; None where Paddle is to find it as it always does.

        Args:
            program: a ``paddle.pir.Program``.
        """
        before = fingerprint_of(program) if self.enabled else None
        if before is None or not before.holds_ours:
            return None
        known = self._hashes.get(before.value)
        if known is not None:
            self.found += 1
            return known
        made = hash(str(program))
        self.printed += 1
        # Another thread may have changed the program in between.
        if fingerprint_of(program) == before:
            with self._lock:
                self._hashes[before.value] = made
                if len(self._hashes) > self._capacity:
                    del self._hashes[next(iter(self._hashes))]
        return made


#: The one of this process.
known_texts = KnownTexts()


class _KeyedRun(_ExecutorCache._CachedData):  # type: ignore[misc]
    """A run, as Paddle's cache of executors looks it up: equal keys are one entry."""

    def __init__(
        self,
        program: Any,
        feed: Any,
        fetch_list: Any,
        feed_var_name: str,
        fetch_var_name: str,
        place: Any,
        scope: Any,
        plan: Any = None,
    ) -> None:
        text = known_texts.hash_of(program) if isinstance(program, paddle.pir.Program) else None
        if text is None:
            super().__init__(
                program, feed, fetch_list, feed_var_name, fetch_var_name, place, scope, plan
            )
            return
        self.program = program
        self.feed = feed
        self.fetch_list = fetch_list
        self.feed_var_name = feed_var_name
        self.fetch_var_name = fetch_var_name
        self.place = place
        self.scope = scope
        self.plan = plan
        # What Paddle has in its key, in its place the text's hash for the text.
        names = _get_program_cache_key(feed, fetch_list)
        self.key = hash((text, scope.raw_address(), names))


def use_known_texts(executor: Any) -> None:
    """Have an Executor look up the texts of PIR programs; it costs nothing when it does already."""
    cache = executor._executor_cache
    if cache._CachedData is not _KeyedRun:
        cache._CachedData = _KeyedRun


def state_of_program(program: Any) -> object:
    """Return something that is equal for two states of a PIR program only if their texts are."""
    fingerprint = fingerprint_of(program) if known_texts.enabled else None
    return hash(str(program)) if fingerprint is None else fingerprint.value
