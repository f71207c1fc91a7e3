"""Lowering one kernel by its structure alone, as a loader does that has no plan."""

from __future__ import annotations

from collections.abc import Iterator

from radam_codegen.ir.build import build_group
from radam_codegen.ir.group import GroupIR, Module
from radam_codegen.ir.plan import KernelStructure, UpdatePlan
from radam_codegen.ir.verify import verify
from radam_codegen.passes.base import Pass
from radam_codegen.passes.pipeline import PASSES

__all__ = ["lower_structure", "structure_stages"]


def structure_stages(structure: KernelStructure) -> Iterator[tuple[Pass | None, GroupIR]]:
    """Yield the kernel as built, with None, then as each pass leaves it, verified, with the pass.

    Raises:
        VerifyError: a pass broke a rule of the IR; the message names the pass.
    """
    module = Module(UpdatePlan(()), (build_group(structure),), (0,))
    verify(module.kernels[0], after="build")
    yield None, module.kernels[0]
    for each in PASSES:
        module = each(module)
        verify(module.kernels[0], after=each.name)
        yield each, module.kernels[0]


def lower_structure(structure: KernelStructure) -> GroupIR:
    """Run all passes over the kernel for one structure.

    Returns:
        The same kernel that :func:`radam_codegen.passes.lower_plan` makes for a group of this
        structure.

    Raises:
        VerifyError: a pass broke a rule of the IR; the message names the pass.
    """
    return [kernel for _, kernel in structure_stages(structure)][-1]
