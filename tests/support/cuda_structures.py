"""CUDA kernels that every run of the tests compiles for all architectures."""

from __future__ import annotations

from radam_codegen.ir.structure_name import structure_from_name

__all__ = ["OTHERS", "QUICK"]

#: Every decay, half types with and without master weights, and both clips that need a norm.
QUICK = tuple(
    map(
        structure_from_name,
        (
            "radam_no_clip__bf16_l1__f16_master_l2__f32_decoupled",
            "radam_clip_norm__bf16_master_decoupled__f16_grad_f32_l1__f32_no_decay",
            "radam_clip_global_norm_skip__f64_l2",
        ),
    )
)

#: The types, and the clip, that those above do not have.
OTHERS = structure_from_name(
    "radam_clip_value_skip__bf16_grad_f32_l2__bf16_grad_f32_master_no_decay__f16_decoupled"
    "__f16_grad_f32_master_l1__f64_grad_f32_l2"
)
