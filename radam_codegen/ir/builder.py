"""A helper that appends operations to a body and works out their types and rates."""

from __future__ import annotations

from radam_codegen.ir.dtypes import DType, Rate
from radam_codegen.ir.group import slot_dtype
from radam_codegen.ir.ops import Op, OpKind, Slot, Value
from radam_codegen.ir.plan import TensorClass

__all__ = ["BodyBuilder", "result_dtype", "result_rate"]

_COMPARISONS = (OpKind.GT, OpKind.LE)


def result_dtype(kind: OpKind, operands: tuple[Value, ...]) -> DType:
    """Type of what an arithmetic operation or a sum defines."""
    if kind in _COMPARISONS:
        return DType.BOOL
    return operands[1].dtype if kind is OpKind.SELECT else operands[0].dtype


def result_rate(kind: OpKind, operands: tuple[Value, ...]) -> Rate:
    """Rate of what an arithmetic operation or a sum defines."""
    if kind is OpKind.SUM_TENSOR:
        return Rate.TENSOR
    if kind is OpKind.SUM_GROUP:
        return Rate.GROUP
    return max(operand.rate for operand in operands)


class BodyBuilder:
    """Appends operations in program order; every method returns the name of the value it defines.

    Constants and numbers are defined once per name, however often they are asked for.
    """

    def __init__(self, tensor_class: TensorClass) -> None:
        self.compute_dtype = tensor_class.compute_dtype
        self._tensor_class = tensor_class
        self._ops: list[Op] = []
        self._values: dict[str, Value] = {}

    @property
    def ops(self) -> tuple[Op, ...]:
        """What has been emitted so far."""
        return tuple(self._ops)

    def const(self, name: str, value: float, dtype: DType | None = None) -> str:
        """Define a constant."""
        return self._leaf(OpKind.CONST, name, dtype or self.compute_dtype, Rate.GROUP, value)

    def number(self, source: str, dtype: DType | None = None) -> str:
        """Define one of the group's numbers, rounded to ``dtype`` (else to the compute type)."""
        given = self._leaf(OpKind.NUMBER, source, DType.FLOAT64, Rate.GROUP, source)
        return self.rounded(given, dtype or self.compute_dtype)

    def tensor_number(self, source: str) -> str:
        """Define one of the tensor's numbers, rounded to the compute type."""
        given = self._leaf(OpKind.TENSOR_NUMBER, source, DType.FLOAT64, Rate.TENSOR, source)
        return self.rounded(given, self.compute_dtype)

    def tensor_flag(self, source: str) -> str:
        """Define one of the tensor's flags."""
        return self._leaf(OpKind.TENSOR_NUMBER, source, DType.BOOL, Rate.TENSOR, source)

    def next_step(self) -> str:
        """Define and store the tensor's new step count."""
        step = self._leaf(OpKind.STEP, "step", DType.INT64, Rate.STEP, None)
        one = self._leaf(OpKind.CONST, "one_step", DType.INT64, Rate.GROUP, 1)
        step_out = self.op(OpKind.ADD, "step_out", step, one, comment="t")
        self._ops.append(Op(OpKind.STORE_STEP, None, (step_out,), comment="t"))
        return step_out

    def load(self, name: str, slot: Slot) -> str:
        """Load one element of ``slot`` and convert it to the compute type."""
        held = slot_dtype(self._tensor_class, slot)
        if held is self.compute_dtype:
            return self._leaf(OpKind.LOAD, name, held, Rate.ELEMENT, slot.value)
        stored = self._leaf(OpKind.LOAD, f"{name}_stored", held, Rate.ELEMENT, slot.value)
        return self.cast(name, stored, self.compute_dtype)

    def store(self, slot: Slot, value: str, comment: str = "") -> None:
        """Store one element of ``slot``."""
        self._ops.append(Op(OpKind.STORE, None, (value,), slot.value, comment))

    def cast(self, name: str, operand: str, dtype: DType, comment: str = "") -> str:
        """Convert to ``dtype``; the operand itself where it has that type already."""
        if self._values[operand].dtype is dtype:
            return operand
        op = Op(
            OpKind.CAST, Value(name, dtype, self._values[operand].rate), (operand,), None, comment
        )
        if name in self._values:
            assert op in self._ops, f"{name} is something else already"
            return name
        return self._append(op)

    def rounded(self, name: str, dtype: DType) -> str:
        """Convert to ``dtype`` under a name that says so, such as ``beta1_f32``."""
        return self.cast(f"{name}_{dtype.short}", name, dtype)

    def op(self, kind: OpKind, name: str, *operands: str, comment: str = "") -> str:
        """Emit an arithmetic operation or a sum."""
        values = tuple(self._values[operand] for operand in operands)
        value = Value(name, result_dtype(kind, values), result_rate(kind, values))
        return self._append(Op(kind, value, operands, comment=comment))

    def _leaf(
        self, kind: OpKind, name: str, dtype: DType, rate: Rate, attr: str | float | int | None
    ) -> str:
        if name in self._values:
            return name
        return self._append(Op(kind, Value(name, dtype, rate), (), attr))

    def _append(self, op: Op) -> str:
        assert op.result is not None, "only operations with a result come here"
        assert op.result.name not in self._values, f"{op.result.name} is defined twice"
        self._values[op.result.name] = op.result
        self._ops.append(op)
        return op.result.name
