"""The data types and evaluation rates that values of the IR have."""

from __future__ import annotations

from enum import Enum, IntEnum

__all__ = ["DType", "Rate"]


class DType(str, Enum):
    """Element type of a tensor or of a value in the IR; the text is Paddle's own name for it."""

    FLOAT64 = "float64"
    FLOAT32 = "float32"
    BFLOAT16 = "bfloat16"
    FLOAT16 = "float16"
    INT64 = "int64"
    BOOL = "bool"

    @property
    def is_float(self) -> bool:
        """Whether arithmetic on this type is floating point."""
        return self not in (DType.INT64, DType.BOOL)

    @property
    def size(self) -> int:
        """Bytes per element."""
        return _SIZE[self]

    @property
    def short(self) -> str:
        """The two to four letters that stand for the type in a kernel's name, such as ``f32``."""
        return _SHORT[self]

    def __str__(self) -> str:
        return self.value


_SIZE = {
    DType.FLOAT64: 8,
    DType.FLOAT32: 4,
    DType.BFLOAT16: 2,
    DType.FLOAT16: 2,
    DType.INT64: 8,
    DType.BOOL: 1,
}

_SHORT = {
    DType.FLOAT64: "f64",
    DType.FLOAT32: "f32",
    DType.BFLOAT16: "bf16",
    DType.FLOAT16: "f16",
    DType.INT64: "i64",
    DType.BOOL: "bool",
}


class Rate(IntEnum):
    """How often a value is computed in one optimizer step, from seldom to often.

    An operation is evaluated at the highest rate among its operands.
    """

    #: Once per group: learning rate, betas, the global norm.
    GROUP = 0
    #: Once per distinct step count: bias corrections, ``rho_t``, the rectification.
    STEP = 1
    #: Once per tensor: its own learning rate, decay coefficient, norm.
    TENSOR = 2
    #: Once per element.
    ELEMENT = 3
