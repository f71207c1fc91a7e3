"""Plans as JSON: what is written reads back, and whatever else is read is refused by name."""

from __future__ import annotations

import copy
import json
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from support.plans import HOSTILE_NAMES, update_plans

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

F32 = DType.FLOAT32

PLAN = UpdatePlan(
    (
        GroupPlan((TensorPlan("linear_0.w_0", (3, 4), F32, F32, F32),)),
        GroupPlan(
            (
                TensorPlan("a", (), F32, F32, F32),
                TensorPlan("b", (7,), DType.BFLOAT16, F32, F32, True, 0.5, need_clip=False),
                TensorPlan("c", (0, 2), F32, F32, F32, decay=Decay(DecayKind.L1, 1e-4)),
            ),
            beta1=0.8,
            epsilon=1e-6,
            clip=Clip(ClipKind.VALUE, 1.0, -0.5),
            skip=True,
        ),
    )
)


@given(update_plans())
def test_plans_read_back_equal(plan: UpdatePlan) -> None:
    text = plan.to_json()
    back = UpdatePlan.from_json(text)
    assert back == plan
    assert back.to_json() == text
    assert text.isascii()


@pytest.mark.parametrize("name", [*HOSTILE_NAMES, "x" * 10_000])
def test_any_name_reads_back(name: str) -> None:
    plan = UpdatePlan((GroupPlan((TensorPlan(name, (2,), F32, F32, F32),)),))
    assert UpdatePlan.from_json(plan.to_json()) == plan


def test_text_is_sorted_and_versioned() -> None:
    document = json.loads(PLAN.to_json())
    assert document["format"] == "radam_codegen.plan"
    assert document["version"] == 1
    assert PLAN.to_json() == json.dumps(document, indent=1, sort_keys=True) + "\n"


def test_integers_are_numbers_too() -> None:
    document = json.loads(PLAN.to_json())
    document["groups"][0]["beta1"] = 0
    document["groups"][0]["tensors"][0]["lr_scale"] = 2
    plan = UpdatePlan.from_json(json.dumps(document))
    assert plan.groups[0].beta1 == 0.0
    assert type(plan.groups[0].tensors[0].lr_scale) is float


@pytest.mark.parametrize("number", [float("nan"), float("inf"), float("-inf")])
def test_numbers_that_json_has_not_are_not_written(number: float) -> None:
    tensor = TensorPlan("w", (2,), F32, F32, F32, lr_scale=number)
    with pytest.raises(PlanError, match=r"group 0, parameter 'w': lr_scale"):
        UpdatePlan((GroupPlan((tensor,)),)).to_json()


TENSOR = ("groups", 1, "tensors", 2)

