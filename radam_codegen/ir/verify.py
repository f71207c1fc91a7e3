"""The rules of the IR, checked after every pass."""

from __future__ import annotations

import math
import re
from collections.abc import Iterator, Sequence

from radam_codegen.errors import VerifyError
from radam_codegen.ir.dtypes import DType, Rate
from radam_codegen.ir.group import Body, GroupIR, Module, slot_dtype
from radam_codegen.ir.ops import SIGNATURES, Op, OpKind, Slot, Value
from radam_codegen.ir.plan import ClipKind
from radam_codegen.ir.printer import format_op

__all__ = ["verify"]

_REAL = frozenset({DType.FLOAT64, DType.FLOAT32})
_NUMERIC = _REAL | {DType.INT64}

#: Types that operands may have where they all have one type; SELECT, CAST, what takes a
#: step count and the sums have rules of their own. Half types are for memory only.
_OPERAND_DTYPES: dict[OpKind, frozenset[DType]] = {
    OpKind.ADD: _NUMERIC,
    OpKind.SUB: _NUMERIC,
    OpKind.MUL: _NUMERIC,
    OpKind.NEG: _NUMERIC,
    OpKind.MAX: _NUMERIC,
    OpKind.MIN: _NUMERIC,
    OpKind.GT: _NUMERIC,
    OpKind.LE: _NUMERIC,
    OpKind.DIV: _REAL,
    OpKind.SQRT: _REAL,
    OpKind.FMA: _REAL,
    OpKind.SIGN: _REAL,
}

#: Rate of what has no operands.
_LEAF_RATES = {
    OpKind.CONST: Rate.GROUP,
    OpKind.NUMBER: Rate.GROUP,
    OpKind.STEP: Rate.STEP,
    OpKind.TENSOR_NUMBER: Rate.TENSOR,
    OpKind.LOAD: Rate.ELEMENT,
}

#: Operations on a real number and a step count.
_OF_STEP_COUNTS = (OpKind.ONE_MINUS_POW, OpKind.SMA_LENGTH)

_SUM_RATES = {
    OpKind.SUM_TENSOR: (Rate.ELEMENT, Rate.TENSOR),
    OpKind.SUM_GROUP: (Rate.TENSOR, Rate.GROUP),
}

#: Operations below ELEMENT rate that a split body may have outside of ``scalar``.
_REDUCE_EXTRAS = (OpKind.CONST, OpKind.NUMBER, OpKind.TENSOR_NUMBER, OpKind.SUM_TENSOR)
_EACH_EXTRAS = (OpKind.CONST, OpKind.STORE)

_IDENTIFIER = re.compile(r"[a-z][a-z0-9_]*")
_INT64_LIMIT = 2**63


def verify(ir: GroupIR | Module, after: str = "") -> None:
    """Check every rule of the IR.

    Args:
        ir: One kernel, or all kernels of a plan.
        after: Name of the pass that made ``ir``, for the message.

    Raises:
        VerifyError: A rule is broken. The message names the pass, the kernel, the body and the
            operation.

    """
    origin = f"after pass {after!r}: " if after else ""
    if isinstance(ir, GroupIR):
        _verify_group(ir, f"{origin}kernel {ir.structure.name}")
        return
    for index, kernel in enumerate(ir.kernels):
        _verify_group(kernel, f"{origin}kernel {index} ({kernel.structure.name})")
    _verify_assignment(ir, origin)


def _verify_assignment(module: Module, origin: str) -> None:
    groups = module.plan.groups
    if len(module.kernel_of) != len(groups):
        raise VerifyError(
            f"{origin}{len(groups)} groups, but kernels for {len(module.kernel_of)} of them"
        )
    for index, (group, kernel) in enumerate(zip(groups, module.kernel_of)):
        if not 0 <= kernel < len(module.kernels):
            raise VerifyError(f"{origin}group {index} runs kernel {kernel}, which does not exist")
        if module.kernels[kernel].structure != group.structure:
            raise VerifyError(
                f"{origin}group {index} runs a kernel of another structure: it needs "
                f"{group.structure.name}, not {module.kernels[kernel].structure.name}"
            )
    unused = sorted(set(range(len(module.kernels))) - set(module.kernel_of))
    if unused:
        raise VerifyError(f"{origin}no group runs kernel {unused[0]}")


