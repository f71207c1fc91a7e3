"""Remove the dead: keep only what a store needs.

Before::

    %moment1_hat = div(%moment1_out, %bias_correction1)   // nobody uses it any more
    store moment1, %moment1_out

After::

    store moment1, %moment1_out
"""

from __future__ import annotations

from dataclasses import replace

from radam_codegen.ir.group import Body
from radam_codegen.ir.ops import Op
from radam_codegen.passes.base import Pass, each_body

__all__ = ["REMOVE_DEAD", "needed_by"]


def needed_by(ops: tuple[Op, ...], roots: set[str]) -> set[str]:
    """Names of all values that those in ``roots`` are computed from, and these themselves."""
    needed = set(roots)
    for op in reversed(ops):
        if op.result is not None and op.result.name in needed:
            needed.update(op.operands)
    return needed


def _remove_dead(body: Body) -> Body:
    stored = {operand for op in body.each if op.result is None for operand in op.operands}
    alive = needed_by(body.each, stored)
    kept = tuple(op for op in body.each if op.result is None or op.result.name in alive)
    return replace(body, each=kept)


#: The pass.
REMOVE_DEAD = Pass("remove_dead", each_body(_remove_dead), exact=True)
