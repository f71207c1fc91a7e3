"""From parameters and their gradients to an ``UpdatePlan``."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import paddle
from paddle.base import core
from paddle.nn import ClipGradByGlobalNorm, ClipGradByNorm, ClipGradByValue
from paddle.regularizer import L1Decay, L2Decay

from radam_codegen.errors import UnsupportedError
from radam_codegen.frontend.arguments import as_number, is_variable
from radam_codegen.frontend.groups import GroupOptions, Groups
from radam_codegen.ir.dtypes import DType
from radam_codegen.ir.plan import (
    Clip,
    ClipKind,
    Decay,
    DecayKind,
    GroupPlan,
    TensorPlan,
    UpdatePlan,
)
from radam_codegen.ir.plan_check import check_plan

__all__ = ["PlannedGroup", "is_sparse", "read_dtype", "read_plan"]

_HALF = (DType.BFLOAT16, DType.FLOAT16)
#: Types by the names that Paddle has for them: in PIR and dynamic graph, and in legacy.
_DTYPES = {
    **{each.value: each for each in DType if each.is_float},
    "fp64": DType.FLOAT64,
    "fp32": DType.FLOAT32,
    "fp16": DType.FLOAT16,
    "bf16": DType.BFLOAT16,
}


@dataclass(frozen=True)
class PlannedGroup:
    """A group of the plan with Paddle's objects for its tensors, in the plan's order."""

    plan: GroupPlan
    params: tuple[Any, ...]
    grads: tuple[Any, ...]
    #: Variable of a program with the coefficient of decays that are read at run time, or None.
    weight_decay: Any = None


def read_plan(
    params_grads: Sequence[tuple[Any, Any]],
    groups: Groups,
    *,
    multi_precision: bool = False,
    skip: bool = False,
) -> tuple[UpdatePlan, tuple[PlannedGroup, ...]]:
    """Read what there is to update.

    Args:
        params_grads: parameters and gradients, as ``backward`` returns them; a parameter whose
            gradient is None, or that is frozen, is left out.
        groups: the options of each parameter.
        multi_precision: keep float32 master weights of bfloat16 and float16 parameters.
        skip: whether a ``found_inf`` flag may skip the step.

    Returns:
        The plan, and its groups with Paddle's own objects. A group without parameters is left out.

    Raises:
        UnsupportedError: a gradient is sparse, a type has no kernel, or a clip, a regularizer or a
            learning rate is of a kind that is not known; the message names the parameter.
        PlanError: the plan contradicts itself.
    """
    members: list[list[tuple[Any, Any]]] = [[] for _ in groups.options]
    for param, grad in params_grads:
        if grad is not None and not param.stop_gradient:
            members[groups.group_of(param.name)].append((param, grad))
    planned = tuple(
        _read_group(groups, options, pairs, multi_precision, skip)
        for options, pairs in zip(groups.options, members)
        if pairs
    )
    plan = UpdatePlan(tuple(group.plan for group in planned))
    check_plan(plan)
    return plan, planned


def _read_group(
    groups: Groups,
    options: GroupOptions,
    pairs: list[tuple[Any, Any]],
    multi_precision: bool,
    skip: bool,
) -> PlannedGroup:
    params, grads = zip(*pairs)
    tensors = tuple(
        _read_tensor(groups, options, param, grad, multi_precision) for param, grad in pairs
    )
    plan = GroupPlan(
        tensors,
        options.beta1,
        options.beta2,
        options.epsilon,
        _read_clip(options.grad_clip),
        skip,
    )
    at_run_time = any(tensor.decay.at_run_time for tensor in tensors)
    return PlannedGroup(plan, params, grads, options.weight_decay if at_run_time else None)


def _read_tensor(
    groups: Groups, options: GroupOptions, param: Any, grad: Any, multi_precision: bool
) -> TensorPlan:
    name = str(param.name)
    if is_sparse(grad):
        raise UnsupportedError(
            f"the gradient of parameter {name!r} is sparse (SelectedRows), which RAdam does not "
            "support; build its Embedding with sparse=False"
        )
    shape = tuple(int(extent) for extent in param.shape)
    if any(extent < 0 for extent in shape):
        raise UnsupportedError(
            f"parameter {name!r} has the shape {list(shape)}; every extent must be known"
        )
    param_dtype = read_dtype(f"parameter {name!r}", param.dtype)
    grad_dtype = read_dtype(f"the gradient of parameter {name!r}", grad.dtype)
    return TensorPlan(
        name=name,
        shape=shape,
        param_dtype=param_dtype,
        grad_dtype=grad_dtype,
        moment_dtype=DType.FLOAT64 if param_dtype is DType.FLOAT64 else DType.FLOAT32,
        master=multi_precision and param_dtype in _HALF,
        lr_scale=_read_lr_scale(groups, options, param),
        decay=_read_decay(groups, options, param),
        need_clip=bool(getattr(param, "need_clip", True)),
    )


def is_sparse(grad: Any) -> bool:
    """Whether a gradient is SelectedRows, in a program of either IR or in dynamic graph."""
    if isinstance(grad, paddle.pir.Value):
        return bool(grad.is_selected_row_type())
    if isinstance(grad, paddle.Tensor):
        return bool(grad.is_selected_rows())
    return bool(grad.type == core.VarDesc.VarType.SELECTED_ROWS)


def read_dtype(what: str, dtype: Any) -> DType:
    """Return a type of Paddle's, in a program of either IR or in dynamic graph.

    Args:
        what: has the type, for the message.
        dtype: the type.

    Raises:
        UnsupportedError: there is no kernel for it.
    """
    found = _DTYPES.get(str(dtype).rsplit(".", 1)[-1].lower())
    if found is None:
        raise UnsupportedError(
            f"{what} has the type {dtype}, for which there is no kernel; there are kernels for "
            + ", ".join(each.value for each in DType if each.is_float)
        )
    return found


def _read_lr_scale(groups: Groups, options: GroupOptions, param: Any) -> float:
    if "learning_rate" in options.explicit and not groups.has_own(param, "learning_rate"):
        return options.lr_scale
    attributes = getattr(param, "optimize_attr", None) or {}
    scale = attributes.get("learning_rate", 1.0)
    if not isinstance(scale, (int, float)):
        raise UnsupportedError(
            f"parameter {param.name!r} has a learning rate of type {type(scale).__name__}; give a "
            "number as ParamAttr(learning_rate=), which scales the optimizer's learning rate"
        )
    return as_number(f"learning rate of parameter {param.name!r}", scale)


def _read_decay(groups: Groups, options: GroupOptions, param: Any) -> Decay:
    own = getattr(param, "regularizer", None)
    set_by_group = "weight_decay" in options.explicit and not groups.has_own(param, "regularizer")
    if own is None or set_by_group:
        return _decay_of(options.weight_decay, param, decoupled=options.decoupled)
    return _decay_of(own, param, decoupled=False)


def _decay_of(decay: Any, param: Any, *, decoupled: bool) -> Decay:
    if decay is None:
        return Decay()
    # The exact classes: what a subclass changes would be lost.
    kinds: dict[Any, DecayKind] = {L2Decay: DecayKind.L2, L1Decay: DecayKind.L1}
    kind = DecayKind.DECOUPLED if decoupled else kinds.get(type(decay), DecayKind.L2)
    if type(decay) in kinds:  # Paddle makes one of a number, also of a decoupled one
        coefficient = as_number(f"regularizer of parameter {param.name!r}", decay._coeff)
        return Decay(kind, coefficient)
    if is_variable(decay):
        return Decay(kind, 0.0, at_run_time=True)
    if isinstance(decay, (int, float, paddle.Tensor)):
        return Decay(kind, as_number("weight_decay", decay))
    raise UnsupportedError(
        f"parameter {param.name!r} has a regularizer of type {type(decay).__name__}; there are "
        "kernels for L1Decay and L2Decay"
    )


def _read_clip(clip: Any) -> Clip:
    if clip is None:
        return Clip()
    if type(clip) is ClipGradByGlobalNorm:
        return Clip(ClipKind.GLOBAL_NORM, as_number("clip_norm", clip.clip_norm))
    if type(clip) is ClipGradByNorm:
        return Clip(ClipKind.NORM, as_number("clip_norm", clip.clip_norm))
    if type(clip) is ClipGradByValue:
        return Clip(ClipKind.VALUE, as_number("max", clip.max), as_number("min", clip.min))
    raise UnsupportedError(
        f"grad_clip is a {type(clip).__name__}; there are kernels for ClipGradByGlobalNorm, "
        "ClipGradByNorm and ClipGradByValue"
    )
