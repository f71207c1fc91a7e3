"""Gather: bring the scalar factors of a product together, so that an element meets them once.

A chain of products and quotients becomes elements over elements times one scalar, and a choice
between two such chains by a scalar condition becomes a choice between their scalars.

Before::

    %moment1_hat = div(%moment1_out, %bias_correction1)
    %plain_update = mul(%tensor_lr, %moment1_hat)
    %adaptive_rate = div(%sqrt_bias_correction2, %adaptive_denominator)
    %adaptive_update = mul(mul(%plain_update, %rectification), %adaptive_rate)
    %update = select(%rectified, %adaptive_update, %plain_update)

After, with ``scale`` and ``divisor`` short for longer names::

    %scale = select(%rectified, lr * r_t * sqrt_bias_correction2 / bias_correction1,
                                lr / bias_correction1)             // float64, once per tensor
    %divisor = select(%rectified, %adaptive_denominator, 1)        // per element
    %direction = div(%moment1_out, %divisor)
    %update = mul(%scale, %direction)
"""

from __future__ import annotations

from dataclasses import dataclass, replace

from radam_codegen.ir.dtypes import DType, Rate
from radam_codegen.ir.group import Body
from radam_codegen.ir.ops import Op, OpKind, Value
from radam_codegen.passes.base import Pass, define, definitions, each_body, fresh_name
from radam_codegen.passes.hoist import round_scalars

__all__ = ["GATHER_SCALARS"]


#: What an operation that gathers says of itself.
_COMMENTS = {
    OpKind.MUL: "gathered factors",
    OpKind.DIV: "{0} over {1}",
    OpKind.SELECT: "gathered choice by {0}",
}


@dataclass(frozen=True)
class _Chain:
    """A product: elements and scalars, above and below the line, by name."""

    elements: tuple[str, ...] = ()
    divisors: tuple[str, ...] = ()
    scalars: tuple[str, ...] = ()
    scalar_divisors: tuple[str, ...] = ()

    def times(self, other: _Chain) -> _Chain:
        return _Chain(
            self.elements + other.elements,
            self.divisors + other.divisors,
            self.scalars + other.scalars,
            self.scalar_divisors + other.scalar_divisors,
        )

    def inverse(self) -> _Chain:
        return _Chain(self.divisors, self.elements, self.scalar_divisors, self.scalars)


def _gather(body: Body) -> Body:
    gatherer = _Gatherer(body)
    gathered = gatherer.run(body.each)
    return replace(body, each=round_scalars(gathered, body.tensor_class.compute_dtype))


