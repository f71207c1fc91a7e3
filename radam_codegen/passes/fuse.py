"""Fuse: one loop instead of a stage each for clip, decay and update.

A stage hands its gradient to the next one through an array. The value is handed over directly
instead, the array goes, and a slot that was loaded by several stages is loaded once.

Before::

    %clipped_grad = mul(%grad, %clip_scale)
    store clipped_grad, %clipped_grad
    %grad_after_clip = load clipped_grad
    %param = load param
    ...
    %param_again = load param

After: ``%clipped_grad`` stands for ``%grad_after_clip`` and ``%param`` for ``%param_again``.
"""

from __future__ import annotations

from dataclasses import replace

from radam_codegen.ir.group import Body
from radam_codegen.ir.ops import Op, OpKind, Slot
from radam_codegen.passes.base import Pass, define, each_body, rename_operands

__all__ = ["FUSE"]

_TEMPORARIES = frozenset(slot.value for slot in Slot if slot.is_temporary)


def _fuse(body: Body) -> Body:
    ops: list[Op] = []
    holds: dict[object, str] = {}  # slot -> name of the value that it holds
    renamed: dict[str, str] = {}
    for original in body.each:
        op = rename_operands(original, renamed)
        if op.kind is OpKind.LOAD:
            if op.attr in holds:
                renamed[define(op).name] = holds[op.attr]
                continue
            holds[op.attr] = define(op).name
        elif op.kind is OpKind.STORE:
            holds[op.attr] = op.operands[0]
            if op.attr in _TEMPORARIES:
                continue
        ops.append(op)
    return replace(body, each=tuple(ops))


#: The pass.
FUSE = Pass("fuse_clip_and_decay", each_body(_fuse), exact=True)
