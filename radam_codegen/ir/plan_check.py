"""Whether an :class:`UpdatePlan` makes sense."""

from __future__ import annotations

import math

from radam_codegen.errors import PlanError
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

__all__ = ["check_plan"]

#: Elements are counted in int64.
_MAX_NUMEL = 2**63 - 1
#: Longest piece of a name that a message repeats.
_MAX_SHOWN = 200

_PARAM_DTYPES = (DType.FLOAT64, DType.FLOAT32, DType.BFLOAT16, DType.FLOAT16)
_MASTER_DTYPES = (DType.BFLOAT16, DType.FLOAT16)


def check_plan(plan: UpdatePlan) -> None:
    """Raise :class:`PlanError` unless every group and tensor of ``plan`` makes sense.

    The message names the group by its index, and the parameter by its name.
    """
    group_of: dict[str, int] = {}
    for index, group in enumerate(plan.groups):
        _check_group(index, group)
        for tensor in group.tensors:
            _check_tensor(f"group {index}, parameter {_shown(tensor.name)}", tensor)
            if tensor.name in group_of:
                first = group_of[tensor.name]
                where = f"twice in group {index}" if first == index else f"by group {first} too"
                raise PlanError(
                    f"group {index}: parameter {_shown(tensor.name)} is claimed {where}; "
                    "a parameter can be updated only once per step"
                )
            group_of[tensor.name] = index


def _shown(name: str) -> str:
    """A name on one line, and not without end."""
    return repr(name if len(name) <= _MAX_SHOWN else f"{name[:_MAX_SHOWN]}...")


def _check_group(index: int, group: GroupPlan) -> None:
    where = f"group {index}"
    if not group.tensors:
        raise PlanError(f"{where}: has no parameters; leave the group out")
    for name, beta in (("beta1", group.beta1), ("beta2", group.beta2)):
        if not 0.0 <= beta < 1.0:
            raise PlanError(f"{where}: {name} is {beta!r}, but must be in [0, 1)")
    if not (math.isfinite(group.epsilon) and group.epsilon >= 0.0):
        raise PlanError(f"{where}: epsilon is {group.epsilon!r}, but must be finite and at least 0")
    _check_clip(where, group.clip)


def _check_clip(where: str, clip: Clip) -> None:
    for name, number in (("bound", clip.bound), ("lower bound", clip.lower)):
        if not math.isfinite(number):
            raise PlanError(f"{where}: the clip's {name} is {number!r}, but must be finite")
    if clip.kind is ClipKind.VALUE:
        if clip.lower > clip.bound:
            raise PlanError(
                f"{where}: the clip's lower bound {clip.lower!r} exceeds its bound {clip.bound!r}"
            )
        return
    if clip.lower != 0.0:
        raise PlanError(
            f"{where}: only a clip by value has a lower bound, so set {clip.lower!r} to 0"
        )
    if clip.kind is ClipKind.NONE:
        if clip.bound != 0.0:
            raise PlanError(
                f"{where}: the clip has no kind but the bound {clip.bound!r}; set it to 0"
            )
    elif clip.bound <= 0.0:
        raise PlanError(f"{where}: the clip's bound is {clip.bound!r}, but must be positive")


def _check_tensor(where: str, tensor: TensorPlan) -> None:
    if not tensor.name:
        raise PlanError(f"{where}: has no name")
    if any(extent < 0 for extent in tensor.shape):
        raise PlanError(f"{where}: the shape has the negative extent {min(tensor.shape)}")
    if _is_too_large(tensor.shape):
        raise PlanError(f"{where}: has more elements than an int64 can count")
    if not math.isfinite(tensor.lr_scale):
        raise PlanError(f"{where}: lr_scale is {tensor.lr_scale!r}, but must be finite")
    _check_decay(where, tensor.decay)
    _check_dtypes(where, tensor)


def _is_too_large(shape: tuple[int, ...]) -> bool:
    if any(extent > _MAX_NUMEL for extent in shape):
        return True
    if 0 in shape:
        return False
    numel = 1
    for extent in shape:
        numel *= extent
        # Stops here, as a hostile shape's full product could be a number of any length.
        if numel > _MAX_NUMEL:
            return True
    return False


def _check_decay(where: str, decay: Decay) -> None:
    coefficient = decay.coefficient
    if not (math.isfinite(coefficient) and coefficient >= 0.0):
        raise PlanError(
            f"{where}: the decay's coefficient is {coefficient!r}, "
            "but must be finite and at least 0"
        )
    if decay.at_run_time and (decay.kind is DecayKind.NONE or coefficient != 0.0):
        raise PlanError(
            f"{where}: a decay whose coefficient is read at run time needs a kind, and the "
            f"coefficient 0; it has {decay.kind} and {coefficient!r}"
        )
    if decay.kind is DecayKind.NONE and coefficient != 0.0:
        raise PlanError(
            f"{where}: the decay has no kind but the coefficient {coefficient!r}; set it to 0"
        )


def _check_dtypes(where: str, tensor: TensorPlan) -> None:
    param = tensor.param_dtype
    if param not in _PARAM_DTYPES:
        raise PlanError(
            f"{where}: the dtype is {param}, but must be one of "
            + ", ".join(str(each) for each in _PARAM_DTYPES)
        )
    if tensor.grad_dtype not in (param, DType.FLOAT32):
        raise PlanError(
            f"{where}: the gradient's dtype is {tensor.grad_dtype}, "
            f"but must be float32 or that of the parameter ({param})"
        )
    moment = DType.FLOAT64 if param is DType.FLOAT64 else DType.FLOAT32
    if tensor.moment_dtype is not moment:
        raise PlanError(
            f"{where}: the moments' dtype is {tensor.moment_dtype}, "
            f"but must be {moment} for a {param} parameter"
        )
    if tensor.master and param not in _MASTER_DTYPES:
        raise PlanError(
            f"{where}: a {param} parameter has no master weight; "
            "only bfloat16 and float16 parameters may have one"
        )
