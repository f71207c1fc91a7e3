"""The passes in the order in which they run, and the ways to run them."""

from __future__ import annotations

from collections.abc import Iterator

from radam_codegen.ir.build import build_module
from radam_codegen.ir.group import Module
from radam_codegen.ir.plan import UpdatePlan
from radam_codegen.ir.verify import verify
from radam_codegen.passes.base import Pass
from radam_codegen.passes.contract import CONTRACT_FMA
from radam_codegen.passes.dead import REMOVE_DEAD
from radam_codegen.passes.fold import FOLD
from radam_codegen.passes.fuse import FUSE
from radam_codegen.passes.gather import GATHER_SCALARS
from radam_codegen.passes.hoist import HOIST_SCALARS
from radam_codegen.passes.lerp import LERP
from radam_codegen.passes.share import SHARE_KERNELS
from radam_codegen.passes.split import SPLIT_PHASES

__all__ = ["PASSES", "lower_plan", "stages"]

#: From the unfused steps of the formula to kernels.
PASSES: tuple[Pass, ...] = (
    FOLD,
    FUSE,
    HOIST_SCALARS,
    GATHER_SCALARS,
    LERP,
    REMOVE_DEAD,
    CONTRACT_FMA,
    REMOVE_DEAD,
    SPLIT_PHASES,
    SHARE_KERNELS,
)


def stages(plan: UpdatePlan) -> Iterator[tuple[str, Module]]:
    """Yield the module as built, then as each pass leaves it, verified, with the pass's name."""
    module = build_module(plan)
    verify(module, after="build")
    yield "build", module
    for each in PASSES:
        module = each(module)
        verify(module, after=each.name)
        yield each.name, module


def lower_plan(plan: UpdatePlan) -> Module:
    """Run all passes over a plan.

    Args:
        plan: what to update.

    Returns:
        One kernel per distinct structure among the plan's groups, with its phases split.

    Raises:
        VerifyError: a pass broke a rule of the IR; the message names the pass.
    """
    return [module for _, module in stages(plan)][-1]
