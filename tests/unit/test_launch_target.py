"""A launch says for which target its kernel is, and nothing where that is the CPU."""

from __future__ import annotations

import json

import pytest

from radam_codegen.errors import PlanError
from radam_codegen.ir.dtypes import DType
from radam_codegen.ir.launch import LaunchSpec
from radam_codegen.ir.plan import GroupPlan, TensorPlan

F32 = DType.FLOAT32
GROUP = GroupPlan((TensorPlan("p", (3,), F32, F32, F32),))


def test_reads_back_equal() -> None:
    for target in ("c", "cuda"):
        spec = LaunchSpec.from_group(GROUP, target)
        assert LaunchSpec.from_text(spec.to_text()) == spec


def test_programs_for_the_cpu_are_as_they_always_were() -> None:
    c, cuda = (LaunchSpec.from_group(GROUP, target) for target in ("c", "cuda"))
    assert LaunchSpec.from_group(GROUP) == c
    assert "target" not in json.loads(c.to_text())
    assert json.loads(cuda.to_text()) == {**json.loads(c.to_text()), "target": "cuda"}
    assert c.key != cuda.key


@pytest.mark.parametrize("target", ["c", "tpu", "", None, 1, ["cuda"]])
def test_another_target_is_refused(target: object) -> None:
    document = {**json.loads(LaunchSpec.from_group(GROUP).to_text()), "target": target}
    with pytest.raises(PlanError, match="target"):
        LaunchSpec.from_text(json.dumps(document))
