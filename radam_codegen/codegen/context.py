"""From a kernel's IR to what the templates need: functions with typed values, and structs.

Values that are computed in one function and used in a later one travel in structs: one for what is
computed per group, one for what is computed per step count, one per body for what its elements use.
"""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass, replace

from radam_codegen.ir.dtypes import DType, Rate
from radam_codegen.ir.group import Body, GroupIR, slot_dtype
from radam_codegen.ir.ops import Op, OpKind, Slot, Value
from radam_codegen.ir.plan import TensorClass

__all__ = ["BodyContext", "Function", "KernelContext", "SlotUse", "kernel_context"]

#: Operations whose value is an argument of the function that uses it.
_ARGUMENTS = (OpKind.STEP, OpKind.SUM_TENSOR, OpKind.SUM_GROUP)
_TO_READ_NUMBERS = ((DType.BFLOAT16, DType.FLOAT32), (DType.FLOAT16, DType.FLOAT32))


@dataclass(frozen=True)
class SlotUse:
    """An array of a tensor that a loop touches."""

    slot: str
    dtype: DType
    read: bool
    written: bool


@dataclass(frozen=True)
class Function:
    """A run of operations: the values it takes from elsewhere, its operations, what it hands on."""

    takes: tuple[Value, ...]
    ops: tuple[Op, ...]
    gives: tuple[Value, ...]
    #: What defines each operand, by its name, which in another body may have another type.
    definitions: dict[str, Op]
    slots: tuple[SlotUse, ...] = ()

    @property
    def stores_last(self) -> Function:
        """The same, with everything loaded and computed before the first store."""
        stores = tuple(op for op in self.ops if op.kind is OpKind.STORE)
        others = tuple(op for op in self.ops if op.kind is not OpKind.STORE)
        return replace(self, ops=others + stores)

    @property
    def choices(self) -> dict[str, DType]:
        """Elements that are chosen by a scalar: name and type of the chosen."""
        return {
            op.result.name: op.result.dtype
            for op in self.ops
            if op.kind is OpKind.SELECT
            and op.result is not None
            and op.result.rate is Rate.ELEMENT
            and _rate(self.definitions[op.operands[0]]) is not Rate.ELEMENT
        }


@dataclass(frozen=True)
class BodyContext:
    """One tensor class and its functions."""

    name: str
    tensor_class: TensorClass
    #: Sums over a chunk; gives what is summed. None where no norm is needed.
    reduce: Function | None
    #: Gives the tensor's share of the group's norm; None without a global norm.
    share: Function | None
    #: Once per tensor; gives what ``each`` takes.
    scalar: Function
    each: Function


@dataclass(frozen=True)
class KernelContext:
    """Everything that a template prints, except for the header."""

    name: str
    skip: bool
    #: Once per group; gives what later functions take of its rate.
    group: Function
    #: Once per distinct step count.
    step: Function
    bodies: tuple[BodyContext, ...]
    #: Sum over a tensor's elements; None where no norm is needed.
    tensor_sum: Value | None
    #: Sum over the group's tensors; None without a global norm.
    group_sum: Value | None
    #: Conversions that elements need, as pairs of from and to.
    conversions: tuple[tuple[DType, DType], ...]
    #: Types of elements that are chosen by a scalar.
    choices: tuple[DType, ...]
    #: Types that are multiplied and added in one.
    fused: tuple[DType, ...]

    @property
    def punned(self) -> tuple[DType, ...]:
        """Types whose bits are worked on, in C; those of float64 for rounding to odd."""
        converted = [DType.FLOAT32] if self.conversions else []
        return tuple(sorted({DType.FLOAT64, *self.choices, *converted}))

    @property
    def conversions_with_numbers(self) -> tuple[tuple[DType, DType], ...]:
        """Conversions that elements need, and those for reading a number of any type."""
        return tuple(sorted({*self.conversions, *_TO_READ_NUMBERS}))


def kernel_context(ir: GroupIR) -> KernelContext:
    """Arrange a kernel whose phases are split for rendering."""
    assert ir.split, "only a kernel with split phases can be rendered"
    bodies = tuple(_Arranger((body,)).body(body) for body in ir.bodies)
    whole = _Arranger(ir.bodies)
    step, group = whole.shared(bodies)
    return KernelContext(
        ir.structure.name,
        ir.structure.skip,
        group,
        step,
        bodies,
        whole.result_of(OpKind.SUM_TENSOR),
        whole.result_of(OpKind.SUM_GROUP),
        _conversions(ir.bodies),
        tuple(sorted({dtype for body in bodies for dtype in body.each.choices.values()})),
        tuple(sorted(_types_of(OpKind.FMA, ir.bodies))),
    )


def _conversions(bodies: Iterable[Body]) -> tuple[tuple[DType, DType], ...]:
    """Casts from and to the types that C does not have."""
    narrow = (DType.BFLOAT16, DType.FLOAT16)
    pairs = set()
    for body in bodies:
        dtypes = {op.result.name: op.result.dtype for op in body.ops if op.result is not None}
        for op in body.ops:
            if op.kind is OpKind.CAST and op.result is not None:
                pairs.add((dtypes[op.operands[0]], op.result.dtype))
    return tuple(sorted(pair for pair in pairs if pair[0] in narrow or pair[1] in narrow))


