"""The key by which Paddle's Executor finds what it has made ready for a PIR program.

Before every run the Executor prints the whole program and hashes the text, which takes more than
half of a step over many small tensors. Here that hash is kept by the program's fingerprint
(:mod:`~radam_codegen.program.fingerprint`), so that a program is printed once per state. Whatever
changes a program changes its fingerprint, and it is printed anew: two runs have the same key
exactly where their texts are the same, as without this. What the Executor does with the hash is in
:mod:`~radam_codegen.program.ready_runs`.

It is done for programs that hold operators of this package, and can be switched off:
``RADAM_CODEGEN_PROGRAM_KEY=text``.
"""

from __future__ import annotations

from typing import Any

from radam_codegen.program.fingerprint import fingerprint_of
from radam_codegen.toolchain.forks import ForkSafeLock

__all__ = ["KnownProgram", "KnownTexts", "known_texts", "state_of_program"]


class KnownProgram:
    """A PIR program whose text need not be printed: what the Executor is given in its place.

    Of a ``paddle.pir.Program`` the Executor lists all operators before every run, only to warn of
    one without any, which takes half a millisecond of a thousand. This is not one; otherwise it
    answers as the program does.

    Attributes:
        program: the ``paddle.pir.Program``.
        text_hash: hash of its text.
    """

    __slots__ = ("program", "text_hash")

    def __init__(self, program: Any, text_hash: int) -> None:
        self.program = program
        self.text_hash = text_hash

    def __getattr__(self, name: str) -> Any:
        return getattr(self.program, name)


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

    def known(self, program: Any) -> KnownProgram | None:
        """Return a program with the hash of its text; None where :meth:`hash_of` is."""
        found = self.hash_of(program)
        return None if found is None else KnownProgram(program, found)

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


def state_of_program(program: Any) -> object:
    """Return something that is equal for two states of a PIR program only if their texts are."""
    fingerprint = fingerprint_of(program) if known_texts.enabled else None
    return hash(str(program)) if fingerprint is None else fingerprint.value
