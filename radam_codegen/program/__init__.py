"""What happens to Paddle programs: ops are written into them, and they are pruned."""

from __future__ import annotations

from radam_codegen.program.pruning import PrunedProgram, prune

__all__ = ["PrunedProgram", "prune"]
