"""What the IR of a kernel says that its machine code must be, per packet of elements."""

from __future__ import annotations

from dataclasses import dataclass

from radam_codegen.ir.dtypes import DType
from radam_codegen.ir.group import Body, slot_dtype
from radam_codegen.ir.ops import OpKind, Slot
from radam_codegen.tools.cuda.sass import SassLoop

__all__ = ["PacketLoop", "expected_loop", "found_loop"]

_PACKET_BYTES = 16

#: A correctly rounded quotient or root is an approximation by the special function unit, which is
#: refined by so many fma, and a call for operands near the ends of the range.
_FMA_PER_DIV = {DType.FLOAT32: 5, DType.FLOAT64: 7}
_FMA_PER_SQRT = {DType.FLOAT32: 2, DType.FLOAT64: 5}


@dataclass(frozen=True, order=True)
class PacketLoop:
    """Numbers of a loop that updates a packet of elements per thread and round.

    Attributes:
        dtype: In which the elements are updated.
        elements: Of a packet: as many of the narrowest type as fill 128 bits.
        fma: Instructions ``FFMA``, or ``DFMA`` in float64.
        reciprocals: Instructions ``MUFU.RCP``, or ``MUFU.RCP64H``.
        roots: Instructions ``MUFU.RSQ``, or ``MUFU.RSQ64H``.
        loads: From global memory, 128 bits each.
        stores: To global memory, 128 bits each.
        others: Accesses to global memory of fewer bits, and any to local memory.
        doubles: In a float32 loop: instructions that compute in float64.
    """

    dtype: str
    elements: int
    fma: int
    reciprocals: int
    roots: int
    loads: int
    stores: int
    others: int = 0
    doubles: int = 0


def expected_loop(body: Body) -> PacketLoop:
    """What a body's ``each`` phase must become."""
    dtype = body.tensor_class.compute_dtype
    touched = {
        kind: {Slot(str(op.attr)) for op in body.each if op.kind is kind}
        for kind in (OpKind.LOAD, OpKind.STORE)
    }
    sizes = {
        slot: slot_dtype(body.tensor_class, slot).size
        for slots in touched.values()
        for slot in slots
    }
    elements = _PACKET_BYTES // min(sizes.values())
    count = {kind: sum(op.kind is kind for op in body.each) for kind in OpKind}
    divisions, roots = count[OpKind.DIV], count[OpKind.SQRT]
    fma = count[OpKind.FMA] + divisions * _FMA_PER_DIV[dtype] + roots * _FMA_PER_SQRT[dtype]
    accesses = {
        kind: sum(elements * sizes[slot] // _PACKET_BYTES for slot in slots)
        for kind, slots in touched.items()
    }
    return PacketLoop(
        dtype.value,
        elements,
        elements * fma,
        elements * divisions,
        elements * roots,
        accesses[OpKind.LOAD],
        accesses[OpKind.STORE],
    )


def found_loop(loop: SassLoop, body: Body) -> PacketLoop:
    """The same numbers of a loop in the machine code, as one that updates such a body."""
    dtype = body.tensor_class.compute_dtype
    double = dtype is DType.FLOAT64
    suffix = "64H" if double else ""
    loads, stores = loop.accesses("LDG"), loop.accesses("STG")
    local = [each for name in ("LDL", "STL", "LD", "ST") for each in loop.accesses(name)]
    whole = [each for each in (*loads, *stores) if each.bytes_moved == _PACKET_BYTES]
    return PacketLoop(
        dtype.value,
        expected_loop(body).elements,
        loop.count("DFMA" if double else "FFMA"),
        loop.count(f"MUFU.RCP{suffix}"),
        loop.count(f"MUFU.RSQ{suffix}"),
        sum(each.bytes_moved == _PACKET_BYTES for each in loads),
        sum(each.bytes_moved == _PACKET_BYTES for each in stores),
        len(loads) + len(stores) - len(whole) + len(local),
        0 if double else sum(each.computes_in_float64 for each in loop.instructions),
    )
