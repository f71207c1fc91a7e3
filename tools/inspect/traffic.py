"""Bytes of memory that an element's update moves, and the least that it can move."""

from __future__ import annotations

from dataclasses import dataclass

from radam_codegen.ir.dtypes import DType
from radam_codegen.ir.group import Body, slot_dtype
from radam_codegen.ir.ops import OpKind, Slot
from radam_codegen.ir.plan import ClipKind, TensorClass

__all__ = ["Traffic", "floor_of", "traffic_of"]


@dataclass(frozen=True)
class Traffic:
    """Bytes per element that a step moves between memory and registers, phase by phase."""

    reduce: int
    each: int

    @property
    def total(self) -> int:
        """Of both phases."""
        return self.reduce + self.each


def floor_of(tensor_class: TensorClass, clip: ClipKind) -> Traffic:
    """The least that a step can move.

    The gradient is read, both moments are read and written, and so is the parameter; where there is
    a master weight, that one, and the parameter is only written. No element can be updated before
    a norm is known, so a clip by norm reads the gradient once more.
    """
    grad, param = tensor_class.grad_dtype.size, tensor_class.param_dtype.size
    weight = 2 * DType.FLOAT32.size + param if tensor_class.master else 2 * param
    has_norm = clip in (ClipKind.NORM, ClipKind.GLOBAL_NORM)
    return Traffic(grad if has_norm else 0, weight + grad + 4 * tensor_class.moment_dtype.size)


def traffic_of(body: Body) -> Traffic:
    """What the IR of one body moves."""

    def moved(phase: str) -> int:
        return sum(
            slot_dtype(body.tensor_class, Slot(str(op.attr))).size
            for op in getattr(body, phase)
            if op.kind in (OpKind.LOAD, OpKind.STORE)
        )

    return Traffic(moved("reduce"), moved("each"))
