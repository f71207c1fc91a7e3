"""Random IR that is nothing like RAdam, for what the passes promise in general.

Values stay within a few orders of magnitude of 1 and are positive, so that no operation loses
digits; differences and negations are only stored.
"""

from __future__ import annotations

from hypothesis import strategies as st

from radam_codegen.ir.builder import BodyBuilder
from radam_codegen.ir.dtypes import DType
from radam_codegen.ir.group import Body, GroupIR, Module
from radam_codegen.ir.ops import OpKind, Slot
from radam_codegen.ir.plan import (
    Clip,
    ClipKind,
    Decay,
    DecayKind,
    GroupPlan,
    TensorPlan,
    UpdatePlan,
)

__all__ = ["random_modules"]

_PRODUCTS = (OpKind.MUL, OpKind.MUL, OpKind.DIV)
_KINDS = (*_PRODUCTS, *_PRODUCTS, OpKind.ADD, OpKind.SQRT, OpKind.MAX, OpKind.MIN, OpKind.SELECT)


def _plan(dtype: DType) -> UpdatePlan:
    tensors = tuple(
        TensorPlan(
            name, (5,), dtype, dtype, dtype, False, lr_scale, Decay(DecayKind.L2, 0.9), need_clip
        )
        for name, lr_scale, need_clip in (("a", 0.8, True), ("b", 1.3, False))
    )
    clip = Clip(ClipKind.GLOBAL_NORM, 1.25)
    return UpdatePlan((GroupPlan(tensors, 0.75, 0.9375, 1.125, clip),))


@st.composite
def random_modules(draw: st.DrawFn) -> Module:
    """One kernel, not split, over two tensors."""
    plan = _plan(draw(st.sampled_from((DType.FLOAT32, DType.FLOAT64))))
    tensor_class = plan.groups[0].tensors[0].tensor_class
    b = BodyBuilder(tensor_class)
    flag = b.tensor_flag("need_clip")
    one, three_halves = b.const("one", 1.0), b.const("three_halves", 1.5)
    scalars = [
        one,
        three_halves,
        b.number("beta1"),
        b.number("epsilon"),
        b.tensor_number("lr_scale"),
        b.tensor_number("decay"),
    ]
    folded = b.cast("folded", _constant_tree(draw, b), b.compute_dtype)
    scalars.append(folded)
    rest = b.op(OpKind.SUB, "rest", one, b.number("beta2"))
    elements = [
        b.load(f"{slot}_{index}", slot)
        for slot in (Slot.PARAM, Slot.GRAD, Slot.MOMENT1, Slot.MOMENT2)
        for index in range(draw(st.integers(1, 2)))
    ]
    if draw(st.booleans()):
        wide = b.cast("wide", elements[0], DType.FLOAT64)
        total = b.op(OpKind.SUM_TENSOR, "total", wide)
        scalars.append(b.cast("norm", total, b.compute_dtype))
    conditions = [flag, b.op(OpKind.GT, "scalar_choice", scalars[-1], one)]
    elements.append(b.op(OpKind.MUL, "scaled", elements[-1], folded))
    conditions.append(b.const("always", True, DType.BOOL))
    conditions.append(b.const("never", False, DType.BOOL))
    for index in range(draw(st.integers(3, 6))):
        conditions.append(b.op(OpKind.LE, f"choice_{index}", elements[-1], three_halves))
        kind = draw(st.sampled_from(_KINDS))
        # Mostly the newest value, so that little of the whole is dead.
        operands = [draw(st.sampled_from((elements[-1], elements[-1], *elements)))]
        if kind is not OpKind.SQRT:
            operands.append(draw(st.sampled_from(elements + scalars)))
        if kind is OpKind.SELECT:
            other = draw(st.sampled_from(elements + scalars))
            operands = draw(st.permutations((elements[-1], other)))
            operands.insert(0, draw(st.sampled_from(conditions)))
        elif len(operands) == 2 and draw(st.booleans()):
            operands.reverse()
        elements.append(b.op(kind, f"value_{index}", *operands))
        if draw(st.integers(0, 4)) == 0:
            scalar_kind = draw(st.sampled_from(_PRODUCTS))
            pair = (draw(st.sampled_from(scalars)), draw(st.sampled_from(scalars)))
            scalars.append(b.op(scalar_kind, f"scalar_{index}", *pair))
    b.store(Slot.CLIPPED_GRAD, elements[-1])
    elements.append(b.load("handed_over", Slot.CLIPPED_GRAD))
    b.store(Slot.PARAM, _last(draw, b, elements, scalars))
    old, new = elements[-2], draw(st.sampled_from(elements))
    kept = b.op(OpKind.MUL, "kept", b.number("beta2"), old)
    added = b.op(OpKind.MUL, "added", rest, new)
    b.store(Slot.MOMENT1, b.op(OpKind.ADD, "average", kept, added))
    b.next_step()
    bodies = (Body(tensor_class, (), (), b.ops),)
    return Module(plan, (GroupIR(plan.groups[0].structure, False, bodies),), (0,))


def _constant_tree(draw: st.DrawFn, b: BodyBuilder) -> str:
    """Some arithmetic on float64 constants, with a result from 0.5 to 4."""
    wide = DType.FLOAT64
    six, seven = b.const("six", 6.1, wide), b.const("seven", 7.3, wide)
    difference = b.op(OpKind.SUB, "constant_difference", seven, six)
    trees = (
        (OpKind.SUB, seven, six),
        (OpKind.DIV, seven, six),
        (OpKind.SQRT, seven),
        (OpKind.MUL, difference, difference),
        (OpKind.ADD, difference, difference),
    )
    kind, *operands = draw(st.sampled_from(trees))
    return b.op(OpKind(kind), "constant_result", *operands)


def _last(draw: st.DrawFn, b: BodyBuilder, elements: list[str], scalars: list[str]) -> str:
    """A product taken from something, something taken from a product, or the like."""
    product = b.op(
        OpKind.MUL, "last_product", elements[-1], draw(st.sampled_from(elements + scalars))
    )
    other = draw(st.sampled_from(elements))
    pair = draw(st.permutations((product, other)))
    kind = draw(st.sampled_from((OpKind.ADD, OpKind.SUB, OpKind.SUB)))
    return b.op(kind, "last", *pair)
