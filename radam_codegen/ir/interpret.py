"""The executable meaning of the IR: one optimizer step in NumPy, at any stage of the passes.

In ``typed`` precision each operation is rounded as its type says, so a result equals bit for bit
what compiled C makes of the same IR (with contraction off); only the payload of a NaN may differ.
In ``exact`` precision all real numbers are float64, whatever their type: for comparing stages that
round differently.

Sums have a fixed order, which :func:`radam_codegen.ir.arithmetic.ordered_sum` states for one
tensor; a sum over a group adds the tensors' values in order, from 0.
"""

from __future__ import annotations

from collections.abc import Callable, Generator, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np

from radam_codegen.errors import ArgumentError
from radam_codegen.ir import arithmetic
from radam_codegen.ir.arithmetic import Array
from radam_codegen.ir.dtypes import DType
from radam_codegen.ir.group import Body, GroupIR, Module, slot_dtype
from radam_codegen.ir.moving_average import one_minus_power, sma_length
from radam_codegen.ir.ops import Op, OpKind, Slot
from radam_codegen.ir.plan import GroupPlan, TensorPlan, UpdatePlan

__all__ = ["EXACT", "TYPED", "GroupArrays", "interpret", "storage_dtype"]

TYPED = "typed"
EXACT = "exact"

_STORAGE: dict[DType, np.dtype[Any]] = {
    DType.FLOAT64: np.dtype(np.float64),
    DType.FLOAT32: np.dtype(np.float32),
    # NumPy has no bfloat16: arrays hold its bits.
    DType.BFLOAT16: np.dtype(np.uint16),
    DType.FLOAT16: np.dtype(np.float16),
    DType.INT64: np.dtype(np.int64),
    DType.BOOL: np.dtype(np.bool_),
}


def storage_dtype(dtype: DType) -> np.dtype[Any]:
    """Return the NumPy type of arrays that hold ``dtype``; bfloat16 is held as uint16 bits."""
    return _STORAGE[dtype]


@dataclass(frozen=True, eq=False)
class GroupArrays:
    """The arrays of one group, an entry per tensor of the plan, in its order.

    Arrays have the tensor's shape and :func:`storage_dtype` of its types; where precision is exact,
    float64 is taken as well, and is what comes back.
    """

    param: list[Array]
    grad: list[Array]
    moment1: list[Array]
    moment2: list[Array]
    #: Float32 master weights; None for a tensor that has none.
    master: list[Array | None]
    #: Steps done so far, int64, shape (number of tensors,).
    step: Array


def interpret(
    module: Module | UpdatePlan,
    arrays: Sequence[GroupArrays],
    lr: float,
    found_inf: bool = False,
    precision: str = TYPED,
) -> list[GroupArrays]:
    """Run one optimizer step.

    Args:
        module: The IR, at any stage; a plan stands for its unfused IR.
        arrays: Parameters, gradients and state, one entry per group. They are not changed.
        lr: Learning rate of the step.
        found_inf: Whether gradients overflowed: groups with the skip flag are left as they are.
        precision: ``"typed"`` or ``"exact"``.

    Returns:
        The arrays after the step, one entry per group; gradients are handed through.

    Raises:
        ArgumentError: The arrays do not fit the plan, or ``precision`` is unknown.

    """
    if precision not in (TYPED, EXACT):
        raise ArgumentError(f"precision is {precision!r}, but must be {TYPED!r} or {EXACT!r}")
    if isinstance(module, UpdatePlan):
        from radam_codegen.ir.build import build_module

        module = build_module(module)
    groups = module.plan.groups
    if len(arrays) != len(groups):
        raise ArgumentError(f"the plan has {len(groups)} groups, but there are {len(arrays)}")
    for index, (group, each) in enumerate(zip(groups, arrays)):
        _check_arrays(f"group {index}", group, each, precision)
    results = []
    # What overflows or is not a number in C is so here, without a warning.
    with np.errstate(all="ignore"):
        for group, kernel, each in zip(groups, module.kernel_of, arrays):
            if group.skip and found_inf:
                results.append(each)
            else:
                run = _GroupRun(module.kernels[kernel], group, float(lr), precision == EXACT)
                results.append(run.run(each))
    return results


