"""The IR of one kernel (``GroupIR``), and of all kernels of a plan (``Module``)."""

from __future__ import annotations

from dataclasses import dataclass

from radam_codegen.ir.ops import Op
from radam_codegen.ir.plan import KernelStructure, TensorClass, UpdatePlan

__all__ = ["Body", "GroupIR", "Module"]


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


@dataclass(frozen=True)
class GroupIR:
    """One kernel: a body per tensor class of its structure, in that order.

    Values of rate GROUP and STEP are the same in every body and have the same names there.
    """

    structure: KernelStructure
    split: bool
    bodies: tuple[Body, ...]


@dataclass(frozen=True)
class Module:
    """The kernels of a plan; group ``i`` of the plan runs ``kernels[kernel_of[i]]``."""

    plan: UpdatePlan
    kernels: tuple[GroupIR, ...]
    kernel_of: tuple[int, ...]