#: Where to put what, and what the error must say.
BAD_VALUES: list[tuple[tuple[Any, ...], Any, str]] = [
    (("format",), "else", r'^format: is "else", but must be \'radam_codegen.plan\''),
    (("format",), 1, r"^format: is 1"),
    (("version",), 2, r"^version: is 2, but must be 1"),
    (("version",), 1.0, r"^version: is 1.0"),
    (("version",), True, r"^version: is true"),
    (("layout",), "rows", r'^layout: "rows" is unknown; known are flat, per_parameter'),
    (("layout",), None, r"^layout: must be a string, not null"),
    (("groups",), {}, r"^groups: must be an array, not an object"),
    (("groups", 0), 5, r"^groups\[0\]: must be an object, not 5"),
    (("groups", 0, "beta1"), "0.9", r'^groups\[0\].beta1: must be a number, not "0.9"'),
    (("groups", 0, "beta1"), True, r"^groups\[0\].beta1: must be a number, not true"),
    (("groups", 0, "beta2"), float("nan"), r"^groups\[0\].beta2: NaN is no finite float64"),
    (("groups", 0, "epsilon"), float("inf"), r"^groups\[0\].epsilon: Infinity is no finite"),
    (("groups", 0, "epsilon"), 10**400, r"^groups\[0\].epsilon: an integer of 1329 bits is no"),
    (("groups", 0, "epsilon"), 2**53 + 1, r"^groups\[0\].epsilon: 9007199254740993 is no finite"),
    (("groups", 1, "skip"), 1, r"^groups\[1\].skip: must be true or false, not 1"),
    (("groups", 1, "clip", "kind"), "cut", r'^groups\[1\].clip.kind: "cut" is unknown; known are'),
    (("groups", 1, "clip", "bound"), [], r"^groups\[1\].clip.bound: must be a number, not an arr"),
    ((*TENSOR, "name"), 3, r"^groups\[1\].tensors\[2\].name: must be a string, not 3"),
    ((*TENSOR, "shape"), 3, r"^groups\[1\].tensors\[2\].shape: must be an array, not 3"),
    ((*TENSOR, "shape", 1), 2.0, r"^groups\[1\].tensors\[2\].shape\[1\]: must be an integer"),
    ((*TENSOR, "shape", 1), False, r"^groups\[1\].tensors\[2\].shape\[1\]: must be an integer"),
    ((*TENSOR, "param_dtype"), "f4", r'^groups\[1\].tensors\[2\].param_dtype: "f4" is unknown'),
    ((*TENSOR, "decay", "kind"), "L2", r'^groups\[1\].tensors\[2\].decay.kind: "L2" is unknown'),
    ((*TENSOR, "decay"), "x" * 999, r'^groups\[1\].tensors\[2\].decay: must .{0,30}"x{59}\.\.\.$'),
    ((*TENSOR, "master"), None, r"^groups\[1\].tensors\[2\].master: must be true or false"),
    # What the types allow and a plan does not.
    (("groups", 0, "beta1"), 1.0, r"^group 0: beta1 is 1.0"),
    ((*TENSOR, "name"), "b", r"^group 1: parameter 'b' is claimed twice in group 1"),
    ((*TENSOR, "shape", 1), -1, r"^group 1, parameter 'c': the shape has the negative extent -1"),
    ((*TENSOR, "shape", 1), 2**63, r"^group 1, parameter 'c': has more elements than an int64"),
    ((*TENSOR, "shape"), [2**62] * 10_000, r"^group 1, parameter 'c': has more elements than"),
    ((*TENSOR, "param_dtype"), "bool", r"^group 1, parameter 'c': the dtype is bool"),
]


def replaced(path: tuple[Any, ...], value: Any) -> str:
    document = json.loads(PLAN.to_json())
    place = document
    for step in path[:-1]:
        place = place[step]
    place[path[-1]] = value
    return json.dumps(document)


@pytest.mark.parametrize(("path", "value", "message"), BAD_VALUES)
def test_bad_values_are_named(path: tuple[Any, ...], value: Any, message: str) -> None:
    with pytest.raises(PlanError, match=message) as caught:
        UpdatePlan.from_json(replaced(path, value))
    assert "\n" not in str(caught.value)


OBJECTS: list[tuple[tuple[Any, ...], str]] = [
    ((), "document"),
    (("groups", 1), r"groups\[1\]"),
    (("groups", 1, "clip"), r"groups\[1\].clip"),
    (TENSOR, r"groups\[1\].tensors\[2\]"),
    ((*TENSOR, "decay"), r"groups\[1\].tensors\[2\].decay"),
]


@pytest.mark.parametrize(("path", "name"), OBJECTS)
def test_unknown_and_missing_keys_are_named(path: tuple[Any, ...], name: str) -> None:
    document = json.loads(PLAN.to_json())
    place = document
    for step in path:
        place = place[step]
    place["extra\n"] = 1
    with pytest.raises(PlanError, match=rf'^{name}: unknown key "extra\\n"; known are '):
        UpdatePlan.from_json(json.dumps(document))
    del place["extra\n"]
    for key in list(place):
        kept = place.pop(key)
        with pytest.raises(PlanError, match=rf"^{name}: key '{key}' is missing"):
            UpdatePlan.from_json(json.dumps(document))
        place[key] = kept
    assert UpdatePlan.from_json(json.dumps(document)) == PLAN


