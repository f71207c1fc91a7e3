"""Strict reading of JSON from anywhere: whatever is wrong with it is a ``PlanError``.

The message names the place in the document, such as ``groups[1].tensors[3].decay.kind``, and is one
line of printable ASCII characters of bounded length, whatever the document holds.
"""

from __future__ import annotations

import json
import math
from collections.abc import Callable
from enum import Enum
from typing import TypeVar

from radam_codegen.errors import PlanError

__all__ = ["Node", "parse"]

#: Longest text that is read, in characters; some hundred bytes per tensor make a long plan.
_MAX_TEXT = 256 * 1024 * 1024
#: Most digits of an integer: reading more takes time that grows with their square.
_MAX_DIGITS = 1000
#: Longest piece of the document that a message repeats.
_MAX_SHOWN = 60

_T = TypeVar("_T")
_E = TypeVar("_E", bound=Enum)


class _Object(dict[str, object]):
    """A JSON object that remembers a key that it had twice."""

    duplicate: str | None = None


def parse(text: str, what: str) -> Node:
    """Read a JSON text.

    Args:
        text: The text.
        what: What it should be, for messages: "a plan".

    Raises:
        PlanError: The text is not JSON, or larger or deeper than any that we write.

    """
    if not isinstance(text, str):
        raise PlanError(f"{what} is read from text, not from {type(text).__name__}")
    if len(text) > _MAX_TEXT:
        raise PlanError(f"the text has {len(text)} characters, more than {what} has ({_MAX_TEXT})")
    try:
        return Node(json.loads(text, object_pairs_hook=_object, parse_int=_integer), "")
    except RecursionError:
        raise PlanError(f"the text is nested deeper than {what}") from None
    except ValueError as error:
        raise PlanError(f"the text is not valid JSON: {error}") from None


def _object(pairs: list[tuple[str, object]]) -> _Object:
    result = _Object()
    for key, value in pairs:
        if key in result:
            result.duplicate = key
        result[key] = value
    return result


def _integer(digits: str) -> int:
    if len(digits) > _MAX_DIGITS:
        raise ValueError(f"it has an integer of {len(digits)} digits")
    return int(digits)


class Node:
    """A value in the document and the way to it.

    Attributes:
        path: Such as ``groups[0].clip``; empty for the document.
    """

    def __init__(self, value: object, path: str) -> None:
        self._value = value
        self.path = path

    def error(self, reason: str) -> PlanError:
        """Make an error that names this place."""
        return PlanError(f"{self.path or 'document'}: {reason}")

    def field(self, key: str) -> Node:
        """Return the value of one key of an object."""
        return self._field(self._object(), key)

    def fields(self, *keys: str, optional: tuple[str, ...] = ()) -> list[Node]:
        """Return the values of an object that has these keys and no others.

        Args:
            *keys: What it must have.
            optional: What it may have; :meth:`optional` returns the value.
        """
        found = self._object()
        known = (*keys, *optional)
        unknown = sorted(set(found) - set(known))
        if unknown:
            raise self.error(f"unknown key {_shown(unknown[0])}; known are {', '.join(known)}")
        return [self._field(found, key) for key in keys]

    def optional(self, key: str) -> Node | None:
        """Return the value of a key that an object may have; None where it has not."""
        found = self._object()
        return self._field(found, key) if key in found else None

    def _object(self) -> _Object:
        if not isinstance(self._value, _Object):
            raise self._wrong_type("an object")
        if self._value.duplicate is not None:
            raise self.error(f"key {_shown(self._value.duplicate)} is there twice")
        return self._value

    def _field(self, found: _Object, key: str) -> Node:
        if key not in found:
            raise self.error(f"key {key!r} is missing")
        return Node(found[key], f"{self.path}.{key}" if self.path else key)

    def items(self, read: Callable[[Node], _T]) -> tuple[_T, ...]:
        """Read each entry of an array."""
        return tuple(map(read, self._entries()))

    def entries(self, count: int) -> list[Node]:
        """Return the entries of an array that has so many."""
        found = self._entries()
        if len(found) != count:
            raise self.error(f"must have {count} entries, not {len(found)}")
        return found

    def _entries(self) -> list[Node]:
        if not isinstance(self._value, list):
            raise self._wrong_type("an array")
        return [Node(value, f"{self.path}[{at}]") for at, value in enumerate(self._value)]

    def text(self) -> str:
        """Return a string."""
        if not isinstance(self._value, str):
            raise self._wrong_type("a string")
        return self._value

    def flag(self) -> bool:
        """Return true or false."""
        if not isinstance(self._value, bool):
            raise self._wrong_type("true or false")
        return self._value

    def integer(self) -> int:
        """Return an integer."""
        if isinstance(self._value, bool) or not isinstance(self._value, int):
            raise self._wrong_type("an integer")
        return self._value

    def index(self, begin: int, end: int) -> int:
        """Return an integer from ``begin`` up to, and without, ``end``."""
        number = self.integer()
        if not begin <= number < end:
            raise self.error(f"must be from {begin} to {end - 1}, not {_shown(number)}")
        return number

    def number(self) -> float:
        """Return a finite float64; an integer will do where it is one exactly."""
        value = self._value
        if isinstance(value, bool) or not isinstance(value, (int, float)):
            raise self._wrong_type("a number")
        try:
            number = float(value)
        except OverflowError:
            number = math.inf
        if not math.isfinite(number) or number != value:
            raise self.error(f"{_shown(value)} is no finite float64")
        return number

    @property
    def is_null(self) -> bool:
        """Whether there is null here."""
        return self._value is None

    def member(self, enum: type[_E]) -> _E:
        """Return the member of ``enum`` that a string names."""
        text = self.text()
        for member in enum:
            if member.value == text:
                return member
        known = ", ".join(str(member.value) for member in enum)
        raise self.error(f"{_shown(text)} is unknown; known are {known}")

    def constant(self, wanted: str | int, hint: str) -> None:
        """Demand a certain value."""
        if type(self._value) is not type(wanted) or self._value != wanted:
            raise self.error(f"is {_shown(self._value)}, but must be {wanted!r}; {hint}")

    def _wrong_type(self, wanted: str) -> PlanError:
        return self.error(f"must be {wanted}, not {_shown(self._value)}")


def _shown(value: object) -> str:
    """Return a short description of a value of the document, on one line."""
    if isinstance(value, (dict, list)):
        return "an object" if isinstance(value, dict) else "an array"
    if isinstance(value, int) and not isinstance(value, bool) and value.bit_length() > 64:
        return f"an integer of {value.bit_length()} bits"
    text = json.dumps(value)
    return text if len(text) <= _MAX_SHOWN else f"{text[:_MAX_SHOWN]}..."