def _verify_group(ir: GroupIR, where: str) -> None:
    classes = tuple(body.tensor_class for body in ir.bodies)
    if classes != ir.structure.classes:
        raise VerifyError(
            f"{where}: the bodies are {_names(classes)}, "
            f"but the structure wants {_names(ir.structure.classes)}, in this order"
        )
    for body in ir.bodies:
        _BodyVerifier(ir, body, f"{where}: body {body.tensor_class.name}").run()
    _verify_group_sums(ir, where)
    if ir.split:
        _verify_shared_scalars(ir, where)


def _verify_group_sums(ir: GroupIR, where: str) -> None:
    """Demand the same sums over the group of every body, as tensors of all bodies meet in them."""
    first: tuple[str, ...] | None = None
    for body in ir.bodies:
        sums = tuple(op.result.name for op in body.ops if op.kind is OpKind.SUM_GROUP and op.result)
        first = sums if first is None else first
        if sums != first:
            raise VerifyError(
                f"{where}: body {body.tensor_class.name} sums {_names(sums)} over the group, "
                f"but body {ir.bodies[0].tensor_class.name} sums {_names(first)}"
            )


def _verify_shared_scalars(ir: GroupIR, where: str) -> None:
    """Demand the same operation of every body for what is computed once for all of them."""
    known: dict[str, tuple[Op, Body]] = {}
    for body in ir.bodies:
        for op in body.scalar:
            if op.result is None or op.result.rate > Rate.STEP:
                continue
            other, other_body = known.setdefault(op.result.name, (op, body))
            if _meaning(op) != _meaning(other):
                raise VerifyError(
                    f"{where}: '{op.result.name}' has rate {_rate(op.result)}, but differs between "
                    f"bodies: '{format_op(other)}' in {other_body.tensor_class.name}, "
                    f"'{format_op(op)}' in {body.tensor_class.name}"
                )


def _meaning(op: Op) -> tuple[object, ...]:
    # The repr tells 0.0 from -0.0 and 1 from True, which compare as equal.
    return (op.kind, op.result, op.operands, repr(op.attr))


