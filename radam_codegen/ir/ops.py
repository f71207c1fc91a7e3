"""The whole instruction set of the IR, and the values that its operations define.

An operation has a kind, operands (names of values defined before it), at most one result, and an
attribute where its kind wants one. :data:`SIGNATURES` is the table of what is legal.
"""

from __future__ import annotations

from dataclasses import dataclass
from enum import Enum

from radam_codegen.ir.dtypes import DType, Rate

__all__ = ["SIGNATURES", "Op", "OpKind", "Signature", "Slot", "Value"]


class OpKind(str, Enum):
    """Every operation that there is."""

    # Where values come from.
    CONST = "const"  # attr: a float, an int or a bool
    NUMBER = "number"  # attr: lr, beta1, beta2, epsilon, clip_bound or clip_lower of the group
    TENSOR_NUMBER = "tensor_number"  # attr: lr_scale, decay or need_clip of the tensor
    STEP = "step"  # the tensor's step count before this step, int64
    LOAD = "load"  # attr: a Slot; one element of it

    # Arithmetic. Operands have one type, which the result has too, unless said otherwise.
    ADD = "add"
    SUB = "sub"
    MUL = "mul"
    DIV = "div"
    NEG = "neg"
    SQRT = "sqrt"  # correctly rounded
    FMA = "fma"  # a * b + c, rounded once
    MAX = "max"  # a < b ? b : a, so a NaN in a is kept
    MIN = "min"  # a > b ? b : a, so a NaN in a is kept
    SIGN = "sign"  # -1, 0 or 1; 0 for NaN
    # Of a beta in [0, 1] and an int64 step count t >= 0; no digit is lost to cancellation.
    ONE_MINUS_POW = "one_minus_pow"  # 1 - beta^t
    SMA_LENGTH = "sma_length"  # 2 / (1 - beta) - 1 - 2 t beta^t / (1 - beta^t), rounded to odd
    CAST = "cast"  # to the result's type, to nearest even
    GT = "gt"  # bool
    LE = "le"  # bool
    SELECT = "select"  # bool a ? b : c

    # Sums. The order of summation is fixed; interpret.py says how.
    SUM_TENSOR = "sum_tensor"  # over a tensor's elements, in float64; ELEMENT -> TENSOR
    SUM_GROUP = "sum_group"  # over the group's tensors, in float64; TENSOR -> GROUP

    # What is written.
    STORE = "store"  # attr: a Slot; one element of it
    STORE_STEP = "store_step"  # the tensor's new step count, int64

    def __str__(self) -> str:
        return self.value


class Slot(str, Enum):
    """An array that an ELEMENT operation loads from or stores to."""

    PARAM = "param"
    GRAD = "grad"
    MOMENT1 = "moment1"
    MOMENT2 = "moment2"
    MASTER = "master"
    #: Temporaries between the unfused stages; gone once clip and decay are fused.
    CLIPPED_GRAD = "clipped_grad"
    DECAYED_GRAD = "decayed_grad"

    @property
    def is_temporary(self) -> bool:
        """Whether the array exists only between the stages of an unfused step."""
        return self in (Slot.CLIPPED_GRAD, Slot.DECAYED_GRAD)

    def __str__(self) -> str:
        return self.value


@dataclass(frozen=True)
class Value:
    """What an operation defines: a name (unique in its body), a type, and a rate."""

    name: str
    dtype: DType
    rate: Rate


@dataclass(frozen=True)
class Op:
    """One operation. ``comment`` says in the words of the formula what it computes."""

    kind: OpKind
    result: Value | None
    operands: tuple[str, ...] = ()
    attr: str | float | int | bool | None = None
    comment: str = ""


@dataclass(frozen=True)
class Signature:
    """What the verifier demands of one kind of operation."""

    operands: int
    has_result: bool = True
    #: Texts that ``attr`` may be; empty where there is no attribute (CONST checks its own).
    attrs: tuple[str, ...] = ()


_SLOTS = tuple(slot.value for slot in Slot)

SIGNATURES: dict[OpKind, Signature] = {
    OpKind.CONST: Signature(0),
    OpKind.NUMBER: Signature(
        0, attrs=("lr", "beta1", "beta2", "epsilon", "clip_bound", "clip_lower")
    ),
    OpKind.TENSOR_NUMBER: Signature(0, attrs=("lr_scale", "decay", "need_clip")),
    OpKind.STEP: Signature(0),
    OpKind.LOAD: Signature(0, attrs=_SLOTS),
    OpKind.ADD: Signature(2),
    OpKind.SUB: Signature(2),
    OpKind.MUL: Signature(2),
    OpKind.DIV: Signature(2),
    OpKind.NEG: Signature(1),
    OpKind.SQRT: Signature(1),
    OpKind.FMA: Signature(3),
    OpKind.MAX: Signature(2),
    OpKind.MIN: Signature(2),
    OpKind.SIGN: Signature(1),
    OpKind.ONE_MINUS_POW: Signature(2),
    OpKind.SMA_LENGTH: Signature(2),
    OpKind.CAST: Signature(1),
    OpKind.GT: Signature(2),
    OpKind.LE: Signature(2),
    OpKind.SELECT: Signature(3),
    OpKind.SUM_TENSOR: Signature(1),
    OpKind.SUM_GROUP: Signature(1),
    OpKind.STORE: Signature(1, has_result=False, attrs=_SLOTS),
    OpKind.STORE_STEP: Signature(1, has_result=False),
}
