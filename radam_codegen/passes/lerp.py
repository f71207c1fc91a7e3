"""Lerp: write a moving average as a step from the old value towards the new one.

``beta * x + (1 - beta) * y`` becomes ``x + (1 - beta) * (y - x)``. With beta rounded to float32 the
two weights no longer add up to one: for beta2 = 0.999 the average settles 1.3e-5 off, which the
parameters feel as a learning rate that is 6e-6 off. The second form settles on ``y`` whatever
``1 - beta`` is rounded to, and costs no more.

Before::

    %moment1_kept = mul(%beta1, %moment1)
    %moment1_added = mul(%one_minus_beta1, %g)
    %moment1_out = add(%moment1_kept, %moment1_added)

After::

    %moment1_change = sub(%g, %moment1)
    %moment1_added = mul(%one_minus_beta1, %moment1_change)
    %moment1_out = add(%moment1, %moment1_added)
"""

from __future__ import annotations

from dataclasses import replace

from radam_codegen.ir.dtypes import Rate
from radam_codegen.ir.group import Body
from radam_codegen.ir.ops import Op, OpKind, Value
from radam_codegen.passes.base import (
    Pass,
    define,
    definitions,
    each_body,
    fresh_name,
)

__all__ = ["LERP"]


def _unrounded(name: str, known: dict[str, Op]) -> str:
    """Name of the scalar behind a rounding of it."""
    definition = known[name]
    return definition.operands[0] if definition.kind is OpKind.CAST else name


def _weight_and_value(name: str, known: dict[str, Op]) -> tuple[str, str] | None:
    """Split ``weight * value`` into its scalar and its element."""
    op = known[name]
    if op.kind is not OpKind.MUL or define(op).rate is not Rate.ELEMENT:
        return None
    for weight, value in (op.operands, op.operands[::-1]):
        if define(known[weight]).rate < define(known[value]).rate:
            return weight, value
    return None


def _is_rest_of_one(rest: str, weight: str, known: dict[str, Op]) -> bool:
    """Whether ``rest`` is ``1 - weight``."""
    op = known[_unrounded(rest, known)]
    if op.kind is not OpKind.SUB:
        return False
    one = known[op.operands[0]]
    return (
        one.kind is OpKind.CONST and one.attr == 1.0 and op.operands[1] == _unrounded(weight, known)
    )


def _lerp(body: Body) -> Body:
    known = definitions(body.each)
    ops: list[Op] = []
    for op in body.each:
        rewritten = _as_lerp(op, known)
        ops.extend(rewritten if rewritten is not None else (op,))
    return replace(body, each=tuple(ops))


def _as_lerp(op: Op, known: dict[str, Op]) -> tuple[Op, ...] | None:
    if op.kind is not OpKind.ADD or define(op).rate is not Rate.ELEMENT:
        return None
    kept = _weight_and_value(op.operands[0], known)
    added = _weight_and_value(op.operands[1], known)
    if kept is None or added is None or not _is_rest_of_one(added[0], kept[0], known):
        return None
    (_, old), (rest, new) = kept, added
    dtype = define(op).dtype
    change = Value(fresh_name(f"{old}_change", known), dtype, Rate.ELEMENT)
    step = Value(fresh_name(f"{old}_step", known), dtype, Rate.ELEMENT)
    return (
        Op(OpKind.SUB, change, (new, old), comment="from the old average to the new value"),
        Op(OpKind.MUL, step, (rest, change.name), comment="(1 - beta) of the way"),
        replace(op, operands=(old, step.name)),
    )


#: The pass.
LERP = Pass("lerp", each_body(_lerp), exact=False)
