"""The IR of one kernel (``GroupIR``), and of all kernels of a plan (``Module``)."""

from __future__ import annotations

from dataclasses import dataclass

from radam_codegen.ir.dtypes import DType
from radam_codegen.ir.ops import Op, Slot
from radam_codegen.ir.plan import KernelStructure, TensorClass, UpdatePlan

__all__ = ["Body", "GroupIR", "Module", "slot_dtype"]


@dataclass(frozen=True)
class Body:
    """The update of one tensor of one class.

    Until the phases are split, everything is in ``each``, in program order, and ``reduce`` and
    ``scalar`` are empty. Afterwards every operation stands in the phase in which it runs, and a
    value crosses from one phase to a later one only when its rate is below ELEMENT.
    """

    tensor_class: TensorClass
    reduce: tuple[Op, ...]
    scalar: tuple[Op, ...]
    each: tuple[Op, ...]

    @property
    def ops(self) -> tuple[Op, ...]:
        """All operations in the order of the phases."""
        return self.reduce + self.scalar + self.each

    def __str__(self) -> str:
        # The printer imports this module.
        from radam_codegen.ir.printer import print_body

        return print_body(self)


@dataclass(frozen=True)
class GroupIR:
    """One kernel: a body per tensor class of its structure, in that order.

    Once the phases are split, values of rate GROUP and STEP are computed in float64 by the same
    operations under the same names in every body that has them, so they need to be computed once.
    (Roundings of them to a body's own type have names of their own.)
    """

    structure: KernelStructure
    split: bool
    bodies: tuple[Body, ...]

    def __str__(self) -> str:
        # The printer imports this module.
        from radam_codegen.ir.printer import print_group

        return print_group(self)


@dataclass(frozen=True)
class Module:
    """The kernels of a plan; group ``i`` of the plan runs ``kernels[kernel_of[i]]``."""

    plan: UpdatePlan
    kernels: tuple[GroupIR, ...]
    kernel_of: tuple[int, ...]

    def __str__(self) -> str:
        # The printer imports this module.
        from radam_codegen.ir.printer import print_module

        return print_module(self)


def slot_dtype(tensor_class: TensorClass, slot: Slot) -> DType:
    """Type of the elements that a slot holds in a body of this class."""
    if slot is Slot.PARAM:
        return tensor_class.param_dtype
    if slot is Slot.GRAD:
        return tensor_class.grad_dtype
    if slot in (Slot.MOMENT1, Slot.MOMENT2):
        return tensor_class.moment_dtype
    return tensor_class.compute_dtype
