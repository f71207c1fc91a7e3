"""From a kernel's name back to its structure, and every class of tensors that a name can hold."""

from __future__ import annotations

import itertools
from collections.abc import Iterator
from functools import cache

from radam_codegen.errors import PlanError
from radam_codegen.ir.dtypes import DType
from radam_codegen.ir.plan import ClipKind, DecayKind, KernelStructure, TensorClass

__all__ = ["structure_from_name", "tensor_classes"]

#: Longest piece of a name that a message repeats.
_MAX_SHOWN = 60


@cache
def tensor_classes() -> tuple[TensorClass, ...]:
    """Every class of tensors that a plan may have, sorted."""
    return tuple(sorted(_classes()))


def _classes() -> Iterator[TensorClass]:
    narrow = (DType.BFLOAT16, DType.FLOAT16)
    for param in (DType.FLOAT64, DType.FLOAT32, *narrow):
        moment = DType.FLOAT64 if param is DType.FLOAT64 else DType.FLOAT32
        masters = (False, True) if param in narrow else (False,)
        grads = sorted({param, DType.FLOAT32})
        for grad, master, decay in itertools.product(grads, masters, DecayKind):
            yield TensorClass(param, grad, moment, master, decay)


def structure_from_name(name: str) -> KernelStructure:
    """Read the structure that has a name such as ``radam_clip_global_norm_skip__f32_l2``.

    Args:
        name: What :attr:`radam_codegen.ir.plan.KernelStructure.name` returns.

    Raises:
        PlanError: There is no such structure; the message names the part that cannot be read.

    """
    first, *rest = name.split("__")
    heads = _heads()
    if first not in heads:
        raise PlanError(
            f"{_shown(name)} is not the name of a kernel: its first part is {_shown(first)}, and "
            f"must be one of {', '.join(heads)}"
        )
    known = {each.name: each for each in tensor_classes()}
    for part in rest:
        if part not in known:
            raise PlanError(
                f"{_shown(name)} is not the name of a kernel: {_shown(part)} is no class of "
                "tensors; one is written like f32_l2 or bf16_grad_f32_master_no_decay"
            )
    classes = tuple(known[part] for part in rest)
    clip, skip = heads[first]
    if not classes:
        raise PlanError(
            f"{_shown(name)} is not the name of a kernel: it names no class of tensors, as "
            f"{first}__f32_no_decay does"
        )
    structure = KernelStructure(clip, skip, tuple(sorted(set(classes))))
    if structure.classes != classes:
        raise PlanError(
            f"{_shown(name)} is not the name of a kernel: its classes of tensors must be sorted, "
            f"each once; that kernel is {_shown(structure.name)}"
        )
    return structure


@cache
def _heads() -> dict[str, tuple[ClipKind, bool]]:
    """What a name can begin with: the clip, and whether the step can be skipped."""
    return {
        KernelStructure(clip, skip, ()).name: (clip, skip)
        for clip, skip in itertools.product(ClipKind, (False, True))
    }


def _shown(text: str) -> str:
    """A text from outside, on one line and not without end."""
    return ascii(text if len(text) <= _MAX_SHOWN else f"{text[:_MAX_SHOWN]}...")
