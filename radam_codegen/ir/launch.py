"""What an operator in a program has to know of a group: its kernel's structure and its numbers.

The text form travels in the program as an attribute of the operator, so that a program that was
saved can be run elsewhere. It is short, as Paddle prints it at every run: neighbours with equal
numbers are counted, and names and shapes stay out.
"""

from __future__ import annotations

import hashlib
import json
from dataclasses import dataclass
from itertools import groupby
from typing import Any, NamedTuple

from radam_codegen.errors import PlanError
from radam_codegen.ir.dtypes import DType
from radam_codegen.ir.plan import ClipKind, DecayKind, GroupPlan, KernelStructure, TensorClass

__all__ = ["GroupNumbers", "LaunchSpec", "TensorNumbers"]

_VERSION = 1


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

    @classmethod
    def from_group(cls, group: GroupPlan) -> LaunchSpec:
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
        return cls(structure, numbers, tensors)

    @property
    def key(self) -> int:
        """A positive 63-bit number that stands for this launch; equal launches have equal keys."""
        digest = hashlib.sha256(self.to_text().encode()).digest()
        return int.from_bytes(digest[:8], "big") >> 1

    def to_text(self) -> str:
        """One line of JSON; equal launches give equal texts."""
        runs = [
            [
                len(list(run)),
                each.lr_scale,
                None if each.decay_at_run_time else each.decay,
                each.need_clip,
                each.body,
            ]
            for each, run in groupby(self.tensors)
        ]
        document = {
            "version": _VERSION,
            "clip": self.structure.clip.value,
            "skip": self.structure.skip,
            "classes": [
                [
                    each.param_dtype.value,
                    each.grad_dtype.value,
                    each.moment_dtype.value,
                    each.master,
                    each.decay.value,
                ]
                for each in self.structure.classes
            ],
            "numbers": list(self.numbers),
            "tensors": runs,
        }
        return json.dumps(document, separators=(",", ":"), allow_nan=False)

    @classmethod
    def from_text(cls, text: str) -> LaunchSpec:
        """Read what :meth:`to_text` wrote.

        Raises:
            PlanError: the text is none of ours, or of another version.
        """
        try:
            return cls._from_document(json.loads(text))
        except (ValueError, TypeError, KeyError, IndexError) as error:
            if isinstance(error, PlanError):
                raise
            raise PlanError(
                "the 'launch' attribute of a radam_codegen operator cannot be read "
                f"({type(error).__name__}: {error}); the program was damaged or written by another "
                "version of radam_codegen: build it again"
            ) from error

    @classmethod
    def _from_document(cls, document: dict[str, Any]) -> LaunchSpec:
        if document["version"] != _VERSION:
            raise PlanError(
                f"the program's optimizer was written in format {document['version']}, and this "
                f"radam_codegen reads format {_VERSION}; build the program again"
            )
        classes = tuple(
            TensorClass(DType(param), DType(grad), DType(moment), bool(master), DecayKind(decay))
            for param, grad, moment, master, decay in document["classes"]
        )
        structure = KernelStructure(ClipKind(document["clip"]), bool(document["skip"]), classes)
        numbers = GroupNumbers(*(float(each) for each in document["numbers"]))
        tensors: list[TensorNumbers] = []
        for count, lr_scale, decay, need_clip, body in document["tensors"]:
            if not 0 <= body < len(classes):
                raise PlanError(f"a tensor wants body {body} of {len(classes)}")
            each = TensorNumbers(
                float(lr_scale),
                0.0 if decay is None else float(decay),
                bool(need_clip),
                int(body),
                classes[body].master,
                decay is None,
            )
            tensors.extend([each] * count)
        return cls(structure, numbers, tuple(tensors))