def test_a_key_that_is_there_twice_is_named() -> None:
    text = PLAN.to_json().replace('"beta1": 0.8', '"beta1": 0.8, "beta1": 0.9')
    with pytest.raises(PlanError, match=r'^groups\[1\]: key "beta1" is there twice'):
        UpdatePlan.from_json(text)


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("", "not valid JSON"),
        ("{", "not valid JSON"),
        ("null", "^document: must be an object, not null"),
        ("[]", "^document: must be an object, not an array"),
        ("{}", "^document: key 'format' is missing"),
        ("\ufeff{}", "not valid JSON"),
        ("1" * 10_000, "not valid JSON|must be an object"),
        ("[" * 200_000, "nested deeper"),
        ('{"a":' * 200_000, "nested deeper"),
    ],
)
def test_text_that_is_no_plan(text: str, message: str) -> None:
    with pytest.raises(PlanError, match=message):
        UpdatePlan.from_json(text)


def test_bytes_are_refused() -> None:
    with pytest.raises(PlanError, match="from text, not from bytes"):
        UpdatePlan.from_json(b"{}")  # type: ignore[arg-type]


JSON = st.recursive(
    st.none()
    | st.booleans()
    | st.integers()
    | st.sampled_from((10**400, -1, 2**63))
    | st.floats()
    | st.text(max_size=5)
    | st.sampled_from(("l2", "value", "float32", "bfloat16", "int64")),
    lambda children: (
        st.lists(children, max_size=3) | st.dictionaries(st.text(max_size=5), children, max_size=3)
    ),
    max_leaves=8,
)


def refused_or_valid(text: str) -> None:
    """Fail unless ``text`` is refused as promised, or read as a plan that can be written."""
    try:
        plan = UpdatePlan.from_json(text)
    except PlanError:
        pass
    else:
        assert UpdatePlan.from_json(plan.to_json()) == plan


@given(JSON)
def test_random_json(value: Any) -> None:
    refused_or_valid(json.dumps(value))


@given(st.text())
def test_random_text(text: str) -> None:
    refused_or_valid(text)


@given(st.data())
@settings(max_examples=300)
def test_mutated_documents(data: st.DataObject) -> None:
    document = copy.deepcopy(json.loads(PLAN.to_json()))
    for _ in range(data.draw(st.integers(1, 3))):
        mutate(document, data)
    refused_or_valid(json.dumps(document))


def mutate(place: Any, data: st.DataObject) -> None:
    """Change something at a random depth of a document."""
    while isinstance(place, (dict, list)) and place:
        steps = sorted(place) if isinstance(place, dict) else range(len(place))
        step = data.draw(st.sampled_from(list(steps)))
        inner = place[step]
        if not isinstance(inner, (dict, list)) or data.draw(st.integers(0, 3)) == 0:
            action = data.draw(st.sampled_from(("replace", "remove", "add")))
            if action == "remove":
                del place[step]
            elif action == "replace":
                place[step] = data.draw(JSON)
            elif isinstance(place, dict):
                place[data.draw(st.text(max_size=5))] = data.draw(JSON)
            else:
                place.append(data.draw(JSON | st.just(inner)))
            return
        place = inner


@given(st.data())
@settings(max_examples=300)
def test_mutated_text(data: st.DataObject) -> None:
    text = PLAN.to_json()
    for _ in range(data.draw(st.integers(1, 3))):
        begin = data.draw(st.integers(0, len(text)))
        end = begin + data.draw(st.integers(0, 8))
        piece = data.draw(st.text(max_size=4) | st.sampled_from(("{", "]", '"', "1e999", "-", ",")))
        text = text[:begin] + piece + text[end:]
    refused_or_valid(text)