def _check_arrays(where: str, group: GroupPlan, arrays: GroupArrays, precision: str) -> None:
    count = len(group.tensors)
    columns = {slot: getattr(arrays, slot.value) for slot in Slot if not slot.is_temporary}
    for slot, column in columns.items():
        if len(column) != count:
            raise ArgumentError(
                f"{where}: {count} tensors, but {len(column)} arrays for slot {slot}"
            )
    if arrays.step.shape != (count,) or arrays.step.dtype != np.int64:
        raise ArgumentError(f"{where}: step must be an int64 array of shape ({count},)")
    for index, tensor in enumerate(group.tensors):
        for slot, column in columns.items():
            array = column[index]
            at = f"{where}, parameter {tensor.name!r}, slot {slot}"
            if slot is Slot.MASTER and not tensor.master:
                if array is not None:
                    raise ArgumentError(f"{at}: must be None, as the plan has no master weight")
                continue
            if array is None:
                raise ArgumentError(f"{at}: there is no array")
            _check_array(at, tensor, slot, array, precision)


def _check_array(at: str, tensor: TensorPlan, slot: Slot, array: Array, precision: str) -> None:
    wanted = storage_dtype(slot_dtype(tensor.tensor_class, slot))
    if array.dtype != wanted and not (precision == EXACT and array.dtype == np.float64):
        raise ArgumentError(f"{at}: the array is {array.dtype}, but must be {wanted}")
    if array.shape != tensor.shape:
        raise ArgumentError(f"{at}: the shape is {array.shape}, but must be {tensor.shape}")


class _GroupRun:
    """One step of one group."""

    def __init__(self, kernel: GroupIR, group: GroupPlan, lr: float, exact: bool) -> None:
        self._group = group
        self._exact = exact
        self._bodies = {body.tensor_class: body for body in kernel.bodies}
        self._numbers = {
            "lr": lr,
            "beta1": group.beta1,
            "beta2": group.beta2,
            "epsilon": group.epsilon,
            "clip_bound": group.clip.bound,
            "clip_lower": group.clip.lower,
        }

    def run(self, arrays: GroupArrays) -> GroupArrays:
        runs = [
            _TensorRun(
                self._bodies[tensor.tensor_class],
                tensor,
                self._numbers,
                {slot: getattr(arrays, slot.value)[index] for slot in _ARRAY_SLOTS},
                arrays.step[index],
                self._exact,
            )
            for index, tensor in enumerate(self._group.tensors)
        ]
        # Tensors run in lockstep: each waits at a sum over the group until all have come to it.
        waiting = [run.steps() for run in runs]
        terms = [next(each, None) for each in waiting]
        while any(term is not None for term in terms):
            total = np.float64(0.0)
            for term in terms:
                assert term is not None, "all bodies of a kernel have the same sums over the group"
                total = total + term
            terms = [_send(each, total) for each in waiting]
        return GroupArrays(
            param=[run.array(Slot.PARAM) for run in runs],
            grad=list(arrays.grad),
            moment1=[run.array(Slot.MOMENT1) for run in runs],
            moment2=[run.array(Slot.MOMENT2) for run in runs],
            master=[run.array(Slot.MASTER) if run.has_master else None for run in runs],
            step=np.array([run.step for run in runs], np.int64),
        )


_ARRAY_SLOTS = tuple(slot for slot in Slot if not slot.is_temporary)

_Steps = Generator[np.float64, np.float64, None]


def _send(steps: _Steps, total: np.float64) -> np.float64 | None:
    try:
        return steps.send(total)
    except StopIteration:
        return None


