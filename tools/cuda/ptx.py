"""Reading PTX, what nvcc makes of a kernel before machine code, instruction by instruction."""

from __future__ import annotations

import re
from dataclasses import dataclass

__all__ = ["PtxInstruction", "PtxKernel", "read_ptx"]

_FILE = re.compile(r'^\s*\.file\s+(\d+)\s+"(.*)"')
_ENTRY = re.compile(r"^\s*\.visible \.entry (\w+)\(")
_LOC = re.compile(r"^\s*\.loc\s+(\d+) (\d+)\b")
_LABEL = re.compile(r"^\s*(\$\w+):$")
_INSTRUCTION = re.compile(r"^\s*(?:@(!?%p\d+)\s+)?([a-z][\w.]*)(?:\s+(.*?))?\s*;$")
_MOVED = re.compile(r"\.(?:v(\d))?\.?[a-z](\d+)$")


@dataclass(frozen=True)
class PtxInstruction:
    """One instruction.

    Attributes:
        guard: The predicate that it runs under, such as ``!%p1``; empty: it always runs.
        opcode: With all its parts, such as ``ld.global.v4.f32``.
        operands: As they are printed.
        line: Line of the source that it implements, where that is known.
        target: Index of the instruction that it jumps to, within its kernel.
    """

    guard: str
    opcode: str
    operands: str
    line: int | None = None
    target: int | None = None

    @property
    def bytes_moved(self) -> int:
        """Bytes per thread that a load or store moves; 0 for any other instruction."""
        found = _MOVED.search(self.opcode) if self.opcode.startswith(("ld.", "st.")) else None
        return int(found[1] or 1) * int(found[2]) // 8 if found is not None else 0


@dataclass(frozen=True)
class PtxKernel:
    """A kernel's PTX."""

    name: str
    instructions: tuple[PtxInstruction, ...]


def read_ptx(text: str, source: str) -> tuple[PtxKernel, ...]:
    """Read a module, kernel by kernel.

    Args:
        text: The module.
        source: Name of the file whose lines are wanted, which ``nvcc -lineinfo`` has put into it.
    """
    files = {number for number, name in _files(text) if name.rpartition("/")[2] == source}
    kernels = []
    for part in re.split(r"^(?=\s*\.visible \.entry )", text, flags=re.M)[1:]:
        heading = _ENTRY.match(part)
        if heading is not None:
            kernels.append(PtxKernel(heading[1], _instructions(part, files)))
    return tuple(kernels)


def _files(text: str) -> list[tuple[str, str]]:
    return [(found[1], found[2]) for found in map(_FILE.match, text.splitlines()) if found]


def _instructions(text: str, files: set[str]) -> tuple[PtxInstruction, ...]:
    labels: dict[str, int] = {}
    found: list[tuple[str, str, str, int | None]] = []
    line: int | None = None
    for row in text.splitlines():
        place, label, instruction = _LOC.match(row), _LABEL.match(row), _INSTRUCTION.match(row)
        if place is not None:
            line = int(place[2]) if place[1] in files else None
        elif label is not None:
            labels[label[1]] = len(found)
        elif instruction is not None:
            found.append((instruction[1] or "", instruction[2], instruction[3] or "", line))
    return tuple(
        PtxInstruction(
            guard,
            opcode,
            operands,
            line,
            labels.get(operands) if opcode.partition(".")[0] == "bra" else None,
        )
        for guard, opcode, operands, line in found
    )
