"""Reading SASS, the machine code of NVIDIA's GPUs, as ``cuobjdump --dump-sass`` prints it."""

from __future__ import annotations

import re
from collections import Counter
from collections.abc import Iterator
from dataclasses import dataclass

__all__ = ["SassInstruction", "SassKernel", "SassLoop", "read_sass"]

_ARCHITECTURE = re.compile(r"^\s*(?:arch = |code for )sm_(\d+)[a-z]?\s*$")
_FUNCTION = re.compile(r"^\s*Function : (\S+)\s*$")
_INSTRUCTION = re.compile(
    r"^\s*/\*(?P<address>[0-9a-f]+)\*/\s+(?:@(?P<guard>!?U?P\w+)\s+)?"
    r"(?P<opcode>[A-Z][\w.]*)\s*(?P<operands>[^;]*?)\s*;"
)
_TARGET = re.compile(r"(?<!\w)0x[0-9a-f]+$")


@dataclass(frozen=True)
class SassInstruction:
    """One instruction.

    Attributes:
        address: Bytes from the beginning of its kernel.
        guard: The predicate that it runs under, such as ``!P0``; empty: it always runs.
        opcode: With everything that is appended to it, such as ``LDG.E.128``.
        operands: As they are printed.
    """

    address: int
    guard: str
    opcode: str
    operands: str

    @property
    def name(self) -> str:
        """The opcode alone, such as ``LDG``."""
        return self.opcode.partition(".")[0]

    @property
    def modifiers(self) -> tuple[str, ...]:
        """What is appended to the opcode, such as ``E`` and ``128``."""
        return tuple(self.opcode.split(".")[1:])

    @property
    def bytes_moved(self) -> int:
        """Bytes per thread that a load or store moves; 0 for any other instruction."""
        if self.name not in _MEMORY:
            return 0
        for modifier in self.modifiers:
            if modifier in ("U8", "S8"):
                return 1
            if modifier in ("U16", "S16"):
                return 2
            if modifier in ("64", "128"):
                return int(modifier) // 8
        return 4

    @property
    def computes_in_float64(self) -> bool:
        """Whether it is arithmetic, a comparison or a conversion in double precision."""
        return (
            self.name in ("DADD", "DMUL", "DFMA", "DSETP", "DMNMX", "DSET")
            or (self.name == "MUFU" and self.opcode.endswith("64H"))
            or (self.name in ("F2F", "I2F", "F2I") and "F64" in self.modifiers)
        )

    @property
    def target(self) -> int | None:
        """The address that it jumps to, where it is a jump whose target is known."""
        if self.name != "BRA":
            return None
        found = _TARGET.search(self.operands)
        return None if found is None else int(found.group(), 16)


_MEMORY = {
    *("LDG", "STG"),  # global memory
    *("LDL", "STL"),  # local memory: a thread's own, in global memory
    *("LDS", "STS"),  # shared memory
    *("LD", "ST"),  # any of them
}


@dataclass(frozen=True)
class SassLoop:
    """A loop without a loop inside.

    Attributes:
        instructions: From the first one to the jump back.
    """

    instructions: tuple[SassInstruction, ...]

    def count(self, opcode: str) -> int:
        """How many instructions there are whose opcode begins with all parts of this one."""
        wanted = opcode.split(".")
        return sum(each.opcode.split(".")[: len(wanted)] == wanted for each in self.instructions)

    def names(self) -> Counter[str]:
        """How often each opcode occurs, without what is appended."""
        return Counter(each.name for each in self.instructions)

    def accesses(self, name: str) -> list[SassInstruction]:
        """The instructions with an opcode such as ``LDG``."""
        return [each for each in self.instructions if each.name == name]

    @property
    def is_over_packets(self) -> bool:
        """Whether global memory is read 128 bits at a time in it."""
        return any(each.bytes_moved == 16 for each in self.accesses("LDG"))


@dataclass(frozen=True)
class SassKernel:
    """A kernel's machine code for one architecture: 90 is ``sm_90``."""

    architecture: int
    name: str
    instructions: tuple[SassInstruction, ...]

    def loops(self) -> tuple[SassLoop, ...]:
        """The loops that have no loop inside, in the order of their addresses."""
        spans = sorted(
            (each.target, each.address)
            for each in self.instructions
            # The last instruction jumps to itself: nothing comes there.
            if each.target is not None and each.target < each.address
        )
        inner = [
            (first, last)
            for first, last in spans
            if not any(
                first <= begin and end <= last and (begin, end) != (first, last)
                for begin, end in spans
            )
        ]
        return tuple(
            SassLoop(tuple(each for each in self.instructions if first <= each.address <= last))
            for first, last in inner
        )


def read_sass(text: str) -> tuple[SassKernel, ...]:
    """Read what ``cuobjdump --dump-sass`` printed of a library, in its order.

    Args:
        text: For any number of architectures.

    Examples:
        >>> from radam_codegen.tools.cuda.sass import read_sass
        >>> lines = ["code for sm_90", "Function : f", "/*0000*/ @P0 LDG.E.128 R4, [R2] ;"]
        >>> [kernel] = read_sass(chr(10).join(lines))
        >>> kernel.architecture, kernel.instructions[0].bytes_moved
        (90, 16)
    """
    return tuple(_kernels(text))


def _kernels(text: str) -> Iterator[SassKernel]:
    architecture, name = 0, ""
    found: list[SassInstruction] = []
    for line in text.splitlines():
        instruction = _INSTRUCTION.match(line)
        if instruction is not None:
            if name:
                guard = instruction["guard"] or ""
                address = int(instruction["address"], 16)
                found.append(
                    SassInstruction(
                        address, guard, instruction["opcode"], instruction["operands"].strip()
                    )
                )
            continue
        heading = _ARCHITECTURE.match(line) or _FUNCTION.match(line)
        if heading is None:
            continue
        if name:
            yield SassKernel(architecture, name, tuple(found))
        found = []
        if heading.re is _ARCHITECTURE:
            architecture, name = int(heading[1]), ""
        else:
            name = heading[1]
    if name:
        yield SassKernel(architecture, name, tuple(found))
