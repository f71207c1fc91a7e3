"""What an operator in a program has to know of a group: its kernel's structure and its numbers.

Its text form travels in the program as an attribute of the operator, so that a program that was
saved can be run elsewhere.
"""

from __future__ import annotations

import hashlib
from dataclasses import dataclass
from typing import NamedTuple

from radam_codegen.ir.moments import Moments
from radam_codegen.ir.plan import GroupPlan, KernelStructure

__all__ = ["GroupNumbers", "LaunchSpec", "TensorNumbers"]


class GroupNumbers(NamedTuple):
    """``radam_numbers`` of the kernel ABI: hyperparameters of a group; unused ones are 0."""

    beta1: float
    beta2: float
    epsilon: float
    clip_bound: float = 0.0
    clip_lower: float = 0.0


class TensorNumbers(NamedTuple):
    """What distinguishes one tensor of a group from the next at run time."""

    lr_scale: float = 1.0
    #: Coefficient of the decay; 0 where it is only known when a step runs.
    decay: float = 0.0
    need_clip: bool = True
    #: Index into ``KernelStructure.classes``.
    body: int = 0
    #: Whether there is a master weight.
    master: bool = False
    #: Whether the coefficient comes with every step.
    decay_at_run_time: bool = False


@dataclass(frozen=True)
class LaunchSpec:
    """One launch of one kernel over one group."""

    structure: KernelStructure
    numbers: GroupNumbers
    tensors: tuple[TensorNumbers, ...]
    #: Language of the kernel: ``"c"`` or ``"cuda"``.
    target: str = "c"
    #: Where the operator finds the moments; None: each parameter has tensors of its own.
    moments: Moments | None = None
    #: Whether nobody reads the operator's results, which are tensors of their own: they share the
    #: memory of what is updated, and a step lets go of it.
    drops_results: bool = False

    @classmethod
    def from_group(
        cls,
        group: GroupPlan,
        target: str = "c",
        moments: Moments | None = None,
        drops_results: bool = False,
    ) -> LaunchSpec:
        """Take from a group of a plan what its launch needs."""
        structure = group.structure
        body = {each: index for index, each in enumerate(structure.classes)}
        numbers = GroupNumbers(
            group.beta1, group.beta2, group.epsilon, group.clip.bound, group.clip.lower
        )
        tensors = tuple(
            TensorNumbers(
                tensor.lr_scale,
                tensor.decay.coefficient,
                tensor.need_clip,
                body[tensor.tensor_class],
                tensor.master,
                tensor.decay.at_run_time,
            )
            for tensor in group.tensors
        )
        return cls(structure, numbers, tensors, target, moments, drops_results)

    @property
    def key(self) -> int:
        """A positive 63-bit number that stands for this launch; equal launches have equal keys."""
        digest = hashlib.sha256(self.to_text().encode()).digest()
        return int.from_bytes(digest[:8], "big") >> 1

    def to_text(self) -> str:
        """One line of JSON; equal launches give equal texts."""
        # The module that reads and writes launches imports this one.
        from radam_codegen.ir.launch_json import launch_to_text

        return launch_to_text(self)

    @staticmethod
    def from_text(text: str) -> LaunchSpec:
        """Read what :meth:`to_text` wrote.

        Raises:
            PlanError: The text is none of ours, or of another version, or makes no sense; the
                message names the place in it.

        """
        from radam_codegen.ir.launch_json import launch_from_text

        return launch_from_text(text)
