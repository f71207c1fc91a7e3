"""The IR: plans, operations, and what builds, checks, prints and interprets them."""

from radam_codegen.ir.build import build_group, build_module
from radam_codegen.ir.dtypes import DType, Rate
from radam_codegen.ir.group import Body, GroupIR, Module
from radam_codegen.ir.interpret import GroupArrays, interpret
from radam_codegen.ir.launch import LaunchSpec
from radam_codegen.ir.ops import Op, OpKind, Slot, Value
from radam_codegen.ir.plan import (
    Clip,
    ClipKind,
    Decay,
    DecayKind,
    GroupPlan,
    KernelStructure,
    StateLayout,
    TensorClass,
    TensorPlan,
    UpdatePlan,
)
from radam_codegen.ir.plan_check import check_plan
from radam_codegen.ir.verify import verify

__all__ = [
    "Body",
    "Clip",
    "ClipKind",
    "DType",
    "Decay",
    "DecayKind",
    "GroupArrays",
    "GroupIR",
    "GroupPlan",
    "KernelStructure",
    "LaunchSpec",
    "Module",
    "Op",
    "OpKind",
    "Rate",
    "Slot",
    "StateLayout",
    "TensorClass",
    "TensorPlan",
    "UpdatePlan",
    "Value",
    "build_group",
    "build_module",
    "check_plan",
    "interpret",
    "verify",
]
