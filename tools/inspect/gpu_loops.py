"""Counting what matters in the hot loops of a CUDA kernel's code, as is done for CPUs.

A thread updates a packet of elements per iteration, one after the other in scalars. In phase
``each`` every element takes one square root, in phase ``reduce`` one product in float64.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence

from radam_codegen.tools.cuda.ptx import PtxInstruction, PtxKernel
from radam_codegen.tools.cuda.sass import SassInstruction, SassKernel
from radam_codegen.tools.inspect.assembly import HotLoop, LoopCounts
from radam_codegen.tools.inspect.gpu_code import GpuCode
from radam_codegen.tools.inspect.listing import Instruction, Routine, innermost_loops

__all__ = ["gpu_loops"]

_PHASES = {"radam_codegen_reduce": "reduce", "radam_codegen_each": "each"}

#: What each operation is called, in machine code and in PTX; a quotient begins with a reciprocal.
_SASS = {
    "sqrt": ("MUFU.RSQ", "MUFU.RSQ64H"),
    "div": ("MUFU.RCP", "MUFU.RCP64H"),
    "square": ("DMUL",),
    "fma": ("FFMA", "DFMA"),
    "load": ("LDG",),
    "store": ("STG",),
    "scalar": ("LDC", "ULDC"),
    "spilled": ("LDL",),
    "spill": ("STL",),
    "call": ("CALL",),
}
_PTX = {
    "sqrt": ("sqrt.rn",),
    "div": ("div.rn",),
    "square": ("mul.rn.f64",),
    "fma": ("fma.rn",),
    "load": ("ld.global",),
    "store": ("st.global",),
    "scalar": ("ld.param",),
    "spilled": ("ld.local",),
    "spill": ("st.local",),
    "call": ("call",),
}


def gpu_loops(
    code: GpuCode, bodies: Sequence[str], places: Mapping[int, tuple[str, str]]
) -> tuple[HotLoop, ...]:
    """Find and count the loops over elements.

    Args:
        code: The kernel's code.
        bodies: Names of the kernel's classes of tensors.
        places: Phase and body of each line of the source that implements an operation on elements;
            used where the instructions know their lines.

    Returns:
        The loops, phase by phase, and body by body where bodies are known, the main loop of each
        first: the one over packets.
    """
    routines = [*map(_of_sass, code.sass), *map(_of_ptx, code.ptx)]
    words = _SASS if code.sass else _PTX
    found: list[tuple[str, str | None, LoopCounts, tuple[Instruction, ...]]] = []
    for routine in routines:
        phase = _PHASES.get(routine.name)
        for loop in innermost_loops(routine) if phase is not None else ():
            counts = _count(loop, words, "square" if phase == "reduce" else "sqrt")
            if counts is not None and phase is not None:
                found.append((phase, _body(loop, bodies, places), counts, loop))
    rank = {name: number for number, name in enumerate(bodies)}
    order = list(_PHASES.values())
    found.sort(
        key=lambda each: (order.index(each[0]), rank.get(each[1] or "", -1), -each[2].elements)
    )
    most: dict[tuple[str, str | None], int] = {}
    for phase, body, counts, _ in found:
        most[phase, body] = max(most.get((phase, body), 0), counts.elements)
    return tuple(
        HotLoop(phase, body, counts.elements == most[phase, body], counts, loop)
        for phase, body, counts, loop in found
    )


def _of_sass(kernel: SassKernel) -> Routine:
    index = {each.address: at for at, each in enumerate(kernel.instructions)}
    instructions = []
    for at, each in enumerate(kernel.instructions):
        target = None if each.target is None else index.get(each.target)
        # The last instruction jumps to itself: nothing comes there.
        target = None if target == at else target
        instructions.append(
            Instruction(_guarded(each.guard, each.opcode), each.operands, None, target)
        )
    return Routine(kernel.name, tuple(instructions))


def _of_ptx(kernel: PtxKernel) -> Routine:
    instructions = (
        Instruction(_guarded(each.guard, each.opcode), each.operands, each.line, each.target)
        for each in kernel.instructions
    )
    return Routine(kernel.name, tuple(instructions))


def _guarded(guard: str, opcode: str) -> str:
    return f"@{guard} {opcode}" if guard else opcode


def _count(
    loop: Sequence[Instruction], words: Mapping[str, tuple[str, ...]], mark: str
) -> LoopCounts | None:
    """Count what one iteration does; None where it does not work on elements."""
    opcodes = [each.mnemonic.rpartition(" ")[2] for each in loop]

    def all_of(kind: str) -> list[str]:
        return [
            opcode
            for opcode in opcodes
            if any(opcode == word or opcode.startswith(f"{word}.") for word in words[kind])
        ]

    elements, loads, stores = len(all_of(mark)), all_of("load"), all_of("store")
    if not elements or not loads:
        return None
    calls = [each.operands for each, opcode in zip(loop, opcodes) if opcode in all_of("call")]
    return LoopCounts(
        vector_bits=0,
        elements=elements,
        instructions=len(loop),
        loads=len(loads),
        stores=len(stores),
        loaded_bytes=sum(map(_bytes_moved, loads)),
        stored_bytes=sum(map(_bytes_moved, stores)),
        fma=len(all_of("fma")),
        sqrt=len(all_of("sqrt")),
        div=len(all_of("div")),
        spill_loads=len(all_of("spilled")),
        spill_stores=len(all_of("spill")),
        scalar_loads=len(all_of("scalar")),
        calls=tuple(calls),
    )


def _bytes_moved(opcode: str) -> int:
    if opcode.isupper():
        return SassInstruction(0, "", opcode, "").bytes_moved
    return PtxInstruction("", opcode, "").bytes_moved


def _body(
    loop: Sequence[Instruction], bodies: Sequence[str], places: Mapping[int, tuple[str, str]]
) -> str | None:
    """By the lines of the source, else the only one that there is."""
    said = [places[each.line][1] for each in loop if each.line in places and each.line is not None]
    if said:
        return max(sorted(set(said)), key=said.count)
    return bodies[0] if len(bodies) == 1 else None
