"""Which line of a generated source implements which operation of the IR.

A generated file names the operation in a comment on its line, and calls a variable as the IR calls
the value. Where the IR at hand is not the one that the file was made from, its comments are all
that is known.
"""

from __future__ import annotations

import hashlib
import re
from dataclasses import dataclass

from radam_codegen.ir.group import Body, GroupIR
from radam_codegen.ir.ops import Op, OpKind
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


_FUNCTION = re.compile(r"^static (?:[\w]+ )*?(\w+)\(")
_DEFINITION = re.compile(r"^\s*const \w+ (\w+) = .*;(?: /\* (\w+)(?:: .*)? \*/)?$")
_STORE = re.compile(r"^\s*(\w+)_at\[i\] = .*; /\* store \w+(?:: .*)? \*/$")
_SUM_OF_TENSOR = re.compile(r"^\s*lane\[.*\] \+= (\w+);$")
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
    places = {} if ir is None else _places(ir)
    lines = []
    function: str | None = None
    for number, line in enumerate(text.splitlines(), start=1):
        opened = _FUNCTION.match(line)
        if opened is not None:
            function = opened.group(1)
        elif line == "}":
            function = None
        shown = printable(line)
        if function is None or opened is not None:
            lines.append(SourceLine(number, shown))
            continue
        body, phase = places.get(function, (None, "scalar"))
        op = _comment(line) if ir is None else _operation(line, body, phase, ir)
        if op is None:
            lines.append(SourceLine(number, shown))
        else:
            name = None if body is None else body.tensor_class.name
            lines.append(SourceLine(number, shown, op, name, None if ir is None else phase))
    return tuple(lines)


def _places(ir: GroupIR) -> dict[str, tuple[Body | None, str]]:
    """Body and phase of each function that implements operations of one body."""
    return {
        f"{body.tensor_class.name}_{suffix}": (body, phase)
        for body in ir.bodies
        for suffix, phase in (
            ("reduce", "reduce"),
            ("share", "scalar"),
            ("scalar", "scalar"),
            ("each", "each"),
        )
    }


def _comment(line: str) -> str | None:
    found = _COMMENT.search(line)
    return None if found is None else printable(found.group(1))


def _operation(line: str, body: Body | None, phase: str, ir: GroupIR) -> str | None:
    bodies = ir.bodies if body is None else (body,)
    definition = _DEFINITION.match(line)
    if definition is not None:
        name, kind = definition.groups()
        return _find(bodies, phase, kind or "step", name)
    stored = _STORE.match(line)
    if stored is not None:
        return _find(bodies, phase, OpKind.STORE.value, stored.group(1))
    if _SUM_OF_TENSOR.match(line):
        return _find(bodies, phase, OpKind.SUM_TENSOR.value)
    if "+=" in line and "_share(" in line:
        return _find(bodies, phase, OpKind.SUM_GROUP.value)
    if "/* store_step" in line:
        return _find(bodies, phase, OpKind.STORE_STEP.value)
    return None


def _find(bodies: tuple[Body, ...], phase: str, kind: str, name: str | None = None) -> str | None:
    for body in bodies:
        ops: tuple[Op, ...] = getattr(body, phase)
        for op in ops:
            called = op.attr if op.result is None else op.result.name
            if op.kind.value == kind and name in (None, called):
                return format_op(op)
    return None
