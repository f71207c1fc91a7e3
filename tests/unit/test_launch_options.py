"""A launch says its target and what becomes of results, and nothing of what goes without saying."""

from __future__ import annotations

import json

import pytest

from radam_codegen.errors import PlanError
from radam_codegen.ir.dtypes import DType
from radam_codegen.ir.launch import LaunchSpec
from radam_codegen.ir.plan import GroupPlan, TensorPlan

F32 = DType.FLOAT32
GROUP = GroupPlan((TensorPlan("p", (3,), F32, F32, F32),))


@pytest.mark.parametrize("target", ["c", "cuda"])
@pytest.mark.parametrize("drops_results", [False, True])
def test_reads_back_equal(target: str, drops_results: bool) -> None:
    spec = LaunchSpec.from_group(GROUP, target, drops_results=drops_results)
    assert LaunchSpec.from_text(spec.to_text()) == spec


@pytest.mark.parametrize(
    ("name", "value", "other"),
    [
        ("target", "cuda", LaunchSpec.from_group(GROUP, "cuda")),
        ("results", "dropped", LaunchSpec.from_group(GROUP, drops_results=True)),
    ],
)
def test_what_goes_without_saying_is_not_said(name: str, value: str, other: LaunchSpec) -> None:
    plain = LaunchSpec.from_group(GROUP)
    assert LaunchSpec.from_group(GROUP, "c", drops_results=False) == plain
    assert name not in json.loads(plain.to_text())
    assert json.loads(other.to_text()) == {**json.loads(plain.to_text()), name: value}
    assert plain.key != other.key


@pytest.mark.parametrize(
    ("name", "value"),
    [
        *(("target", value) for value in ("c", "tpu", "", None, 1, ["cuda"])),
        *(("results", value) for value in ("kept", "", None, True, ["dropped"])),
    ],
)
def test_anything_else_is_refused(name: str, value: object) -> None:
    document = {**json.loads(LaunchSpec.from_group(GROUP).to_text()), name: value}
    with pytest.raises(PlanError, match=name):
        LaunchSpec.from_text(json.dumps(document))
