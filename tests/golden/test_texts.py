"""Rendered kernels, plans and IR as text, against kept files."""

from __future__ import annotations

import pytest
from support.golden import assert_golden, without_hashes

from radam_codegen.codegen import render
from radam_codegen.ir.build import build_group
from radam_codegen.ir.dtypes import DType
from radam_codegen.ir.plan import (
    Clip,
    ClipKind,
    Decay,
    DecayKind,
    GroupPlan,
    KernelStructure,
    TensorClass,
    TensorPlan,
    UpdatePlan,
)
from radam_codegen.passes import lower_structure

F64, F32, BF16, F16 = DType.FLOAT64, DType.FLOAT32, DType.BFLOAT16, DType.FLOAT16

PLAIN = KernelStructure(ClipKind.NONE, False, (TensorClass(F32, F32, F32, False, DecayKind.NONE),))
FULL = KernelStructure(
    ClipKind.GLOBAL_NORM,
    True,
    (
        TensorClass(BF16, F32, F32, True, DecayKind.L1),
        TensorClass(F32, F32, F32, False, DecayKind.L2),
    ),
)
STRUCTURES = (
    PLAIN,
    FULL,
    KernelStructure(ClipKind.NORM, False, (TensorClass(F64, F64, F64, False, DecayKind.L2),)),
    KernelStructure(ClipKind.VALUE, False, (TensorClass(F16, F16, F32, False, DecayKind.L1),)),
)

PLAN = UpdatePlan(
    (
        GroupPlan(
            (
                TensorPlan("embedding", (1000, 16), F32, F32, F32, decay=Decay(DecayKind.L2, 0.01)),
                TensorPlan('bias of "x"\n', (16,), F32, F32, F32, need_clip=False, lr_scale=2.0),
                TensorPlan("größe", (), BF16, F32, F32, master=True),
            ),
            clip=Clip(ClipKind.GLOBAL_NORM, 1.0),
        ),
        GroupPlan(
            (TensorPlan("empty", (0, 3), F64, F64, F64, decay=Decay(DecayKind.L1, 1e-5)),),
            beta1=0.5,
            epsilon=1e-6,
            clip=Clip(ClipKind.VALUE, 1.0, -0.5),
            skip=True,
        ),
    )
)


@pytest.mark.parametrize("structure", STRUCTURES, ids=lambda each: each.name)
def test_rendered_c(structure: KernelStructure) -> None:
    text = render(lower_structure(structure)).text
    assert_golden(f"{structure.name}.c", without_hashes(text))


@pytest.mark.parametrize("structure", [PLAIN, FULL], ids=lambda each: each.name)
def test_ir_before_and_after_the_passes(structure: KernelStructure) -> None:
    assert_golden(f"{structure.name}.built.ir", f"{build_group(structure)}\n")
    assert_golden(f"{structure.name}.lowered.ir", f"{lower_structure(structure)}\n")


def test_plan() -> None:
    assert_golden("plan.txt", f"{PLAN}\n")
    assert_golden("plan.json", f"{PLAN.to_json()}\n")
