"""What to update and how: the plan that the front end reads from a program and its arguments.

An :class:`UpdatePlan` holds numbers and names and no operations. What shapes the generated code
(types, kinds of clip and decay) is its groups' :class:`KernelStructure`; everything else is handed
to the kernel when it runs.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from enum import Enum

from radam_codegen.ir.dtypes import DType

__all__ = [
    "Clip",
    "ClipKind",
    "Decay",
    "DecayKind",
    "GroupPlan",
    "KernelStructure",
    "StateLayout",
    "TensorClass",
    "TensorPlan",
    "UpdatePlan",
]


class ClipKind(str, Enum):
    """How a group's gradients are clipped, named as in ``paddle.nn``."""

    NONE = "none"
    #: ``ClipGradByGlobalNorm``: one norm over all gradients of the group that need clipping.
    GLOBAL_NORM = "global_norm"
    #: ``ClipGradByNorm``: one norm per tensor.
    NORM = "norm"
    #: ``ClipGradByValue``: every element on its own.
    VALUE = "value"

    def __str__(self) -> str:
        return self.value


class DecayKind(str, Enum):
    """What weight decay adds to the clipped gradient, or takes from the parameter."""

    NONE = "none"
    #: Adds ``coefficient * param`` to the gradient.
    L2 = "l2"
    #: Adds ``coefficient * sign(param)`` to the gradient.
    L1 = "l1"
    #: Multiplies the parameter by ``1 - lr * coefficient`` before the update.
    DECOUPLED = "decoupled"

    def __str__(self) -> str:
        return self.value


class StateLayout(str, Enum):
    """How the moments of a group lie in memory."""

    #: One ``moment1`` and one ``moment2`` tensor per group and type, all parameters in a row.
    FLAT = "flat"
    #: A ``moment1`` and a ``moment2`` tensor per parameter, in the parameter's shape.
    PER_PARAMETER = "per_parameter"

    def __str__(self) -> str:
        return self.value


@dataclass(frozen=True)
class Clip:
    """Gradient clipping of one group: its kind and its bounds."""

    kind: ClipKind = ClipKind.NONE
    #: Largest norm, or largest value when clipping by value.
    bound: float = 0.0
    #: Smallest value; only used when clipping by value.
    lower: float = 0.0


@dataclass(frozen=True)
class Decay:
    """Weight decay of one tensor: its kind and its coefficient."""

    kind: DecayKind = DecayKind.NONE
    coefficient: float = 0.0
    #: Whether the coefficient is read from a variable of the program at every step; it is 0 here.
    at_run_time: bool = False


@dataclass(frozen=True, order=True)
class TensorClass:
    """All that distinguishes the code that updates one tensor from that for another."""

    param_dtype: DType
    grad_dtype: DType
    moment_dtype: DType
    #: Whether a float32 master weight is kept beside the parameter.
    master: bool
    decay: DecayKind

    @property
    def name(self) -> str:
        """Readable identifier, e.g. ``f32_l2`` or ``bf16_grad_f32_master_none``."""
        parts = [self.param_dtype.short]
        if self.grad_dtype != self.param_dtype:
            parts.append(f"grad_{self.grad_dtype.short}")
        if self.master:
            parts.append("master")
        parts.append("no_decay" if self.decay is DecayKind.NONE else self.decay.value)
        return "_".join(parts)

    @property
    def compute_dtype(self) -> DType:
        """Type in which elements are computed: the moments' type."""
        return self.moment_dtype


@dataclass(frozen=True)
class KernelStructure:
    """All that shapes a kernel's code. Groups of equal structure share one kernel."""

    clip: ClipKind
    #: Whether the step can be skipped by a ``found_inf`` flag.
    skip: bool
    #: One per body of the kernel, sorted, each once.
    classes: tuple[TensorClass, ...]

    @property
    def name(self) -> str:
        """Readable identifier, valid in C: ``radam_clip_global_norm__f32_l2__f32_no_decay``."""
        head = ["radam"]
        head.append("no_clip" if self.clip is ClipKind.NONE else f"clip_{self.clip.value}")
        if self.skip:
            head.append("skip")
        return "__".join(["_".join(head), *(each.name for each in self.classes)])


@dataclass(frozen=True)
class TensorPlan:
    """One parameter and what is special about it."""

    name: str
    shape: tuple[int, ...]
    param_dtype: DType
    grad_dtype: DType
    moment_dtype: DType
    master: bool = False
    lr_scale: float = 1.0
    decay: Decay = field(default_factory=Decay)
    need_clip: bool = True

    @property
    def numel(self) -> int:
        """Number of elements; 1 for a 0-D tensor."""
        product = 1
        for extent in self.shape:
            product *= extent
        return product

    @property
    def tensor_class(self) -> TensorClass:
        """The body of the kernel that updates this tensor."""
        return TensorClass(
            self.param_dtype, self.grad_dtype, self.moment_dtype, self.master, self.decay.kind
        )


@dataclass(frozen=True)
class GroupPlan:
    """One parameter group: its hyperparameters, its clip, its tensors in launch order."""

    tensors: tuple[TensorPlan, ...]
    beta1: float = 0.9
    beta2: float = 0.999
    epsilon: float = 1e-8
    clip: Clip = field(default_factory=Clip)
    skip: bool = False

    @property
    def structure(self) -> KernelStructure:
        """What of this group shapes code."""
        classes = tuple(sorted({tensor.tensor_class for tensor in self.tensors}))
        return KernelStructure(self.clip.kind, self.skip, classes)


@dataclass(frozen=True)
class UpdatePlan:
    """All parameter groups that one optimizer updates in one program."""

    groups: tuple[GroupPlan, ...]
    layout: StateLayout = StateLayout.PER_PARAMETER

    @property
    def lr_dtype(self) -> DType:
        """Type of the learning rate: float64 where a parameter is float64, else float32.

        Programs and dynamic graph round the rate to it, so both do the same arithmetic.
        """
        types = {tensor.param_dtype for group in self.groups for tensor in group.tensors}
        return DType.FLOAT64 if DType.FLOAT64 in types else DType.FLOAT32

    def to_json(self) -> str:
        """Return the plan as JSON text; equal plans give equal text.

        Raises:
            PlanError: The plan makes no sense, as :func:`radam_codegen.ir.plan_check.check_plan`
                says.

        """
        # The modules that read, write and print plans import this one.
        from radam_codegen.ir.plan_json import plan_to_json

        return plan_to_json(self)

    @staticmethod
    def from_json(text: str) -> UpdatePlan:
        """Read a plan from the text that :meth:`to_json` wrote.

        Raises:
            PlanError: The text is no such JSON or the plan makes no sense; the message names the
                place in the document.

        """
        from radam_codegen.ir.plan_json import plan_from_json

        return plan_from_json(text)

    def __str__(self) -> str:
        from radam_codegen.ir.printer import print_plan

        return print_plan(self)
