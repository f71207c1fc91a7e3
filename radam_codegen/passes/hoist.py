"""Hoist: compute everything that is not per element once, in float64.

Scalar operations move to float64 and are rounded to the body's own type only where an element needs
them. In float32 a beta of 0.99999999 is 1.

Before::

    %bias_correction1: float32 step = one_minus_pow(%beta1, %step_out)
    %moment1_hat: float32 element = div(%moment1_out, %bias_correction1)

After::

    %bias_correction1: float64 step = one_minus_pow(%beta1, %step_out)
    %bias_correction1_f32: float32 step = cast(%bias_correction1)
    %moment1_hat: float32 element = div(%moment1_out, %bias_correction1_f32)
"""

from __future__ import annotations

from dataclasses import replace

from radam_codegen.ir.dtypes import DType, Rate
from radam_codegen.ir.group import Body
from radam_codegen.ir.ops import Op, OpKind, Value
from radam_codegen.passes.base import Pass, define, definitions, each_body, rename_operands

__all__ = ["HOIST_SCALARS", "round_scalars"]


def _widen(body: Body) -> tuple[Op, ...]:
    """Retype scalar arithmetic to float64; casts between scalars of float type disappear."""
    ops: list[Op] = []
    renamed: dict[str, str] = {}
    known: dict[str, Op] = {}
    for original in body.each:
        op = rename_operands(original, renamed)
        result = op.result
        if result is not None and result.rate < Rate.ELEMENT and result.dtype.is_float:
            if op.kind is OpKind.CAST and define(known[op.operands[0]]).dtype.is_float:
                renamed[result.name] = op.operands[0]
                continue
            op = replace(op, result=replace(result, dtype=DType.FLOAT64))
        known.update(definitions((op,)))
        ops.append(op)
    return tuple(ops)


def round_scalars(ops: tuple[Op, ...], compute_dtype: DType) -> tuple[Op, ...]:
    """Round float64 scalars to ``compute_dtype`` where an element of that type needs them."""
    if compute_dtype is DType.FLOAT64:
        return ops
    rounded: list[Op] = []
    known: dict[str, Op] = definitions(ops)
    present: set[str] = set()
    for op in ops:
        if op.result is not None:
            if op.result.name in present:
                continue  # rounded before, for an earlier use
            present.add(op.result.name)
        if op.kind in (OpKind.CAST, OpKind.SUM_TENSOR) or not _computes(op, compute_dtype, known):
            rounded.append(op)
            continue
        names = {}
        for operand in op.operands:
            value = define(known[operand])
            if value.rate is Rate.ELEMENT or value.dtype is not DType.FLOAT64:
                continue
            narrow = f"{operand}_{compute_dtype.short}"
            names[operand] = narrow
            if narrow not in present:
                present.add(narrow)
                rounded.append(_narrowed(known[operand], narrow, compute_dtype))
        rounded.append(replace(op, operands=tuple(names.get(each, each) for each in op.operands)))
    return tuple(rounded)


def _computes(op: Op, dtype: DType, known: dict[str, Op]) -> bool:
    """Whether ``op`` is per element and works on elements of ``dtype``."""
    if op.result is not None and op.result.rate is not Rate.ELEMENT:
        return False
    return any(
        define(known[operand]).rate is Rate.ELEMENT and define(known[operand]).dtype is dtype
        for operand in op.operands
    )


def _narrowed(definition: Op, name: str, dtype: DType) -> Op:
    source = define(definition)
    value = Value(name, dtype, source.rate)
    if definition.kind is OpKind.CONST:
        return Op(OpKind.CONST, value, (), definition.attr, definition.comment)
    return Op(OpKind.CAST, value, (source.name,), comment=definition.comment)


def _hoist(body: Body) -> Body:
    return replace(body, each=round_scalars(_widen(body), body.tensor_class.compute_dtype))


#: The pass.
HOIST_SCALARS = Pass("hoist_scalars", each_body(_hoist), exact=False)
