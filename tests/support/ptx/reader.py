"""From the text of a PTX module to basic blocks."""

from __future__ import annotations

import re
from dataclasses import dataclass, field

__all__ = ["Block", "Entry", "Instruction", "PtxError", "read_module"]


class PtxError(Exception):
    """PTX that is not understood, or that does what it must not; the message has the line."""


@dataclass(frozen=True)
class Instruction:
    """One instruction, such as ``@!%p1 bra $L__BB0_2``."""

    line: int
    text: str
    guard: str
    opcode: str
    operands: tuple[str, ...]

    def error(self, reason: str) -> PtxError:
        return PtxError(f"line {self.line}: {self.text}\n{reason}")


@dataclass
class Block:
    """Instructions without a jump or a barrier before the last one."""

    instructions: list[Instruction] = field(default_factory=list)


@dataclass
class Entry:
    """A kernel."""

    name: str
    #: Bytes of each parameter, by name.
    params: dict[str, int] = field(default_factory=dict)
    #: Bytes of each array in shared memory, by name, and what its address is a multiple of.
    shared: dict[str, tuple[int, int]] = field(default_factory=dict)
    #: Bits of registers, by what their names begin with.
    registers: dict[str, int] = field(default_factory=dict)
    threads: int = 0
    blocks: list[Block] = field(default_factory=list)
    labels: dict[str, int] = field(default_factory=dict)


_SIZES = {"b8": 1, "u8": 1, "b16": 2, "b32": 4, "u32": 4, "f32": 4, "b64": 8, "u64": 8, "f64": 8}
_ENTRY = re.compile(r"\.visible \.entry (\w+)\($")
_PARAM = re.compile(r"\.param (?:\.align \d+ )?\.([buf]\d+) (\w+)(?:\[(\d+)\])?,?$")
_SHARED = re.compile(r"\.shared \.align (\d+) \.([buf]\d+) (\w+)(?:\[(\d+)\])?;$")
_REGISTER = re.compile(r"\.reg \.(pred|[buf]\d+)\s+(%[a-z]+)<\d+>;$")
_THREADS = re.compile(r"\.maxntid (\d+)(?:, 1, 1)?$")
_LABEL = re.compile(r"(\$\w+):$")
_INSTRUCTION = re.compile(r"(?:@(!?%p\d+)\s+)?([a-z][\w.]*)(?:\s+(.*?))?\s*;$")
#: Says nothing about results.
_IGNORED = re.compile(
    r"\.(version|target|address_size|minnctapersm|pragma|visible \.func)\b|//|[{}()]|$"
)
_ENDS_A_BLOCK = ("bra", "bar", "ret")


def read_module(text: str) -> dict[str, Entry]:
    """Read a module, and return its kernels by name.

    Raises:
        PtxError: A line is none of those that are known.
    """
    entries: dict[str, Entry] = {}
    entry = None
    for number, raw in enumerate(text.splitlines(), 1):
        line = raw.strip()
        heading = _ENTRY.match(line)
        if heading:
            entry = Entry(heading[1])
            entries[heading[1]] = entry
        elif _IGNORED.match(line):
            continue
        elif entry is None:
            raise PtxError(f"line {number}: {line}\nnothing is known of it outside of a kernel")
        else:
            _read_line(entry, number, line)
    return entries


def _read_line(entry: Entry, number: int, line: str) -> None:
    found = _PARAM.match(line)
    if found:
        entry.params[found[2]] = _SIZES[found[1]] * int(found[3] or 1)
        return
    found = _SHARED.match(line)
    if found:
        entry.shared[found[3]] = (_SIZES[found[2]] * int(found[4] or 1), int(found[1]))
        return
    found = _REGISTER.match(line)
    if found:
        entry.registers[found[2]] = 1 if found[1] == "pred" else 8 * _SIZES[found[1]]
        return
    found = _THREADS.match(line)
    if found:
        entry.threads = int(found[1])
        return
    found = _LABEL.match(line)
    if found:
        entry.labels[found[1]] = len(entry.blocks)
        entry.blocks.append(Block())
        return
    found = _INSTRUCTION.match(line)
    if not found:
        raise PtxError(f"line {number}: {line}\nnothing is known of such a line")
    operands = tuple(part.strip() for part in re.split(r",(?![^{]*\})", found[3] or "") if part)
    instruction = Instruction(number, line, found[1] or "", found[2], operands)
    if not entry.blocks or _ends(entry.blocks[-1]):
        entry.blocks.append(Block())
    entry.blocks[-1].instructions.append(instruction)


def _ends(block: Block) -> bool:
    last = block.instructions[-1].opcode if block.instructions else ""
    return last.partition(".")[0] in _ENDS_A_BLOCK
