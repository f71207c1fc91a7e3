"""From IR to source text."""

from radam_codegen.codegen.render import render
from radam_codegen.codegen.source import KernelSource
from radam_codegen.codegen.targets import C_TARGET, CUDA_TARGET, Target

__all__ = ["CUDA_TARGET", "C_TARGET", "KernelSource", "Target", "render"]
