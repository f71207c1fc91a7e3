"""Clips that no kernel does: they are called on the pairs, and the kernel runs without a clip."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from typing import Any

from paddle.nn import ClipGradByGlobalNorm, ClipGradByNorm, ClipGradByValue

from radam_codegen.errors import ArgumentTypeError
from radam_codegen.frontend.groups import Groups

__all__ = ["call_other_clips", "has_other_clips"]

Pairs = list[tuple[Any, Any]]

#: The exact classes: what a subclass changes would be lost.
_IN_KERNELS = (ClipGradByGlobalNorm, ClipGradByNorm, ClipGradByValue)


def has_other_clips(groups: Groups) -> bool:
    """Whether a group has a clip that is not done in kernels."""
    return any(map(_is_other, groups.settings.clips))


def call_other_clips(
    groups: Groups, params_grads: Sequence[tuple[Any, Any]]
) -> tuple[Groups, Pairs]:
    """Call the clips that are not done in kernels, each on the pairs of its group.

    Args:
        groups: the options of each parameter.
        params_grads: pairs of parameter and gradient; None for no gradient.

    Returns:
        The groups without these clips, and the pairs as the clips returned them.

    Raises:
        ArgumentTypeError: a clip returns something else than pairs.
    """
    of_group: list[Pairs] = [[] for _ in groups.options]
    for param, grad in params_grads:
        if grad is not None:
            of_group[groups.group_of(param.name)].append((param, grad))
    clipped: Pairs = []
    for options, pairs in zip(groups.options, of_group):
        is_called = pairs and _is_other(options.grad_clip)
        clipped += _called(options.grad_clip, pairs) if is_called else pairs
    others = tuple(filter(_is_other, groups.settings.clips))
    return replace(groups, settings=groups.settings.without_clips(others)), clipped


def _is_other(clip: Any) -> bool:
    # One that Paddle's sharding has told to sum norms over processes does so itself.
    return clip is not None and (
        type(clip) not in _IN_KERNELS or bool(getattr(clip, "should_comm_on_shard_dim", False))
    )


def _called(clip: Any, pairs: Pairs) -> Pairs:
    returned = clip(pairs)
    try:
        return [(param, grad) for param, grad in returned]
    except (TypeError, ValueError) as error:
        raise ArgumentTypeError(
            f"the gradient clip {type(clip).__name__} returned {type(returned).__name__}; it must "
            "return a list of pairs of parameter and gradient"
        ) from error
