"""Which line of a generated source implements which operation of the IR.

A generated file names the operation in a comment on its line, and calls a variable as the IR calls
the value. Where the IR at hand is not the one that the file was made from, its comments are all
that is known.
"""

from __future__ import annotations

import hashlib
import re
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Optional

from radam_codegen.ir.group import Body, GroupIR
from radam_codegen.ir.ops import OpKind
from radam_codegen.ir.printer import format_op, print_group
from radam_codegen.tools.inspect.text import printable

__all__ = ["SourceLine", "is_made_from", "map_source"]


@dataclass(frozen=True)
class SourceLine:
    """One line of a generated source.

    Attributes:
        number: From 1.
        text: The line.
        op: The operation of the IR that it implements; None where it implements none.
        body: Class of tensors that the line is for; None where it is for all.
        phase: ``"reduce"``, ``"scalar"`` or ``"each"``; None where there is no operation.
    """

    number: int
    text: str
    op: str | None = None
    body: str | None = None
    phase: str | None = None


#: Longest line that is looked at; expressions would take their time over one without end.
_MOST_CHARACTERS = 1000

_FUNCTION = re.compile(r"^(?:static|extern|__global__) [^;=]*?(\w+)\(")
_DEFINITION = re.compile(r"^\s*const \w+ (\w+) = .*;(?: /\* (\w+)(?:: .*)? \*/)?$")
_STORE = re.compile(r" /\* store (\w+)(?:: .*)? \*/$")
#: Lines that say what they do without a name.
_UNNAMED = {
    r"^\s*lane\[.*\] \+= \w+;$": OpKind.SUM_TENSOR,
    r"\bsum \+= \w+_share\(": OpKind.SUM_GROUP,
    r"/\* store_step\b": OpKind.STORE_STEP,
}
_COMMENT = re.compile(r"/\* ((?:store|store_step|[a-z_0-9]+)\b.*?) \*/$")


def is_made_from(text: str, ir: GroupIR) -> bool:
    """Whether a generated source says that it was made from this very IR."""
    said = re.search(r"^ \* IR\s+sha256 ([0-9a-f]{64})$", text, re.M)
    return (
        said is not None and said.group(1) == hashlib.sha256(print_group(ir).encode()).hexdigest()
    )


def map_source(text: str, ir: GroupIR | None) -> tuple[SourceLine, ...]:
    """Find the operation behind each line.

    Args:
        text: The generated source.
        ir: The IR that it was made from; None where that is not known.
    """
    bodies = {} if ir is None else {body.tensor_class.name: body for body in ir.bodies}
    lines = []
    function: str | None = None
    for number, line in enumerate(text.splitlines(), start=1):
        if len(line) > _MOST_CHARACTERS:
            lines.append(SourceLine(number, printable(line)))
            continue
        opened = _FUNCTION.match(line)
        if opened is not None:
            function = opened.group(1)
        elif line == "}":
            function = None
        elif function is not None:
            owners = [name for name in bodies if function.startswith(f"{name}_")]
            owner = max(owners, key=len, default=None)
            found = _said(line) if ir is None else _operation(line, bodies, owner)
            if found is not None:
                lines.append(SourceLine(number, printable(line), *found))
                continue
        lines.append(SourceLine(number, printable(line)))
    return tuple(lines)


#: An operation as text, the class of tensors that it is for, and its phase.
_Found = tuple[str, Optional[str], Optional[str]]


def _said(line: str) -> _Found | None:
    found = _COMMENT.search(line)
    return None if found is None else (printable(found.group(1)), None, None)


def _operation(line: str, bodies: Mapping[str, Body], owner: str | None) -> _Found | None:
    definition = _DEFINITION.match(line)
    if definition is not None:
        name, kind = definition.groups()
        return _find(bodies, owner, kind or OpKind.STEP.value, name)
    stored = _STORE.search(line)
    if stored is not None:
        return _find(bodies, owner, OpKind.STORE.value, stored.group(1))
    for form, kind in _UNNAMED.items():
        if re.search(form, line):
            return _find(bodies, owner, kind.value)
    return None


def _find(
    bodies: Mapping[str, Body], owner: str | None, kind: str, name: str | None = None
) -> _Found | None:
    """The operation of a kind that defines a name or stores to it; a body has each name once."""
    for body in bodies.values() if owner is None else (bodies[owner],):
        for phase in ("reduce", "scalar", "each"):
            for op in getattr(body, phase):
                called = op.attr if op.result is None else op.result.name
                if op.kind.value == kind and name in (None, called):
                    return format_op(op), owner, phase
    return None
