"""Launches as one line of JSON: what an operator in a program carries of its group.

The text is short, as Paddle prints it at every run: neighbours with equal numbers are counted, and
names and shapes stay out. It is read as strictly as a plan is, since a program that was saved can
come from anywhere.
"""

from __future__ import annotations

import json
from collections.abc import Sequence
from itertools import groupby
from typing import Any, NamedTuple

from radam_codegen.errors import PlanError
from radam_codegen.ir.dtypes import DType
from radam_codegen.ir.json_reader import Node, parse
from radam_codegen.ir.launch import LaunchSpec, TensorNumbers
from radam_codegen.ir.moments import MomentPlace, Moments
from radam_codegen.ir.plan import (
    Clip,
    ClipKind,
    Decay,
    DecayKind,
    GroupPlan,
    TensorClass,
    TensorPlan,
    UpdatePlan,
)
from radam_codegen.ir.plan_check import check_plan

__all__ = ["launch_from_text", "launch_to_text"]

_VERSION = 1
#: Most tensors of one launch. A run of equal ones is a single number in the text, and memory is
#: taken for each.
_MAX_TENSORS = 1_000_000
#: Elements are counted in int64.
_MAX_NUMEL = 2**63 - 1


def launch_to_text(spec: LaunchSpec) -> str:
    """Return a launch as text; equal launches give equal texts."""
    runs = [
        [
            len(list(run)),
            each.lr_scale,
            None if each.decay_at_run_time else each.decay,
            each.need_clip,
            each.body,
        ]
        for each, run in groupby(spec.tensors)
    ]
    document: dict[str, Any] = {
        "version": _VERSION,
        "clip": spec.structure.clip.value,
        "skip": spec.structure.skip,
        "classes": [
            [
                each.param_dtype.value,
                each.grad_dtype.value,
                each.moment_dtype.value,
                each.master,
                each.decay.value,
            ]
            for each in spec.structure.classes
        ],
        "numbers": list(spec.numbers),
        "tensors": runs,
    }
    if spec.target != "c":  # which goes without saying
        document["target"] = spec.target
    if spec.moments is not None:
        document["moments"] = [list(spec.moments.sizes), list(map(list, spec.moments.places))]
    if spec.drops_results:
        document["results"] = "dropped"
    return json.dumps(document, separators=(",", ":"), allow_nan=False)


def launch_from_text(text: str) -> LaunchSpec:
    """Read what :func:`launch_to_text` wrote.

    Raises:
        PlanError: The text is none of ours, or of another version, or makes no sense.

    """
    try:
        return _read_launch(parse(text, "a launch"))
    except PlanError as error:
        raise PlanError(
            f"the 'launch' attribute of a radam_codegen operator cannot be read: {error}. The "
            "program was damaged, or written by another version of radam_codegen; build it again"
        ) from None


class _Run(NamedTuple):
    """Neighbours with equal numbers: how many, and what they are."""

    length: int
    tensor: TensorPlan


def _read_launch(node: Node) -> LaunchSpec:
    node.field("version").constant(_VERSION, "this release reads no other version")
    optional = ("target", "moments", "results")
    _, clip, skip, classes, numbers, tensors = node.fields(
        "version", "clip", "skip", "classes", "numbers", "tensors", optional=optional
    )
    target, moments, results = map(node.optional, optional)
    if target is not None:
        target.constant("cuda", "any other target goes without saying")
    if results is not None:
        results.constant("dropped", "that they are kept goes without saying")
    kinds = classes.items(_read_class)
    if not kinds:
        raise classes.error("must have an entry")
    runs = tensors.items(lambda run: _read_run(run, kinds))
    beta1, beta2, epsilon, bound, lower = (each.number() for each in numbers.entries(5))
    named = Clip(clip.member(ClipKind), bound, lower)
    # A launch has the rules of the plan that it was made from, which has a tensor per run here.
    group = GroupPlan(tuple(run.tensor for run in runs), beta1, beta2, epsilon, named, skip.flag())
    check_plan(UpdatePlan((group,)))
    if group.structure.classes != kinds:
        raise classes.error("must be those of the tensors, sorted, each once")
    if sum(run.length for run in runs) > _MAX_TENSORS:
        raise tensors.error(f"are more than the {_MAX_TENSORS} of any launch")
    spec = LaunchSpec.from_group(group)
    listed = zip(spec.tensors, runs)
    whole = tuple(each for tensor, run in listed for each in (tensor,) * run.length)
    return LaunchSpec(
        spec.structure,
        spec.numbers,
        whole,
        "c" if target is None else "cuda",
        None if moments is None else _read_moments(moments, whole, kinds),
        results is not None,
    )


def _read_moments(
    node: Node, tensors: Sequence[TensorNumbers], classes: tuple[TensorClass, ...]
) -> Moments:
    sizes_node, places_node = node.entries(2)
    sizes = sizes_node.items(lambda size: size.index(0, _MAX_NUMEL))
    if not sizes:
        raise sizes_node.error("must have an entry")
    entries = places_node.entries(len(tensors))
    places = []
    types: dict[int, DType] = {}
    for entry, tensor in zip(entries, tensors):
        storage_node, offset = entry.entries(2)
        storage = storage_node.index(0, min(len(types) + 1, len(sizes)))  # in order of first use
        places.append(MomentPlace(storage, offset.index(0, sizes[storage] + 1)))
        dtype = classes[tensor.body].moment_dtype
        if types.setdefault(storage, dtype) is not dtype:
            raise storage_node.error(f"holds moments of type {types[storage]}, not {dtype}")
    if len(types) != len(sizes):
        raise sizes_node.error("must be those of the storages in use, and no others")
    return Moments(sizes, tuple(places))


def _read_class(node: Node) -> TensorClass:
    param, grad, moment, master, decay = node.entries(5)
    return TensorClass(
        param.member(DType),
        grad.member(DType),
        moment.member(DType),
        master.flag(),
        decay.member(DecayKind),
    )


def _read_run(node: Node, classes: tuple[TensorClass, ...]) -> _Run:
    count, lr_scale, decay, need_clip, body = node.entries(5)
    each = classes[body.index(0, len(classes))]
    tensor = TensorPlan(
        node.path,
        (),
        each.param_dtype,
        each.grad_dtype,
        each.moment_dtype,
        each.master,
        lr_scale.number(),
        Decay(each.decay, 0.0 if decay.is_null else decay.number(), decay.is_null),
        need_clip.flag(),
    )
    return _Run(count.index(1, _MAX_TENSORS + 1), tensor)
