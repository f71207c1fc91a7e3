"""Text from outside, made fit to be shown."""

from __future__ import annotations

__all__ = ["MOST_SHOWN", "printable", "shown"]

#: Longest piece of text from outside that is shown, in characters.
MOST_SHOWN = 200


def printable(text: str) -> str:
    r"""Return ``text`` with every character that is not printed as itself spelled out.

    Sequences that move the cursor, change colours or turn the direction of writing come out as
    ``\x1b`` and the like; letters of any language stay. A tab becomes four spaces.
    """
    text = text.replace("\t", "    ")
    if text.isprintable():
        return text
    return "".join(
        each if each.isprintable() else each.encode("unicode_escape").decode("ascii")
        for each in text
    )


def shown(text: str) -> str:
    """Return ``text`` in quotes, fit to be shown, and cut where it goes on and on."""
    return f"'{printable(text if len(text) <= MOST_SHOWN else f'{text[:MOST_SHOWN]}...')}'"