def _types_of(kind: OpKind, bodies: Iterable[Body]) -> set[DType]:
    """Types of what operations of a kind define."""
    return {
        op.result.dtype
        for body in bodies
        for op in body.ops
        if op.kind is kind and op.result is not None
    }


class _Arranger:
    """Puts the operations of one body into functions, or the scalars that all bodies share.

    Values of elements may have one name and two types in two bodies; what is computed per group or
    per step is the same in all.
    """

    def __init__(self, bodies: tuple[Body, ...]) -> None:
        self._definitions = {
            op.result.name: op for body in bodies for op in body.ops if op.result is not None
        }

    def result_of(self, kind: OpKind) -> Value | None:
        return next((op.result for op in self._definitions.values() if op.kind is kind), None)

    def body(self, body: Body) -> BodyContext:
        each = self._function(body.each, (), self._inputs(body.each), _slots(body.each, body))
        share_of = next((op for op in body.scalar if op.kind is OpKind.SUM_GROUP), None)
        return BodyContext(
            body.tensor_class.name,
            body.tensor_class,
            self._reduce(body),
            None if share_of is None else self._tensor_function(body, share_of.operands),
            self._tensor_function(body, [value.name for value in each.takes]),
            each,
        )

    def shared(self, bodies: tuple[BodyContext, ...]) -> tuple[Function, Function]:
        """The functions for what is computed per step count and per group."""
        taken = {value.name for body in bodies for value in body.scalar.takes}
        step = self._rate_function(Rate.STEP, taken | self._new_step_counts())
        group = self._rate_function(Rate.GROUP, taken | {value.name for value in step.takes})
        return step, group

    def _reduce(self, body: Body) -> Function | None:
        if not body.reduce:
            return None
        summed = [op.operands[0] for op in body.reduce if op.kind is OpKind.SUM_TENSOR]
        assert len(summed) == 1, "a kernel sums one thing per tensor"
        ops = tuple(op for op in body.reduce if op.kind is not OpKind.SUM_TENSOR)
        gives = (self._value(summed[0]),)
        return self._function(ops, gives, self._inputs(ops), _slots(ops, body))

    def _tensor_function(self, body: Body, wanted: Iterable[str]) -> Function:
        """What is computed once per tensor to get the values in ``wanted``."""
        gives = tuple(map(self._value, wanted))
        needed = {value.name for value in gives}
        ops: list[Op] = []
        for op in reversed(body.scalar):
            if _rate(op) is Rate.TENSOR and op.result is not None and op.result.name in needed:
                ops.insert(0, op)
                needed.update(op.operands)
        defined = {op.result.name for op in ops if op.result is not None}
        passed_on = [value for value in gives if value.name not in defined]
        takes = dict.fromkeys((*self._inputs(ops), *passed_on))
        variables = tuple(each for each in takes if not self._is_constant(each.name))
        return self._function(tuple(ops), gives, variables)

    def _rate_function(self, rate: Rate, wanted: set[str]) -> Function:
        ops = tuple(
            op
            for op in self._definitions.values()
            if _rate(op) is rate and op.kind is not OpKind.CONST and op.kind not in _ARGUMENTS
        )
        gives = tuple(op.result for op in ops if op.result is not None and op.result.name in wanted)
        return self._function(ops, gives, self._inputs(ops))

    def _function(
        self,
        ops: tuple[Op, ...],
        gives: tuple[Value, ...],
        takes: tuple[Value, ...],
        slots: tuple[SlotUse, ...] = (),
    ) -> Function:
        operands = dict.fromkeys(name for op in ops for name in op.operands)
        definitions = {name: self._definitions[name] for name in operands}
        return Function(takes, ops, gives, definitions, slots)

    def _new_step_counts(self) -> set[str]:
        # The step count is stored by the loop over tensors, not by the function that computes it.
        return {
            name
            for name, op in self._definitions.items()
            if _rate(op) is Rate.STEP
            and op.result is not None
            and op.result.dtype is DType.INT64
            and op.kind is not OpKind.STEP
        }

    def _inputs(self, ops: Iterable[Op]) -> tuple[Value, ...]:
        """Values that ``ops`` need from elsewhere, each once, constants excepted."""
        ops = tuple(ops)
        defined = {op.result.name for op in ops if op.result is not None}
        names = dict.fromkeys(name for op in ops for name in op.operands if name not in defined)
        return tuple(self._value(name) for name in names if not self._is_constant(name))

    def _is_constant(self, name: str) -> bool:
        return self._definitions[name].kind in (OpKind.CONST, *_ARGUMENTS)

    def _value(self, name: str) -> Value:
        value = self._definitions[name].result
        assert value is not None, "definitions hold operations that define something"
        return value


def _rate(op: Op) -> Rate | None:
    return None if op.result is None else op.result.rate


def _slots(ops: Iterable[Op], body: Body) -> tuple[SlotUse, ...]:
    """The arrays that a loop touches, in the order in which it first does."""
    uses: dict[str, set[OpKind]] = {}
    for op in ops:
        if op.kind in (OpKind.LOAD, OpKind.STORE):
            uses.setdefault(str(op.attr), set()).add(op.kind)
    return tuple(
        SlotUse(
            slot,
            slot_dtype(body.tensor_class, Slot(slot)),
            OpKind.LOAD in kinds,
            OpKind.STORE in kinds,
        )
        for slot, kinds in uses.items()
    )
