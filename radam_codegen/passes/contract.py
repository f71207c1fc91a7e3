"""Contract: a product that is only added to something becomes one fused multiply-add.

It rounds once instead of twice, and it is written out, so that no compiler has to be trusted to
contract the same places on every machine.

Before::

    %decay_term = mul(%decay, %param)
    %decayed_grad = add(%clipped_grad, %decay_term)

After::

    %decayed_grad = fma(%decay, %param, %clipped_grad)
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
    use_counts,
)

__all__ = ["CONTRACT_FMA"]


def _contract(body: Body) -> Body:
    known = definitions(body.each)
    uses = use_counts(body.each)
    ops: list[Op] = []
    for op in body.each:
        ops.extend(_contracted(op, known, uses))
    return replace(body, each=tuple(ops))


def _contracted(op: Op, known: dict[str, Op], uses: dict[str, int]) -> tuple[Op, ...]:
    if op.kind not in (OpKind.ADD, OpKind.SUB) or define(op).rate is not Rate.ELEMENT:
        return (op,)
    left, right = op.operands

    def is_product(name: str) -> bool:
        product = known[name]
        return (
            product.kind is OpKind.MUL and uses[name] == 1 and define(product).rate is Rate.ELEMENT
        )

    if is_product(right):
        a, b = known[right].operands
        if op.kind is OpKind.ADD:
            return (replace(op, kind=OpKind.FMA, operands=(a, b, left)),)
        # left - a * b: negate the factor that is cheaper to negate, a scalar where there is one.
        if define(known[a]).rate > define(known[b]).rate:
            a, b = b, a
        minus = _negation(a, known)
        return (minus, replace(op, kind=OpKind.FMA, operands=(define(minus).name, b, left)))
    if is_product(left):
        a, b = known[left].operands
        if op.kind is OpKind.ADD:
            return (replace(op, kind=OpKind.FMA, operands=(a, b, right)),)
        minus = _negation(right, known)
        return (minus, replace(op, kind=OpKind.FMA, operands=(a, b, define(minus).name)))
    return (op,)


def _negation(name: str, known: dict[str, Op]) -> Op:
    source = define(known[name])
    value = Value(fresh_name(f"minus_{name}", known), source.dtype, source.rate)
    op = Op(OpKind.NEG, value, (name,))
    known[value.name] = op
    return op


#: The pass.
CONTRACT_FMA = Pass("contract_fma", each_body(_contract), exact=False)
