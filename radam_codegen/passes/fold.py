"""Fold: compute what is known, drop what does nothing.

Before::

    %two_over_three = div(2.0, 3.0)
    %same = cast(%x)            // to the type that %x has
    %product = mul(%x, 1.0)
    %chosen = select(true, %a, %b)

After: a constant 0.666..., ``%x``, ``%x``, and ``%a``.
"""

from __future__ import annotations

import math
from dataclasses import replace

from radam_codegen.ir.dtypes import DType
from radam_codegen.ir.group import Body
from radam_codegen.ir.ops import Op, OpKind
from radam_codegen.passes.base import Pass, define, definitions, each_body, rename_operands

__all__ = ["FOLD"]


def _constant(definition: Op) -> float | None:
    """The operand's value where it is a floating-point constant."""
    if definition.kind is OpKind.CONST and define(definition).dtype.is_float:
        return float(definition.attr)  # type: ignore[arg-type]
    return None


def _computed(op: Op, values: list[float]) -> float | None:
    """Result of a float64 operation on constants, or None where it is left to run time."""
    if op.kind is OpKind.ADD:
        return values[0] + values[1]
    if op.kind is OpKind.SUB:
        return values[0] - values[1]
    if op.kind is OpKind.MUL:
        return values[0] * values[1]
    if op.kind is OpKind.DIV and values[1] != 0.0:
        return values[0] / values[1]
    if op.kind is OpKind.NEG:
        return -values[0]
    if op.kind is OpKind.SQRT and values[0] >= 0.0:
        return math.sqrt(values[0])
    return None


def _same_as(op: Op, known: dict[str, Op]) -> str | None:
    """Name of the operand that ``op`` merely repeats, if it does."""
    operands = [known[name] for name in op.operands]
    if op.kind is OpKind.CAST and define(operands[0]).dtype is define(op).dtype:
        return op.operands[0]
    if op.kind is OpKind.MUL:
        if _constant(operands[1]) == 1.0:
            return op.operands[0]
        if _constant(operands[0]) == 1.0:
            return op.operands[1]
    if op.kind is OpKind.DIV and _constant(operands[1]) == 1.0:
        return op.operands[0]
    if op.kind is OpKind.SELECT:
        if op.operands[1] == op.operands[2]:
            return op.operands[1]
        if operands[0].kind is OpKind.CONST:
            return op.operands[1] if operands[0].attr else op.operands[2]
    return None


def _fold(body: Body) -> Body:
    ops: list[Op] = []
    known: dict[str, Op] = {}
    renamed: dict[str, str] = {}
    for original in body.each:
        op = rename_operands(original, renamed)
        if op.result is not None and op.operands:
            same = _same_as(op, known)
            # A value of a lower rate is no stand-in: its users would change their rate with it.
            if same is not None and define(known[same]).rate is op.result.rate:
                renamed[op.result.name] = same
                continue
            op = _as_constant(op, known) or op
        known.update(definitions((op,)))
        ops.append(op)
    return replace(body, each=tuple(ops))


def _as_constant(op: Op, known: dict[str, Op]) -> Op | None:
    # Only float64, where Python's own arithmetic is the operation's, so that no bit changes.
    result = define(op)
    values = [_constant(known[name]) for name in op.operands]
    if result.dtype is not DType.FLOAT64 or any(value is None for value in values):
        return None
    if any(define(known[name]).dtype is not DType.FLOAT64 for name in op.operands):
        return None
    computed = _computed(op, [value for value in values if value is not None])
    if computed is None or math.isnan(computed):
        return None
    return Op(OpKind.CONST, result, (), computed, op.comment)


#: The pass.
FOLD = Pass("fold", each_body(_fold), exact=True)
