"""From the unfused steps of the formula to fused kernels, one pass per file."""

from radam_codegen.passes.pipeline import PASSES, lower_plan, stages
from radam_codegen.passes.structure import lower_structure, structure_stages

__all__ = ["PASSES", "lower_plan", "lower_structure", "stages", "structure_stages"]
