"""Texts that nobody writes by accident: names, numbers, and documents that were tampered with."""

from __future__ import annotations

import copy
import json
import random
from collections.abc import Iterator, Sequence
from typing import Any

from support.plans import HOSTILE_NAMES

__all__ = ["STRINGS", "TOKENS", "broken_texts", "mutated"]

#: Strings that break code, terminals, templates or readers that they are pasted into.
STRINGS = (
    *HOSTILE_NAMES,
    "",
    "x" * 10_000,
    "\u202e" * 50,
    "\x1b]0;title\x07\x1b[2J\x1b[31m",
    '*/ system("touch /tmp/owned"); /*',
    "??/\n#include </etc/passwd>",
    "a\\\nb",
    "{%- for x in ().__class__.__mro__ %}{{ x }}{% endfor %}",
    "${HOME}$(id)`id`;|&",
    "../../../etc/passwd",
    "\udfff\ud800",
    "\x00\x01\x7f\x80\x9f",
    "None",
    "NaN",
    "1e308",
    "float32",
    "decoupled",
    "\ufeffplan",
    "\r",
)

#: What can stand where a value stands, as it is written in a document.
TOKENS = (
    "NaN",
    "Infinity",
    "-Infinity",
    "1e308",
    "1e309",
    "-1e999",
    "5e-324",
    "-0.0",
    "-0",
    "0.1e-400",
    "1" * 400,
    "9" * 5000,
    "-" + "8" * 10_000,
    "9007199254740993",
    "9223372036854775807",
    "9223372036854775808",
    "-9223372036854775809",
    "18446744073709551616",
    "0",
    "1",
    "-1",
    "2",
    "0.5",
    "1.0",
    "true",
    "false",
    "null",
    "[]",
    "{}",
    "[[[[[[[[]]]]]]]]",
    '{"a": {"a": {"a": 1}}}',
    # No JSON.
    "nan",
    "inf",
    "0x10",
    "01",
    "1_000",
    "+1",
    ".5",
    "'a'",
    '"\\ud8"',
    '"\\x41"',
    "undefined",
    "/**/1",
    "1//",
    "-",
    "",
)

#: Stands in a document for a token, until it is text.
_MARK = "a token: "


def mutated(text: str, generator: random.Random) -> str:
    """A document with one to three changes in it, which may leave it a good one."""
    document = json.loads(text)
    for _ in range(generator.choice((1, 1, 1, 2, 3))):
        document = _changed(document, generator)
    result = json.dumps(document, indent=generator.choice((None, 1)))
    for number, token in enumerate(TOKENS):
        result = result.replace(f'"{_MARK}{number}"', token)
    return _touched(result, generator) if generator.random() < 0.2 else result


def _changed(document: Any, generator: random.Random) -> Any:
    places = list(_places(document))
    if not places:
        return _value(generator, document)
    parent, step = generator.choice(places)
    action = generator.choice(
        ("replace", "replace", "replace", "nudge", "remove", "double", "swap", "rename", "wrap")
    )
    old = parent[step]
    other, other_step = generator.choice(places)
    if action == "remove":
        del parent[step]
    elif action == "swap" and not isinstance(old, (dict, list)):
        # Only what holds nothing: a document that holds itself has no text.
        if not isinstance(other[other_step], (dict, list)):
            parent[step], other[other_step] = other[other_step], old
    elif action == "nudge" and isinstance(old, (int, float)) and not isinstance(old, bool):
        parent[step] = generator.choice((-old, old + 1, old * 0.5, float(old), old * 1e308, int))
        if parent[step] is int:
            parent[step] = int(old)
    elif action == "double" and isinstance(parent, list):
        parent.insert(step, copy.deepcopy(old))
    elif action in ("double", "rename") and isinstance(parent, dict):
        key = generator.choice((*STRINGS, step.upper(), step + " ", *parent))
        parent[key] = copy.deepcopy(old)
        if action == "rename" and key != step:
            del parent[step]
    elif action == "wrap":
        parent[step] = generator.choice(([old], {"value": old}, [old, copy.deepcopy(old)]))
    else:
        parent[step] = _value(generator, document)
    return document


def _places(document: Any) -> Iterator[tuple[Any, Any]]:
    """Every container and key or index of it."""
    if isinstance(document, dict):
        steps: list[Any] = list(document)
    elif isinstance(document, list):
        steps = list(range(len(document)))
    else:
        return
    for step in steps:
        yield document, step
        yield from _places(document[step])


def _value(generator: random.Random, document: Any) -> Any:
    kind = generator.randrange(5)
    if kind == 0:
        return generator.choice(STRINGS)
    if kind == 1:
        values = [parent[step] for parent, step in _places(document)]
        return copy.deepcopy(generator.choice(values)) if values else None
    if kind == 2:
        return generator.choice(_WORDS)
    return f"{_MARK}{generator.randrange(len(TOKENS))}"


#: Words that plans, launches and manifests know.
_WORDS = (
    *("float32", "float64", "bfloat16", "float16", "int64", "bool"),
    *("none", "l1", "l2", "decoupled", "norm", "global_norm", "value", "per_parameter"),
)


def _touched(text: str, generator: random.Random) -> str:
    """A text with a piece of it taken out, doubled, overwritten, or followed by more."""
    begin = generator.randrange(len(text) + 1)
    end = min(len(text), begin + generator.choice((0, 1, 2, 8, 100)))
    piece = generator.choice(
        ("", text[begin:end] * 2, *'{}[]",:\\\x00\n', "\ud800", "\ufeff", "1e999", "/*", "NaN")
    )
    return text[:begin] + piece + text[end:]


def broken_texts(text: str) -> Iterator[str]:
    """What is left of a document that was cut, or read as what it is not."""
    for end in range(0, len(text), 64):
        yield text[:end]
        yield text[end:]
    data = text.encode()
    for encoding in ("utf-16", "utf-16-le", "utf-32", "utf-8-sig"):
        yield text.encode(encoding).decode("latin-1")
    yield "\ufeff" + text
    yield data.hex()
    yield data.decode().swapcase()
    yield text + text
    yield text.replace('"', "'")
    yield text.replace(":", ":" * 2)
    yield from ("", " ", "\x00", "\x00" * 100, "null", "0", '""', "[]", "{}", "true", "NaN")
    for opening, closing in (("[", "]"), ('{"a":', "}"), ('[{"format":', "}]")):
        for depth in (10, 900, 1_100, 100_000):
            yield opening * depth
            yield opening * depth + "1" + closing * depth
    yield from _with_doubled_keys(text)
    yield "[" + "0," * 100_000 + "0]"
    yield '{"format": "' + "x" * 1_000_000 + '"}'
    # A number of which a naive reader would make an integer digit by digit, for hours.
    yield "7" * 20_000_000


def _with_doubled_keys(text: str) -> Iterator[str]:
    lines: Sequence[str] = text.splitlines(keepends=True)
    for index, line in enumerate(lines):
        if '":' in line and line.rstrip().endswith(","):
            yield "".join((*lines[: index + 1], line, *lines[index + 1 :]))
