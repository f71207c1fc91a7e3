"""Clips by global norm: one factor, from the norms of many gradients, that multiplies them all."""

from __future__ import annotations

import math
from dataclasses import dataclass, field

from radam_codegen.frontend.native.graph import Flow, Operator
from radam_codegen.frontend.native.numbers import as_written
from radam_codegen.ir.plan import Clip, ClipKind

__all__ = ["GlobalNorm", "GlobalNorms"]


@dataclass
class GlobalNorm:
    """One clip by global norm, as a program computes it."""

    clip: Clip
    #: The division whose result multiplies the gradients.
    factor: Operator
    #: All that computes it from the gradients.
    makers: list[Operator]
    #: Gradients whose norm counts.
    grads: list[Flow]
    #: The multiplications of gradients by the factor.
    uses: list[Operator]
    #: Casts of the factor.
    casts: list[Operator]
    #: Why it stays; empty as long as nothing speaks against taking it in.
    refused: str = ""


@dataclass
class GlobalNorms:
    """The clips by global norm of one block."""

    _found: dict[Operator, GlobalNorm | None] = field(default_factory=dict)

    def read(self, multiply: Operator) -> GlobalNorm | None:
        """The clip that a multiplication of a gradient belongs to, None if it is of no clip."""
        if multiply.kind != "multiply":
            return None
        factor = _through_cast(multiply.one("Y"))
        if factor is None or factor.kind != "divide":
            return None
        if factor not in self._found:
            self._found[factor] = _read(factor)
        found = self._found[factor]
        return found if found is not None and multiply in found.uses else None

    def refuse(self, factor: Operator, reason: str) -> None:
        """Leave a clip where it is."""
        found = self._found[factor]
        assert found is not None
        found.refused = found.refused or reason

    def of(self, factor: Operator) -> GlobalNorm:
        """The clip of a factor that was read."""
        found = self._found[factor]
        assert found is not None
        return found


def _through_cast(flow: Flow | None) -> Operator | None:
    maker = None if flow is None else flow.maker
    if maker is not None and maker.kind == "cast":
        source = maker.one("X")
        return None if source is None else source.maker
    return maker


def _read(factor: Operator) -> GlobalNorm | None:
    """``bound / max(sqrt(sum of squared norms), bound)``."""
    bound, largest = factor.one("X"), factor.one("Y")
    if bound is None or largest is None or largest.maker is None:
        return None
    maximum = largest.maker
    if maximum.kind != "maximum":
        return None
    number = _constant(bound)
    sides = (maximum.one("X"), maximum.one("Y"))
    roots = [side for side in sides if side is not None and _constant(side) != number]
    if number is None or not 0.0 < number < math.inf:
        return None
    if len(roots) != 1 or roots[0].maker is None:
        return None
    root = roots[0].maker
    total = root.one("X")
    if root.kind != "sqrt" or total is None:
        return None
    makers = [factor, maximum, root]
    grads: list[Flow] = []
    if not _read_sum(total, makers, grads):
        return None
    casts = [op for op in factor.result.readers if op.kind == "cast"]
    uses = [op for op in factor.result.readers if op.kind == "multiply"]
    for cast in casts:
        uses += [op for op in cast.result.readers if op.kind == "multiply"]
    found = GlobalNorm(
        Clip(ClipKind.GLOBAL_NORM, as_written(number)), factor, makers, grads, uses, casts
    )
    found.refused = _refusal(found)
    return found


def _read_sum(total: Flow, makers: list[Operator], grads: list[Flow]) -> bool:
    """Go through sums of sums down to the squared norms of gradients."""
    op = total.maker
    if op is None or _numel(total) != 1:
        return False
    if op.kind == "squared_l2_norm":
        grad = op.one("X")
        if grad is None:
            return False
        makers.append(op)
        grads.append(grad)
        return True
    if op.kind == "reduce_sum":
        stack = op.one("X")
        if stack is None or stack.maker is None or stack.maker.kind != "stack":
            return False
        makers += [op, stack.maker]
        parts = stack.maker.inputs.get("X", ())
    elif op.kind in ("sum", "cast"):
        makers.append(op)
        parts = op.inputs.get("X", ())
    else:
        return False
    return bool(parts) and all(_read_sum(part, makers, grads) for part in parts)


def _refusal(found: GlobalNorm) -> str:
    inside = {*found.makers, *found.casts}
    for op in inside:
        allowed = {*inside, *(found.uses if op in (found.factor, *found.casts) else ())}
        for flow in op.outputs:
            if flow.kept:
                return f"{flow.name!r}: {flow.kept}"
            others = [reader for reader in flow.readers if reader not in allowed]
            if others:
                return f"{others[0].name} reads the norm, too"
    clipped = [op.one("X") for op in found.uses]
    if len(set(found.grads)) != len(found.grads) or set(clipped) != set(found.grads):
        return "the norm is not that of the gradients that it clips"
    return ""


def _constant(flow: Flow) -> float | None:
    maker = flow.maker
    if maker is None or maker.kind != "full":
        return None
    value = maker.numbers["value"]
    return None if value is None else float(value)


def _numel(flow: Flow) -> int:
    product = 1
    for extent in flow.shape:
        product *= extent
    return product
