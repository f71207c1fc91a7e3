"""Loading what was compiled, and calling it; beside it, the C++ operator and the public headers."""

from __future__ import annotations

from radam_codegen.ir.launch import GroupNumbers, TensorNumbers
from radam_codegen.runtime.library import OperatorLibrary
from radam_codegen.runtime.loader import LoadedKernel, load_kernel, load_operator

__all__ = [
    "GroupNumbers",
    "LoadedKernel",
    "OperatorLibrary",
    "TensorNumbers",
    "load_kernel",
    "load_operator",
]