class _TensorRun:
    """One step of one tensor: its arrays, its numbers, and the values computed so far."""

    def __init__(
        self,
        body: Body,
        tensor: TensorPlan,
        numbers: dict[str, float],
        arrays: dict[Slot, Array],
        step: np.int64,
        exact: bool,
    ) -> None:
        self._body = body
        self._tensor = tensor
        self._numbers = numbers
        self._tensor_numbers: dict[str, float | bool] = {
            "lr_scale": tensor.lr_scale,
            "decay": tensor.decay.coefficient,
            "need_clip": tensor.need_clip,
        }
        self._exact = exact
        self._given = arrays
        self._stored: dict[Slot, Array] = {}
        self._values: dict[str, Array] = {}
        self.step = step
        self.has_master = tensor.master

    def array(self, slot: Slot) -> Array:
        """Return the slot after the step, in the form in which it is held."""
        dtype = slot_dtype(self._body.tensor_class, slot)
        if slot not in self._stored:
            return self._encode(self._load(slot), dtype).reshape(self._tensor.shape)
        value = np.broadcast_to(self._stored[slot], (self._tensor.numel,))
        return self._encode(value, dtype).reshape(self._tensor.shape)

    def steps(self) -> _Steps:
        """Run all operations; at a sum over the group, hand out a term and wait for the sum."""
        for op in self._body.ops:
            operands = [self._values[name] for name in op.operands]
            if op.kind is OpKind.STORE:
                self._stored[Slot(op.attr)] = operands[0]
            elif op.kind is OpKind.STORE_STEP:
                self.step = np.int64(operands[0])
            elif op.kind is OpKind.SUM_GROUP:
                total = yield np.float64(operands[0])
                self._define(op, total)
            else:
                self._define(op, self._compute(op, operands))

    def _define(self, op: Op, value: Array | np.float64) -> None:
        assert op.result is not None, "operations without a result are handled before"
        self._values[op.result.name] = np.asarray(value)

    def _compute(self, op: Op, operands: list[Array]) -> Array:
        assert op.result is not None, "operations without a result are handled before"
        dtype = op.result.dtype
        if op.kind is OpKind.CONST:
            return self._scalar(op.attr, dtype)
        if op.kind is OpKind.NUMBER:
            return self._scalar(self._numbers[str(op.attr)], dtype)
        if op.kind is OpKind.TENSOR_NUMBER:
            return self._scalar(self._tensor_numbers[str(op.attr)], dtype)
        if op.kind is OpKind.STEP:
            return np.asarray(self.step, np.int64)
        if op.kind is OpKind.LOAD:
            return self._load(Slot(op.attr))
        if op.kind is OpKind.CAST:
            return self._round(operands[0], dtype)
        if op.kind is OpKind.SUM_TENSOR:
            # A term that is the same for all elements still counts once per element.
            terms = np.broadcast_to(operands[0], (self._tensor.numel,))
            return np.asarray(arithmetic.ordered_sum(terms))
        return np.asarray(_ARITHMETIC[op.kind](*operands))

    def _scalar(self, number: object, dtype: DType) -> Array:
        if dtype.is_float:
            return self._round(np.asarray(number, np.float64), dtype)
        return np.asarray(number, storage_dtype(dtype))

    def _load(self, slot: Slot) -> Array:
        """Return the flat values of a slot, as they are computed with."""
        if slot.is_temporary:
            return self._stored[slot]
        given = self._given[slot].ravel()
        if given.dtype == np.uint16:
            given = arithmetic.bfloat16_values(given)
        return given.astype(np.float64) if self._exact else given

    def _round(self, value: Array, dtype: DType) -> Array:
        """Convert to a real type; its values are float32 arrays for bfloat16."""
        if self._exact:
            return value.astype(np.float64)
        if dtype is DType.BFLOAT16:
            return arithmetic.round_to_bfloat16(value)
        return value.astype(storage_dtype(dtype))

    def _encode(self, value: Array, dtype: DType) -> Array:
        """Convert values to what an array of this type holds; always a copy."""
        if self._exact:
            return value.astype(np.float64)
        if dtype is DType.BFLOAT16:
            return arithmetic.bfloat16_bits(value)
        return value.astype(storage_dtype(dtype))


def _select(condition: Array, a: Array, b: Array) -> Array:
    return np.where(condition, a, b)


def _of_step_count(function: Callable[[float, int], float]) -> Callable[[Array, Array], Array]:
    """Lift a function of a beta and a step count to arrays without dimensions, of beta's type."""

    def compute(beta: Array, t: Array) -> Array:
        return np.asarray(function(float(beta), int(t)), beta.dtype)

    return compute


_ARITHMETIC: dict[OpKind, Callable[..., Array]] = {
    OpKind.ADD: np.add,
    OpKind.SUB: np.subtract,
    OpKind.MUL: np.multiply,
    OpKind.DIV: np.divide,
    OpKind.NEG: np.negative,
    OpKind.SQRT: np.sqrt,
    OpKind.FMA: arithmetic.fma,
    OpKind.MAX: arithmetic.maximum,
    OpKind.MIN: arithmetic.minimum,
    OpKind.SIGN: arithmetic.sign,
    OpKind.ONE_MINUS_POW: _of_step_count(one_minus_power),
    OpKind.SMA_LENGTH: _of_step_count(sma_length),
    OpKind.GT: np.greater,
    OpKind.LE: np.less_equal,
    OpKind.SELECT: _select,
}
