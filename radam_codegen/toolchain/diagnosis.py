"""From a compiler's output to the one thing that a person wants to know."""

from __future__ import annotations

import re
import shlex
from collections.abc import Sequence
from pathlib import Path

__all__ = ["describe_failure", "legible"]

#: ``file:line:column: error:``, as GCC and clang write it, or ``file(line): error:``, as nvcc does.
_ERROR = re.compile(
    r"^(?P<file>[^:\n]+)[:(](?P<line>\d+)\)?:(?:(?P<column>\d+):)? "
    r"(?:fatal |catastrophic )?error(?: #[\w-]+)?: (?P<what>.*)$",
    re.M,
)
_LINKER_ERROR = re.compile(r"^.*(?:undefined reference|cannot find|ld: |error: ).*$", re.M)
_COMMENT = re.compile(r"/\*\s*(?P<text>.*?)\s*\*/|//\s*(?P<line>.*)$")

#: How much of a log without any error line is shown.
_TAIL_LINES = 5
_MOST_LINE = 500


def describe_failure(
    what: str, command: Sequence[str], log: Path, source: Path, advice: str
) -> str:
    """Message for a compile that failed.

    Args:
        what: What was compiled, to begin the message with.
        command: The command that failed.
        log: The compiler's output.
        source: The source that was compiled, under the name by which the output calls it.
        advice: What to do about it.
    """
    output = _read(log)
    lines = [f"{what} could not be compiled."]
    found = _ERROR.search(output)
    if found is not None:
        lines.append(f"  first error: {found.group(0)}")
        if Path(found.group("file")).name == source.name:
            lines += _quote(_read(source), int(found.group("line")))
    else:
        lines += [f"  compiler: {line}" for line in _most_telling(output)]
    lines.append(f"  command: {shlex.join(command)}")
    lines.append(f"  log: {log}")
    lines.append(f"  source: {source}")
    lines.append(advice)
    return "\n".join(lines)


def legible(text: str) -> str:
    """Make text of a program that may print anything such as a terminal shows and does not obey."""
    return "".join(each if each.isprintable() or each in "\n\t" else "?" for each in text)


def _quote(source: str, number: int) -> list[str]:
    text = source.splitlines()
    if not 1 <= number <= len(text):
        return []
    quoted = [f"  line {number}: {text[number - 1].strip()}"]
    operation = _operation_at(text, number)
    if operation is not None:
        quoted.append(f"  IR operation: {operation}")
    return quoted


def _operation_at(text: Sequence[str], number: int) -> str | None:
    """Text of the comment on the line, or the nearest one before it."""
    for line in reversed(text[:number]):
        found = _COMMENT.search(line)
        if found is not None:
            return found.group("text") if found.group("text") is not None else found.group("line")
    return None


def _most_telling(output: str) -> list[str]:
    found = _LINKER_ERROR.search(output)
    if found is not None:
        return [found.group(0)]
    lines = [line for line in output.splitlines() if line.strip() and not line.startswith("$ ")]
    return [line[:_MOST_LINE] for line in lines[-_TAIL_LINES:]]


def _read(path: Path) -> str:
    try:
        return legible(path.read_text(encoding="utf-8", errors="replace"))
    except OSError:
        return ""
