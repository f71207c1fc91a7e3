"""A kernel's name says all of its structure."""

from __future__ import annotations

import pytest
from support.structures import CLASSES, SAMPLE, every_structure

from radam_codegen.errors import PlanError
from radam_codegen.ir.structure_name import structure_from_name, tensor_classes


def test_every_structure_is_read_back_from_its_name() -> None:
    structures = [*every_structure(), *SAMPLE]
    assert [structure_from_name(each.name) for each in structures] == structures


def test_knows_every_class_of_tensors() -> None:
    assert tensor_classes() == CLASSES


@pytest.mark.parametrize(
    ("name", "said"),
    [
        ("", "its first part is ''"),
        ("radam", "its first part is 'radam'"),
        ("radam_clip_other__f32_l2", "'radam_clip_other'"),
        ("radam_no_clip", "names no class of tensors"),
        ("radam_no_clip__", "'' is no class of tensors"),
        ("radam_no_clip__f32", "'f32' is no class of tensors"),
        ("radam_no_clip__f32_l2_", "'f32_l2_' is no class of tensors"),
        ("radam_no_clip__f32_master_l2", "'f32_master_l2' is no class of tensors"),
        ("radam_no_clip__f32_grad_f32_l2", "'f32_grad_f32_l2' is no class of tensors"),
        ("radam_no_clip__f32_l2__f32_l2", "that kernel is 'radam_no_clip__f32_l2'"),
        ("radam_no_clip__f64_l2__f32_l2", "that kernel is 'radam_no_clip__f32_l2__f64_l2'"),
        ("\x1b[31mred", r"'\x1b[31mred'"),
        ("radam_no_clip__\n", r"'\n' is no class of tensors"),
        ("x" * 10_000, "xxx..."),
    ],
)
def test_says_what_of_a_name_cannot_be_read(name: str, said: str) -> None:
    with pytest.raises(PlanError, match="is not the name of a kernel") as caught:
        structure_from_name(name)
    assert said in str(caught.value)
    assert len(str(caught.value)) < 600
