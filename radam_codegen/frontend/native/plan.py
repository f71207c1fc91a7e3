"""From updates that were found to the plan that ``minimize`` would have made."""

from __future__ import annotations

from collections.abc import Iterable, Sequence

from radam_codegen.frontend.native.update import Run, Update
from radam_codegen.frontend.read_plan import PlannedGroup, read_dtype
from radam_codegen.ir.dtypes import DType
from radam_codegen.ir.plan import Clip, GroupPlan, StateLayout, TensorPlan, UpdatePlan
from radam_codegen.ir.plan_check import check_plan

__all__ = ["plan_group", "plans_of"]


def plan_group(run: Run) -> PlannedGroup:
    """Return a run of updates as a group, its tensors in the program's order."""
    plan = GroupPlan(
        tuple(_tensor(update, run.clip) for update in run.updates),
        run.updates[0].beta1,
        run.updates[0].beta2,
        run.updates[0].epsilon,
        run.clip,
    )
    return PlannedGroup(
        plan,
        tuple(update.param.handle for update in run.updates),
        tuple(update.grad.handle for update in run.updates),
    )


def _tensor(update: Update, clip: Clip) -> TensorPlan:
    param_dtype = read_dtype("the parameter", update.param.handle.dtype)
    return TensorPlan(
        name=update.name,
        shape=update.param.shape,
        param_dtype=param_dtype,
        grad_dtype=read_dtype("the gradient", update.grad.handle.dtype),
        moment_dtype=DType.FLOAT64 if param_dtype is DType.FLOAT64 else DType.FLOAT32,
        lr_scale=update.lr_scale,
        decay=update.decay,
        need_clip=clip == Clip() or update.clip != Clip(),
    )


def plans_of(groups: Iterable[GroupPlan], layout: StateLayout) -> tuple[UpdatePlan, ...]:
    """Return plans over groups, as few as can be: none has a parameter twice.

    Args:
        groups: in the program's order.
        layout: of the moments.
    """
    plans: list[list[GroupPlan]] = []
    for group in groups:
        names = {tensor.name for tensor in group.tensors}
        fitting = (plan for plan in plans if names.isdisjoint(_names(plan)))
        plan = next(fitting, None)
        if plan is None:
            plan = []
            plans.append(plan)
        plan.append(group)
    found = tuple(UpdatePlan(tuple(plan), layout) for plan in plans)
    for each in found:
        check_plan(each)
    return found


def _names(groups: Sequence[GroupPlan]) -> set[str]:
    return {tensor.name for group in groups for tensor in group.tensors}
