"""Memory that updates keep, and move in one step, natively and fused."""

from __future__ import annotations

from collections.abc import Iterable

from radam_codegen.frontend.native.update import ACCUMULATORS
from radam_codegen.ir.plan import ClipKind, DecayKind, GroupPlan, TensorPlan

__all__ = ["fused_state", "fused_traffic", "native_state", "native_traffic"]

#: How often native operators pass over a tensor: parameter, gradient and state are read, and all
#: but the gradient are written.
_UPDATE = 13
#: ``scale`` and ``sum``; for L1 ``sign`` before.
_DECAY = {DecayKind.L2: 5, DecayKind.L1: 7}
#: A norm is one read, the product with a factor a read and a write.
_CLIP = {ClipKind.GLOBAL_NORM: 3, ClipKind.NORM: 3, ClipKind.VALUE: 2}
#: Parameter, gradient and moments are read, and all but the gradient are written.
_FUSED = 7
#: Bytes of a step count.
_COUNT = 8


def native_state(tensors: Iterable[TensorPlan]) -> int:
    """Bytes that native RAdam keeps from step to step, besides parameters."""
    return sum(len(ACCUMULATORS) * _bytes(tensor) for tensor in tensors)


def fused_state(tensors: Iterable[TensorPlan]) -> int:
    """Bytes that fused steps keep: two moments and a step count per parameter."""
    return sum(2 * _bytes(tensor) + _COUNT for tensor in tensors)


def native_traffic(groups: Iterable[GroupPlan]) -> int:
    """Bytes that native operators read and write in a step, clip and decay included."""
    return sum(
        _bytes(tensor)
        * (
            _UPDATE
            + _DECAY.get(tensor.decay.kind, 0)
            + (_CLIP.get(group.clip.kind, 0) if tensor.need_clip else 0)
        )
        for group in groups
        for tensor in group.tensors
    )


def fused_traffic(groups: Iterable[GroupPlan]) -> int:
    """Bytes that fused steps read and write; a norm is one more read of the gradient."""
    norms = (ClipKind.GLOBAL_NORM, ClipKind.NORM)
    return sum(
        _bytes(tensor) * (_FUSED + (group.clip.kind in norms and tensor.need_clip))
        for group in groups
        for tensor in group.tensors
    )


def _bytes(tensor: TensorPlan) -> int:
    return tensor.numel * tensor.moment_dtype.size
