"""Parameters that several layers of a program share by their name."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import paddle
from paddle.base import core, framework

__all__ = ["merge_shared"]

_BACKWARD = int(core.op_proto_and_checker_maker.OpRole.Backward)


def merge_shared(params_grads: Sequence[tuple[Any, Any]]) -> list[tuple[Any, Any]]:
    """Give every parameter of a PIR program one gradient.

    There a parameter is one value per layer that asked for it by name, each with its own part of
    the gradient; the legacy IR and dynamic graph add the parts up themselves.

    Args:
        params_grads: pairs of parameter and gradient, or None as gradient, in the current program.

    Returns:
        A pair for each name, in the order in which names come first.
    """
    parts: dict[str, list[tuple[Any, Any]]] = {}
    for param, grad in params_grads:
        parts.setdefault(param.name, []).append((param, grad))
    return [_merge(pairs) for pairs in parts.values()]


def _merge(pairs: list[tuple[Any, Any]]) -> tuple[Any, Any]:
    param = pairs[0][0]
    grads = [grad for _, grad in pairs if grad is not None]
    if len(grads) < 2:
        return param, grads[0] if grads else None
    with framework.pir_op_role_guard(_BACKWARD):
        return param, paddle.add_n(grads)