class _BodyVerifier:
    """Walks over the operations of one body in the order of the phases."""

    def __init__(self, ir: GroupIR, body: Body, where: str) -> None:
        self._ir = ir
        self._body = body
        self._where = where
        self._values: dict[str, Value] = {}
        self._phase_of: dict[str, str] = {}
        self._kind_of: dict[str, OpKind] = {}
        self._stored: set[Slot] = set()
        self._step_is_stored = False
        self._sums = 0
        # The operation at hand.
        self._at = where
        self._phase = ""

    def run(self) -> None:
        if not self._ir.split and (self._body.reduce or self._body.scalar):
            raise VerifyError(
                f"{self._where}: phases 'reduce' and 'scalar' must be empty before the split"
            )
        if self._ir.structure.clip in (ClipKind.NONE, ClipKind.VALUE) and self._body.reduce:
            raise VerifyError(
                f"{self._where}: phase 'reduce' must be empty, "
                f"as clip {self._ir.structure.clip} needs no norm"
            )
        for phase, index, op in _numbered(self._body):
            self._phase = phase
            self._at = f"{self._where}: {phase} op {index} '{format_op(op)}'"
            self._check_shape(op)
            operands = self._operands(op)
            self._check_types(op, operands)
            self._check_rates(op, operands)
            if op.kind in (OpKind.LOAD, OpKind.STORE):
                self._check_slot(op, operands)
            elif op.kind is OpKind.STORE_STEP:
                self._check_step_store()
            if self._ir.split:
                self._check_phase(op)
            if op.result is not None:
                self._define(op, op.result)

    def _fail(self, reason: str) -> VerifyError:
        return VerifyError(f"{self._at}: {reason}")

    def _check_shape(self, op: Op) -> None:
        """Check operands, result and attribute against the table of signatures, and the comment."""
        signature = SIGNATURES[op.kind]
        if len(op.operands) != signature.operands:
            raise self._fail(f"takes {signature.operands} operands, but has {len(op.operands)}")
        if (op.result is not None) != signature.has_result:
            raise self._fail(
                "must define a value" if signature.has_result else "cannot define a value"
            )
        if op.kind is OpKind.CONST:
            self._check_const(op)
        elif signature.attrs:
            if op.attr not in signature.attrs:
                raise self._fail(f"attribute must be one of {', '.join(signature.attrs)}")
        elif op.attr is not None:
            raise self._fail("takes no attribute")
        # Comments are copied into generated code.
        if op.comment and (not op.comment.isprintable() or "*/" in op.comment):
            raise self._fail("the comment must be one printable line without '*/'")
        if op.comment.endswith("\\"):
            raise self._fail("the comment must not end in a backslash, which would join lines")

    def _check_const(self, op: Op) -> None:
        assert op.result is not None, "the signature has been checked"
        attr, dtype = op.attr, op.result.dtype
        if dtype is DType.BOOL:
            fits = isinstance(attr, bool)
        elif dtype is DType.INT64:
            fits = type(attr) is int and -_INT64_LIMIT <= attr < _INT64_LIMIT
        else:
            fits = isinstance(attr, float) and not math.isnan(attr)
        if not fits:
            raise self._fail(f"{attr!r} is no constant of type {dtype}")

    def _operands(self, op: Op) -> list[Value]:
        values = []
        for name in op.operands:
            if name not in self._values:
                raise self._fail(f"operand '{name}' is not defined before it")
            value = self._values[name]
            if (
                self._ir.split
                and self._phase_of[name] != self._phase
                and value.rate is Rate.ELEMENT
            ):
                raise self._fail(
                    f"operand '{name}' has rate element and cannot cross from phase "
                    f"'{self._phase_of[name]}' to '{self._phase}'"
                )
            values.append(value)
        return values

    def _check_types(self, op: Op, operands: Sequence[Value]) -> None:
        wanted = self._result_dtype(op, operands)
        if op.result is not None and wanted is not None and op.result.dtype is not wanted:
            raise self._fail(f"defines a {op.result.dtype}, but must define a {wanted}")

    def _result_dtype(self, op: Op, operands: Sequence[Value]) -> DType | None:
        """Check the operands' types; return the type of the result where they settle it."""
        dtypes = [value.dtype for value in operands]
        if op.kind in _OPERAND_DTYPES:
            self._demand_equal(op.operands, dtypes)
            if dtypes[0] not in _OPERAND_DTYPES[op.kind]:
                raise self._fail(f"cannot compute with {dtypes[0]}")
            return DType.BOOL if op.kind in (OpKind.GT, OpKind.LE) else dtypes[0]
        if op.kind is OpKind.SELECT:
            if dtypes[0] is not DType.BOOL:
                raise self._fail(f"the condition '{op.operands[0]}' is {dtypes[0]}, not bool")
            self._demand_equal(op.operands[1:], dtypes[1:])
            return dtypes[1]
        if op.kind in _OF_STEP_COUNTS:
            if dtypes[0] not in _REAL or dtypes[1] is not DType.INT64:
                raise self._fail(
                    f"wants a float32 or float64 and an int64, not {dtypes[0]} and {dtypes[1]}"
                )
            return dtypes[0]
        if op.kind in _SUM_RATES:
            if dtypes[0] is not DType.FLOAT64:
                raise self._fail(f"sums are in float64, but '{op.operands[0]}' is {dtypes[0]}")
            return DType.FLOAT64
        if op.kind is OpKind.CAST:
            assert op.result is not None, "the signature has been checked"
            if dtypes[0] is DType.BOOL or not op.result.dtype.is_float:
                raise self._fail(f"cannot convert {dtypes[0]} to {op.result.dtype}")
        if op.kind is OpKind.STORE_STEP and dtypes[0] is not DType.INT64:
            raise self._fail(f"step counts are int64, but '{op.operands[0]}' is {dtypes[0]}")
        if op.kind is OpKind.STEP:
            return DType.INT64
        if op.kind is OpKind.NUMBER:
            return DType.FLOAT64
        if op.kind is OpKind.TENSOR_NUMBER:
            return DType.BOOL if op.attr == "need_clip" else DType.FLOAT64
        return None

    def _demand_equal(self, names: Sequence[str], dtypes: Sequence[DType]) -> None:
        if len(set(dtypes)) > 1:
            listed = ", ".join(f"'{name}' is {dtype}" for name, dtype in zip(names, dtypes))
            raise self._fail(f"operands must have one type, but {listed}")

    def _check_rates(self, op: Op, operands: Sequence[Value]) -> None:
        if op.kind in _SUM_RATES:
            over, rate = _SUM_RATES[op.kind]
            if operands[0].rate is not over:
                raise self._fail(
                    f"sums values of rate {over.name.lower()}, "
                    f"but '{op.operands[0]}' has rate {_rate(operands[0])}"
                )
        elif op.kind is OpKind.STORE_STEP:
            # Whatever a tensor's step count depends on must be known before its elements are.
            if operands[0].rate > Rate.STEP:
                raise self._fail(
                    f"step counts have rate step, but '{op.operands[0]}' has "
                    f"rate {_rate(operands[0])}"
                )
            return
        elif operands:
            rate = max(value.rate for value in operands)
        else:
            rate = _LEAF_RATES[op.kind]
        if op.result is not None and op.result.rate != rate:
            raise self._fail(f"has rate {_rate(op.result)}, but must have rate {rate.name.lower()}")

    def _check_slot(self, op: Op, operands: Sequence[Value]) -> None:
        slot = Slot(op.attr)
        if slot is Slot.MASTER and not self._body.tensor_class.master:
            raise self._fail("this body has no master weight")
        value = op.result if op.result is not None else operands[0]
        held = slot_dtype(self._body.tensor_class, slot)
        if value.dtype is not held:
            raise self._fail(f"slot {slot} holds {held}, but '{value.name}' is {value.dtype}")
        if op.kind is OpKind.LOAD:
            if slot.is_temporary and slot not in self._stored:
                raise self._fail(f"temporary {slot} is loaded before anything is stored to it")
            if not slot.is_temporary and slot in self._stored:
                raise self._fail(f"slot {slot} is loaded after it was overwritten")
            return
        if slot is Slot.GRAD:
            raise self._fail("gradients are only read")
        if slot in self._stored:
            raise self._fail(f"slot {slot} is stored a second time")
        self._stored.add(slot)

    def _check_step_store(self) -> None:
        if self._step_is_stored:
            raise self._fail("the step count is stored a second time")
        self._step_is_stored = True

    def _check_phase(self, op: Op) -> None:
        element = op.result is not None and op.result.rate is Rate.ELEMENT
        if self._phase == "reduce":
            if not element and op.kind not in _REDUCE_EXTRAS:
                raise self._fail("does not belong into phase 'reduce'")
            if op.kind is OpKind.SUM_TENSOR:
                self._sums += 1
                if self._sums > 1:
                    raise self._fail("phase 'reduce' can sum only one value per tensor")
        elif self._phase == "scalar":
            if element or op.kind in (OpKind.STORE, OpKind.SUM_TENSOR):
                raise self._fail("does not belong into phase 'scalar'")
        elif not element and op.kind not in _EACH_EXTRAS:
            raise self._fail("does not belong into phase 'each'")
        for name in op.operands:
            # Of a chunk's reduction only the sum reaches the other phases.
            if (
                self._phase != "reduce"
                and self._phase_of[name] == "reduce"
                and self._kind_of[name] is not OpKind.SUM_TENSOR
            ):
                raise self._fail(
                    f"operand '{name}' of phase 'reduce' is no sum and cannot leave that phase"
                )

    def _define(self, op: Op, value: Value) -> None:
        if not _IDENTIFIER.fullmatch(value.name):
            raise self._fail(f"{value.name!r} is no lower-case identifier")
        if value.name in self._values:
            raise self._fail(f"'{value.name}' is defined a second time")
        self._values[value.name] = value
        self._phase_of[value.name] = self._phase
        self._kind_of[value.name] = op.kind


def _numbered(body: Body) -> Iterator[tuple[str, int, Op]]:
    for phase, ops in (("reduce", body.reduce), ("scalar", body.scalar), ("each", body.each)):
        for index, op in enumerate(ops):
            yield phase, index, op


def _names(items: Sequence[object]) -> str:
    return ", ".join(str(getattr(item, "name", item)) for item in items) or "nothing"


def _rate(value: Value) -> str:
    return value.rate.name.lower()
