"""Split phases: put every operation where it runs.

``reduce`` gets what the sums over a tensor's elements need, ``scalar`` all that is computed below
the rate of elements, ``each`` the rest. A load that both loops need stands in both.

Before::

    each:    %grad = load grad; %norm = sum_tensor(...); %scale = ...; %clipped = mul(%grad, %scale)

After::

    reduce:  %norm_grad = load grad; %norm = sum_tensor(...)
    scalar:  %scale = ...
    each:    %grad = load grad; %clipped = mul(%grad, %scale)
"""

from __future__ import annotations

from dataclasses import replace

from radam_codegen.ir.dtypes import Rate
from radam_codegen.ir.group import Body, GroupIR
from radam_codegen.ir.ops import Op, OpKind
from radam_codegen.passes.base import Pass, define, definitions, each_kernel, rename_operands
from radam_codegen.passes.dead import needed_by

__all__ = ["SPLIT_PHASES"]


def _is_element(op: Op) -> bool:
    return op.kind is OpKind.STORE or (op.result is not None and op.result.rate is Rate.ELEMENT)


def _split_body(body: Body) -> Body:
    ops = body.each
    sums = {define(op).name for op in ops if op.kind is OpKind.SUM_TENSOR}
    in_reduce = needed_by(ops, sums)
    stored = {operand for op in ops if op.kind is OpKind.STORE for operand in op.operands}
    known = definitions(ops)
    # What the sums need is computed again in each only as far as an element is needed there.
    in_each = _elements_needed(ops, stored, known)

    renamed = {
        name: f"norm_{name}"
        for name in in_reduce & in_each
        if define(known[name]).rate is Rate.ELEMENT
    }
    reduce = []
    for op in ops:
        if op.kind is OpKind.SUM_TENSOR or (
            _is_element(op) and op.result is not None and op.result.name in in_reduce
        ):
            op = rename_operands(op, renamed)
            if op.result is not None and op.result.name in renamed:
                op = replace(op, result=replace(op.result, name=renamed[op.result.name]))
            reduce.append(op)
    scalar = tuple(op for op in ops if not _is_element(op) and op.kind is not OpKind.SUM_TENSOR)
    each = tuple(
        op for op in ops if _is_element(op) and (op.result is None or op.result.name in in_each)
    )
    return replace(body, reduce=tuple(reduce), scalar=scalar, each=each)


def _elements_needed(ops: tuple[Op, ...], roots: set[str], known: dict[str, Op]) -> set[str]:
    """Like ``needed_by``, but not through values that come from an earlier phase."""
    needed = set(roots)
    for op in reversed(ops):
        if op.result is not None and op.result.name in needed and _is_element(op):
            needed.update(op.operands)
    return {name for name in needed if define(known[name]).rate is Rate.ELEMENT}


def _split(kernel: GroupIR) -> GroupIR:
    assert not kernel.split, "the phases are split once"
    return replace(kernel, split=True, bodies=tuple(map(_split_body, kernel.bodies)))


#: The pass.
SPLIT_PHASES = Pass("split_phases", each_kernel(_split), exact=True)