class _Gatherer:
    """Rewrites the ends of chains in one body; what they no longer need is dead afterwards."""

    def __init__(self, body: Body) -> None:
        self._dtype = body.tensor_class.compute_dtype
        self._known = definitions(body.each)
        users = {name: [op for op in body.each if name in op.operands] for name in self._known}
        links = {name for name, op in self._known.items() if self._is_link(op)}
        #: Links that only other links use: taking them apart leaves nothing behind.
        self._inner = {
            name
            for name in links
            if users[name]
            and all(op.result is not None and op.result.name in links for op in users[name])
        }
        self._ends = links - self._inner
        self._out: list[Op] = []

    def run(self, ops: tuple[Op, ...]) -> tuple[Op, ...]:
        for op in ops:
            if op.result is not None and op.result.name in self._ends:
                self._rebuild(op)
            else:
                self._out.append(op)
        return tuple(self._out)

    def _is_link(self, op: Op) -> bool:
        """Whether ``op`` is a product, a quotient, or a choice by a scalar, of elements.

        A square is not: to take apart what is squared would square its scale as well, which a
        float32 may not hold.
        """
        if op.result is None or op.result.rate is not Rate.ELEMENT:
            return False
        if op.result.dtype is not self._dtype:
            return False
        if op.kind is OpKind.SELECT:
            return define(self._known[op.operands[0]]).rate < Rate.ELEMENT
        return op.kind is OpKind.DIV or (op.kind is OpKind.MUL and op.operands[0] != op.operands[1])

    def _chain(self, name: str, *, end: bool = False) -> _Chain:
        op = self._known[name]
        if define(op).rate < Rate.ELEMENT:
            return _Chain(scalars=(self._wide(op),))
        if not end and name not in self._inner:
            return _Chain(elements=(name,))
        if op.kind is OpKind.MUL:
            return self._chain(op.operands[0]).times(self._chain(op.operands[1]))
        if op.kind is OpKind.DIV:
            return self._chain(op.operands[0]).times(self._chain(op.operands[1]).inverse())
        return self._choice(op)

    def _wide(self, op: Op) -> str:
        """The scalar in float64: what was rounded before its rounding, a constant anew."""
        value = define(op)
        if op.kind is OpKind.CAST:
            return op.operands[0]
        if value.dtype is DType.FLOAT64:
            return value.name
        assert op.kind is OpKind.CONST, "a scalar of another type is a rounding or a constant"
        wide = Value(fresh_name(f"{value.name}_wide", self._known), DType.FLOAT64, value.rate)
        return self._append(replace(op, result=wide))

    def _choice(self, op: Op) -> _Chain:
        """A choice between chains over the same elements; any other choice is left as it is."""
        name, condition = define(op).name, op.operands[0]
        yes, no = self._chain(op.operands[1]), self._chain(op.operands[2])
        if sorted(yes.elements) != sorted(no.elements):
            return _Chain(elements=(name,))
        scale = self._select(
            f"{name}_scale",
            condition,
            self._scale(f"{define(self._known[op.operands[1]]).name}_scale", yes),
            self._scale(f"{define(self._known[op.operands[2]]).name}_scale", no),
            DType.FLOAT64,
        )
        divisors = yes.divisors
        if sorted(yes.divisors) != sorted(no.divisors):
            divisor = self._select(
                f"{name}_divisor",
                condition,
                self._product(f"{name}_divisor_true", yes.divisors, self._dtype),
                self._product(f"{name}_divisor_false", no.divisors, self._dtype),
                self._dtype,
            )
            divisors = (divisor,)
        return _Chain(yes.elements, divisors, (scale,))

    def _rebuild(self, op: Op) -> None:
        """Emit the end of a chain anew: elements over elements, then times the scalar."""
        name = define(op).name
        chain = self._chain(name, end=True)
        if name in chain.elements or not chain.scalars + chain.scalar_divisors:
            self._out.append(op)
            return
        scale = self._scale(f"{name}_scale", chain)
        direction = self._product(f"{name}_direction", chain.elements, self._dtype)
        if chain.divisors:
            divisor = self._product(f"{name}_divisor", chain.divisors, self._dtype)
            direction = self._emit(OpKind.DIV, f"{name}_direction", self._dtype, direction, divisor)
        self._out.append(replace(op, kind=OpKind.MUL, operands=(scale, direction)))

    def _scale(self, wanted: str, chain: _Chain) -> str:
        """Emit the chain's one scalar, in float64."""
        wide = DType.FLOAT64
        above = self._product(f"{wanted}_numerator", chain.scalars, wide)
        if not chain.scalar_divisors:
            return above
        below = self._product(f"{wanted}_denominator", chain.scalar_divisors, wide)
        return self._emit(OpKind.DIV, wanted, wide, above, below)

    def _product(self, wanted: str, names: tuple[str, ...], dtype: DType) -> str:
        if not names:
            return self._one(dtype)
        product = names[0]
        for name in names[1:]:
            product = self._emit(OpKind.MUL, wanted, dtype, product, name)
        return product

    def _one(self, dtype: DType) -> str:
        name = f"unity_{dtype.short}"
        if name not in self._known:
            self._append(Op(OpKind.CONST, Value(name, dtype, Rate.GROUP), (), 1.0))
        return name

    def _select(self, wanted: str, condition: str, yes: str, no: str, dtype: DType) -> str:
        return self._emit(OpKind.SELECT, wanted, dtype, condition, yes, no)

    def _emit(self, kind: OpKind, wanted: str, dtype: DType, *operands: str) -> str:
        name = fresh_name(wanted, self._known)
        rate = max(define(self._known[each]).rate for each in operands)
        comment = _COMMENTS[kind].format(*operands)
        return self._append(Op(kind, Value(name, dtype, rate), operands, comment=comment))

    def _append(self, op: Op) -> str:
        name = define(op).name
        self._known[name] = op
        self._out.append(op)
        return name


#: The pass.
GATHER_SCALARS = Pass("gather_scalars", each_body(_gather), exact=False)
