"""Machine code as instructions: what objdump prints of a library, and what a compiler's -S prints.

Both are read in AT&T syntax, the default of either. What fills the space in front of an aligned
label is left out: a compiler only asks for the alignment, and the assembler writes the
instructions, which objdump then shows. Whether a loop has any inside depends on the CPU that it is
compiled for.
"""

from __future__ import annotations

import re
from collections.abc import Iterator
from dataclasses import dataclass, replace

__all__ = ["Instruction", "Routine", "innermost_loops", "read_assembly", "read_objdump"]


@dataclass(frozen=True)
class Instruction:
    """One instruction.

    Attributes:
        mnemonic: Its name, such as ``vfmadd231ps``.
        operands: Its operands as printed.
        line: Line of the source that it implements, where that is known.
        target: Index of the instruction that it jumps to, within its routine.
    """

    mnemonic: str
    operands: str
    line: int | None = None
    target: int | None = None

    def __str__(self) -> str:
        return f"{self.mnemonic} {self.operands}".rstrip()


@dataclass(frozen=True)
class Routine:
    """A function of the machine code, under its symbol."""

    name: str
    instructions: tuple[Instruction, ...]


def innermost_loops(routine: Routine) -> list[tuple[Instruction, ...]]:
    """Every loop with no other one inside: from where a jump goes back to, up to the jump."""
    spans = sorted(
        {
            (each.target, at)
            for at, each in enumerate(routine.instructions)
            if each.target is not None and each.target <= at
        }
    )
    # Of several jumps to one place, such as `continue`, the last one ends the loop.
    last = dict(spans)
    return [
        routine.instructions[first : end + 1]
        for first, end in last.items()
        if not any(first < a and b <= end for a, b in spans)
    ]


# ---- objdump ------------------------------------------------------------------------------------

_SYMBOL = re.compile(r"^[0-9a-f]+ <(.+)>:$")
_PLACE = re.compile(r"^(.+):(\d+)(?: \(discriminator \d+\))?$")
_CODE = re.compile(r"^\s*([0-9a-f]+):\s+(\S.*)$")
_JUMP = re.compile(r"^([0-9a-f]+) <")


def read_objdump(text: str) -> tuple[Routine, ...]:
    """Read what ``objdump -d -w --no-show-raw-insn`` prints, with or without ``-l``."""
    routines = []
    name, line = "", None
    code: list[tuple[int, Instruction]] = []
    for row in text.splitlines():
        symbol, found = _SYMBOL.match(row), _CODE.match(row)
        if symbol is not None:
            routines.append(_resolved(name, code))
            name, line, code = symbol.group(1), None, []
        elif found is not None:
            code.append((int(found.group(1), 16), _instruction(found.group(2), line)))
        else:
            place = _PLACE.match(row)
            line = line if place is None else int(place.group(2))
    routines.append(_resolved(name, code))
    return tuple(each for each in routines if each.instructions)


def _resolved(name: str, code: list[tuple[int, Instruction]]) -> Routine:
    index: dict[int, int] = {}
    kept: list[Instruction] = []
    for address, each in code:
        index[address] = len(kept)  # of padding: what comes after it
        if not _is_padding(each):
            kept.append(each)
    instructions = []
    for each in kept:
        jump = _JUMP.match(each.operands) if each.mnemonic.startswith("j") else None
        target = None if jump is None else index.get(int(jump.group(1), 16))
        instructions.append(replace(each, target=target))
    return Routine(name, tuple(instructions))


# ---- gcc -S, clang -S ---------------------------------------------------------------------------

_LABEL = re.compile(r"^([\w.$]+):")
_LOC = re.compile(r"^\s*\.loc\s+\d+\s+(\d+)")


def read_assembly(text: str) -> tuple[Routine, ...]:
    """Read what a compiler's ``-S`` prints."""
    return tuple(_labelled(name, rows) for name, rows in _functions(text))


def _functions(text: str) -> Iterator[tuple[str, list[str]]]:
    functions = set(re.findall(r"^\s*\.type\s+([\w.$]+),\s*@function", text, re.M))
    name = ""
    rows: list[str] = []
    for row in text.splitlines():
        label = _LABEL.match(row)
        if label is not None and label.group(1) in functions:
            name, rows = label.group(1), []
        elif name and re.match(r"\s*\.size\s", row):
            yield name, rows
            name, rows = "", []
        elif name:
            rows.append(row)


def _labelled(name: str, rows: list[str]) -> Routine:
    labels: dict[str, int] = {}
    instructions: list[Instruction] = []
    line: int | None = None
    for row in rows:
        label, place = _LABEL.match(row), _LOC.match(row)
        if label is not None:
            labels[label.group(1)] = len(instructions)
        elif place is not None:
            line = int(place.group(1)) or line
        elif re.match(r"\s+[a-z{]", row):
            each = _instruction(row.strip(), line)
            instructions += [] if _is_padding(each) else [each]
    return Routine(
        name,
        tuple(
            replace(each, target=labels.get(each.operands)) if each.mnemonic[0] == "j" else each
            for each in instructions
        ),
    )


# ---- Either ------------------------------------------------------------------------------------

#: ``nop``, ``xchg %ax,%ax``, ``nopw 0x0(%rax,%rax,1)``, ``data16 cs nopw 0x0(%rax,%rax,1)`` ...
_PADDING = re.compile(r"(?:(?:data16|cs|rex\.\w+) )*nop[wl]?(?: |$)|xchg %ax,%ax$")


def _is_padding(each: Instruction) -> bool:
    """Whether it is one of the instructions that do nothing, of which each length has its own."""
    return _PADDING.match(str(each)) is not None


def _instruction(text: str, line: int | None) -> Instruction:
    text = re.sub(r"\s*#.*$", "", text)  # objdump's note on an address
    mnemonic, *rest = text.split(maxsplit=1)
    operands = re.sub(r",\s+", ",", rest[0].strip()) if rest else ""
    return Instruction(mnemonic, operands, line)
