"""RAdam in float64, straight from the formula in Paddle's documentation.

It reads the numbers of an ``UpdatePlan`` and shares no code with what it judges. One tensor at a
time, plain NumPy, nothing fused.
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import Any

import numpy as np

from radam_codegen.ir.plan import ClipKind, DecayKind, GroupPlan, TensorPlan

__all__ = ["ReferenceState", "reference_clip", "reference_rho", "reference_step"]

Array = np.ndarray[Any, np.dtype[Any]]


@dataclass
class ReferenceState:
    """What the reference knows of one tensor; all arrays are float64."""

    param: Array
    moment1: Array
    moment2: Array
    step: int = 0


def reference_rho(beta2: float, step: int) -> tuple[float, float]:
    """Return ``rho_inf`` and ``rho_t``."""
    rho_inf = 2.0 / (1.0 - beta2) - 1.0
    return rho_inf, rho_inf - 2.0 * step * beta2**step / (1.0 - beta2**step)


def reference_clip(group: GroupPlan, grads: list[Array]) -> list[Array]:
    """Clip the gradients of a group, as ``paddle.nn.ClipGradBy...`` do."""
    clip = group.clip
    if clip.kind is ClipKind.NONE:
        return grads
    counted = [tensor.need_clip for tensor in group.tensors]
    if clip.kind is ClipKind.VALUE:
        clipped = [np.clip(grad, clip.lower, clip.bound) for grad in grads]
    elif clip.kind is ClipKind.NORM:
        clipped = []
        for grad in grads:
            norm = math.sqrt(math.fsum((grad * grad).ravel()))
            clipped.append(grad * (clip.bound / norm) if norm > clip.bound else grad)
    else:
        squares = [(grad * grad).ravel() for grad, counts in zip(grads, counted) if counts]
        norm = math.sqrt(math.fsum(np.concatenate(squares))) if squares else 0.0
        clipped = [grad * (clip.bound / max(norm, clip.bound)) for grad in grads]
    return [new if counts else old for new, old, counts in zip(clipped, grads, counted)]


def reference_step(
    group: GroupPlan, states: list[ReferenceState], grads: list[Array], lr: float
) -> None:
    """Advance all tensors of a group by one step, in place."""
    clipped = reference_clip(group, [np.asarray(grad, np.float64) for grad in grads])
    for tensor, state, grad in zip(group.tensors, states, clipped):
        _update(group, tensor, state, _decayed(tensor, state.param, grad), lr)


def _decayed(tensor: TensorPlan, param: Array, grad: Array) -> Array:
    if tensor.decay.kind is DecayKind.L2:
        return grad + tensor.decay.coefficient * param
    if tensor.decay.kind is DecayKind.L1:
        return grad + tensor.decay.coefficient * np.sign(param)
    return grad


def _update(
    group: GroupPlan, tensor: TensorPlan, state: ReferenceState, grad: Array, lr: float
) -> None:
    beta1, beta2 = group.beta1, group.beta2
    state.step += 1
    t = state.step
    state.moment1 = beta1 * state.moment1 + (1.0 - beta1) * grad
    state.moment2 = beta2 * state.moment2 + (1.0 - beta2) * grad**2
    moment1_hat = state.moment1 / (1.0 - beta1**t)
    gamma = lr * tensor.lr_scale
    if tensor.decay.kind is DecayKind.DECOUPLED:
        state.param = state.param * (1.0 - gamma * tensor.decay.coefficient)
    rho_inf, rho_t = reference_rho(beta2, t)
    if rho_t > 5.0:
        with np.errstate(divide="ignore", invalid="ignore"):
            # 0 / 0 where epsilon is 0 and there never was a gradient, as the formula has it.
            l_t = math.sqrt(1.0 - beta2**t) / (np.sqrt(state.moment2) + group.epsilon)
            r_t = math.sqrt(
                ((rho_t - 4.0) * (rho_t - 2.0) * rho_inf)
                / ((rho_inf - 4.0) * (rho_inf - 2.0) * rho_t)
            )
            state.param = state.param - gamma * moment1_hat * r_t * l_t
    else:
        state.param = state.param - gamma * moment1_hat
