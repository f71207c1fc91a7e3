"""Plans as JSON text: a versioned format, written in one way only and read strictly."""

from __future__ import annotations

import json
from typing import Any

from radam_codegen.ir.dtypes import DType
from radam_codegen.ir.json_reader import Node, parse
from radam_codegen.ir.plan import (
    Clip,
    ClipKind,
    Decay,
    DecayKind,
    GroupPlan,
    StateLayout,
    TensorPlan,
    UpdatePlan,
)
from radam_codegen.ir.plan_check import check_plan

__all__ = ["FORMAT", "VERSION", "plan_from_json", "plan_to_json"]

#: Value of the document's key ``format``.
FORMAT = "radam_codegen.plan"
#: Value of the document's key ``version``; raised whenever the meaning of a document changes.
VERSION = 1


def plan_to_json(plan: UpdatePlan) -> str:
    """Return ``plan`` as JSON text: sorted keys, ASCII, numbers that read back exactly.

    Raises:
        PlanError: The plan makes no sense.

    """
    check_plan(plan)
    document = {
        "format": FORMAT,
        "version": VERSION,
        "layout": plan.layout.value,
        "groups": [_group_to_json(group) for group in plan.groups],
    }
    return json.dumps(document, indent=1, sort_keys=True, allow_nan=False) + "\n"


def _group_to_json(group: GroupPlan) -> dict[str, Any]:
    return {
        "beta1": float(group.beta1),
        "beta2": float(group.beta2),
        "epsilon": float(group.epsilon),
        "clip": {
            "kind": group.clip.kind.value,
            "bound": float(group.clip.bound),
            "lower": float(group.clip.lower),
        },
        "skip": bool(group.skip),
        "tensors": [_tensor_to_json(tensor) for tensor in group.tensors],
    }


def _tensor_to_json(tensor: TensorPlan) -> dict[str, Any]:
    return {
        "name": tensor.name,
        "shape": [int(extent) for extent in tensor.shape],
        "param_dtype": tensor.param_dtype.value,
        "grad_dtype": tensor.grad_dtype.value,
        "moment_dtype": tensor.moment_dtype.value,
        "master": bool(tensor.master),
        "lr_scale": float(tensor.lr_scale),
        "decay": {
            "kind": tensor.decay.kind.value,
            "coefficient": float(tensor.decay.coefficient),
            "at_run_time": bool(tensor.decay.at_run_time),
        },
        "need_clip": bool(tensor.need_clip),
    }


def plan_from_json(text: str) -> UpdatePlan:
    """Read a plan from JSON text.

    Raises:
        PlanError: The text is not what :func:`plan_to_json` writes, or the plan makes no sense.

    """
    plan = _read_plan(parse(text, "a plan"))
    check_plan(plan)
    return plan


def _read_plan(node: Node) -> UpdatePlan:
    # Format and version come first: another version's document may well have other keys.
    node.field("format").constant(FORMAT, "this is no plan")
    node.field("version").constant(VERSION, "this release reads no other version")
    _, _, layout, groups = node.fields("format", "version", "layout", "groups")
    return UpdatePlan(groups=groups.items(_read_group), layout=layout.member(StateLayout))


def _read_group(node: Node) -> GroupPlan:
    beta1, beta2, epsilon, clip, skip, tensors = node.fields(
        "beta1", "beta2", "epsilon", "clip", "skip", "tensors"
    )
    return GroupPlan(
        tensors=tensors.items(_read_tensor),
        beta1=beta1.number(),
        beta2=beta2.number(),
        epsilon=epsilon.number(),
        clip=_read_clip(clip),
        skip=skip.flag(),
    )


def _read_clip(node: Node) -> Clip:
    kind, bound, lower = node.fields("kind", "bound", "lower")
    return Clip(kind.member(ClipKind), bound.number(), lower.number())


def _read_tensor(node: Node) -> TensorPlan:
    fields = node.fields(
        "name",
        "shape",
        "param_dtype",
        "grad_dtype",
        "moment_dtype",
        "master",
        "lr_scale",
        "decay",
        "need_clip",
    )
    name, shape, param, grad, moment, master, lr_scale, decay, need_clip = fields
    return TensorPlan(
        name=name.text(),
        shape=shape.items(Node.integer),
        param_dtype=param.member(DType),
        grad_dtype=grad.member(DType),
        moment_dtype=moment.member(DType),
        master=master.flag(),
        lr_scale=lr_scale.number(),
        decay=_read_decay(decay),
        need_clip=need_clip.flag(),
    )


def _read_decay(node: Node) -> Decay:
    kind, coefficient, at_run_time = node.fields("kind", "coefficient", "at_run_time")
    return Decay(kind.member(DecayKind), coefficient.number(), at_run_time.flag())
