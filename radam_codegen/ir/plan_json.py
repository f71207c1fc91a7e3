"""Plans as JSON text: a versioned format, written in one way only and read strictly.

The reader takes text from anywhere: whatever is wrong with it becomes a :class:`PlanError` that
names the place in the document, such as ``groups[1].tensors[3].decay.kind``.
"""

from __future__ import annotations

import json
import math
from collections.abc import Callable
from enum import Enum
from typing import Any, TypeVar

from radam_codegen.errors import PlanError
from radam_codegen.ir.dtypes import DType
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

#: Longest text that is read, in characters; some hundred bytes per tensor make a long plan.
_MAX_TEXT = 256 * 1024 * 1024
#: Longest piece of the document that a message repeats.
_MAX_SHOWN = 60

_T = TypeVar("_T")
_E = TypeVar("_E", bound=Enum)


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
    plan = _read_plan(_Node(_parse(text), ""))
    check_plan(plan)
    return plan


class _Object(dict[str, object]):
    """A JSON object that remembers a key that it had twice."""

    duplicate: str | None = None


def _parse(text: str) -> object:
    if not isinstance(text, str):
        raise PlanError(f"a plan is read from text, not from {type(text).__name__}")
    if len(text) > _MAX_TEXT:
        raise PlanError(f"the text has {len(text)} characters, more than any plan ({_MAX_TEXT})")
    try:
        return json.loads(text, object_pairs_hook=_object)
    except RecursionError:
        raise PlanError("the text is nested deeper than any plan") from None
    except ValueError as error:
        # Also raised for integers with thousands of digits.
        raise PlanError(f"the text is not valid JSON: {error}") from None


def _object(pairs: list[tuple[str, object]]) -> _Object:
    result = _Object()
    for key, value in pairs:
        if key in result:
            result.duplicate = key
        result[key] = value
    return result


class _Node:
    """A value in the document and the way to it."""

    def __init__(self, value: object, path: str) -> None:
        self._value = value
        self._path = path

    def error(self, reason: str) -> PlanError:
        """Make an error that names this place."""
        return PlanError(f"{self._path or 'document'}: {reason}")

    def field(self, key: str) -> _Node:
        """Return the value of one key of an object."""
        return self._field(self._object(), key)

    def fields(self, *keys: str) -> list[_Node]:
        """Return the values of an object that has these keys and no others."""
        found = self._object()
        unknown = sorted(set(found) - set(keys))
        if unknown:
            raise self.error(f"unknown key {_shown(unknown[0])}; known are {', '.join(keys)}")
        return [self._field(found, key) for key in keys]

    def _object(self) -> _Object:
        if not isinstance(self._value, _Object):
            raise self._wrong_type("an object")
        if self._value.duplicate is not None:
            raise self.error(f"key {_shown(self._value.duplicate)} is there twice")
        return self._value

    def _field(self, found: _Object, key: str) -> _Node:
        if key not in found:
            raise self.error(f"key {key!r} is missing")
        return _Node(found[key], f"{self._path}.{key}" if self._path else key)

    def items(self, read: Callable[[_Node], _T]) -> tuple[_T, ...]:
        """Read each entry of an array."""
        if not isinstance(self._value, list):
            raise self._wrong_type("an array")
        return tuple(
            read(_Node(value, f"{self._path}[{index}]")) for index, value in enumerate(self._value)
        )

    def text(self) -> str:
        """Return a string."""
        if not isinstance(self._value, str):
            raise self._wrong_type("a string")
        return self._value

    def flag(self) -> bool:
        """Return true or false."""
        if not isinstance(self._value, bool):
            raise self._wrong_type("true or false")
        return self._value

    def integer(self) -> int:
        """Return an integer."""
        if isinstance(self._value, bool) or not isinstance(self._value, int):
            raise self._wrong_type("an integer")
        return self._value

    def number(self) -> float:
        """Return a finite float64; an integer will do where it is one exactly."""
        value = self._value
        if isinstance(value, bool) or not isinstance(value, (int, float)):
            raise self._wrong_type("a number")
        try:
            number = float(value)
        except OverflowError:
            number = math.inf
        if not math.isfinite(number) or number != value:
            raise self.error(f"{_shown(value)} is no finite float64")
        return number

    def member(self, enum: type[_E]) -> _E:
        """Return the member of ``enum`` that a string names."""
        text = self.text()
        for member in enum:
            if member.value == text:
                return member
        known = ", ".join(str(member.value) for member in enum)
        raise self.error(f"{_shown(text)} is unknown; known are {known}")

    def constant(self, wanted: str | int, hint: str) -> None:
        """Demand a certain value."""
        if type(self._value) is not type(wanted) or self._value != wanted:
            raise self.error(f"is {_shown(self._value)}, but must be {wanted!r}; {hint}")

    def _wrong_type(self, wanted: str) -> PlanError:
        return self.error(f"must be {wanted}, not {_shown(self._value)}")


def _shown(value: object) -> str:
    """Return a short description of a value of the document, on one line."""
    if isinstance(value, (dict, list)):
        return "an object" if isinstance(value, dict) else "an array"
    if isinstance(value, int) and not isinstance(value, bool) and value.bit_length() > 64:
        return f"an integer of {value.bit_length()} bits"
    text = json.dumps(value)
    return text if len(text) <= _MAX_SHOWN else f"{text[:_MAX_SHOWN]}..."


def _read_plan(node: _Node) -> UpdatePlan:
    # Format and version come first: another version's document may well have other keys.
    node.field("format").constant(FORMAT, "this is no plan")
    node.field("version").constant(VERSION, "this release reads no other version")
    _, _, layout, groups = node.fields("format", "version", "layout", "groups")
    return UpdatePlan(groups=groups.items(_read_group), layout=layout.member(StateLayout))


def _read_group(node: _Node) -> GroupPlan:
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


def _read_clip(node: _Node) -> Clip:
    kind, bound, lower = node.fields("kind", "bound", "lower")
    return Clip(kind.member(ClipKind), bound.number(), lower.number())


def _read_tensor(node: _Node) -> TensorPlan:
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
        shape=shape.items(_Node.integer),
        param_dtype=param.member(DType),
        grad_dtype=grad.member(DType),
        moment_dtype=moment.member(DType),
        master=master.flag(),
        lr_scale=lr_scale.number(),
        decay=_read_decay(decay),
        need_clip=need_clip.flag(),
    )


def _read_decay(node: _Node) -> Decay:
    kind, coefficient, at_run_time = node.fields("kind", "coefficient", "at_run_time")
    return Decay(kind.member(DecayKind), coefficient.number(), at_run_time.flag())
