"""RAdam in float64, straight from the formula in Paddle's documentation.

It reads the numbers of an ``UpdatePlan`` and shares no code with what it judges. One tensor at a
time, plain NumPy, nothing fused. What is one number per step is computed with 60 digits, as the
closed forms lose digits to cancellation where a beta is near 1.
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from decimal import MAX_EMAX, MIN_EMIN, Context, Decimal, localcontext
from functools import lru_cache
from typing import Any

import numpy as np

from radam_codegen.ir.plan import ClipKind, DecayKind, GroupPlan, TensorPlan

__all__ = [
    "ReferenceState",
    "StepNumbers",
    "reference_clip",
    "reference_rho",
    "reference_step",
    "step_numbers",
]

Array = np.ndarray[Any, np.dtype[Any]]


@dataclass
class ReferenceState:
    """What the reference knows of one tensor; all arrays are float64."""

    param: Array
    moment1: Array
    moment2: Array
    step: int = 0


@dataclass(frozen=True)
class StepNumbers:
    """What depends on the betas and the step count alone, with 60 digits."""

    bias_correction1: Decimal
    bias_correction2: Decimal
    rho_inf: Decimal
    rho_t: Decimal
    #: None where ``rho_t`` is not above 5.
    rectification: Decimal | None


@lru_cache(maxsize=4096)
def step_numbers(beta1: float, beta2: float, t: int) -> StepNumbers:
    """Compute the documented formula for step ``t`` from what the betas are as float64."""
    # The closed form of rho_t loses twice the digits that beta2 has in common with 1: 2 * 16.
    with localcontext(Context(prec=100, Emax=MAX_EMAX, Emin=MIN_EMIN)):
        exact1, exact2 = Decimal(beta1), Decimal(beta2)
        bias_correction1, bias_correction2 = 1 - exact1**t, 1 - exact2**t
        rho_inf = 2 / (1 - exact2) - 1
        rho_t = rho_inf - 2 * t * exact2**t / bias_correction2
        rectification = None
        if rho_t > 5:
            above = (rho_t - 4) * (rho_t - 2) * rho_inf
            rectification = (above / ((rho_inf - 4) * (rho_inf - 2) * rho_t)).sqrt()
        return StepNumbers(bias_correction1, bias_correction2, rho_inf, rho_t, rectification)


def reference_rho(beta2: float, step: int) -> tuple[float, float]:
    """Return ``rho_inf`` and ``rho_t``."""
    numbers = step_numbers(0.0, beta2, step)
    return float(numbers.rho_inf), float(numbers.rho_t)


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
    numbers = step_numbers(beta1, beta2, t)
    moment1_hat = state.moment1 / float(numbers.bias_correction1)
    gamma = lr * tensor.lr_scale
    if tensor.decay.kind is DecayKind.DECOUPLED:
        state.param = state.param * (1.0 - gamma * tensor.decay.coefficient)
    if numbers.rectification is not None:
        with np.errstate(divide="ignore", invalid="ignore"):
            # 0 / 0 where epsilon is 0 and there never was a gradient, as the formula has it.
            root = math.sqrt(numbers.bias_correction2)
            l_t = root / (np.sqrt(state.moment2) + group.epsilon)
            r_t = float(numbers.rectification)
            state.param = state.param - gamma * moment1_hat * r_t * l_t
    else:
        state.param = state.param - gamma * moment1_hat
