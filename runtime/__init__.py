"""Loading what was compiled, and calling it; beside it, the C++ operator and the public headers."""

from __future__ import annotations

from radam_codegen.ir.launch import GroupNumbers, TensorNumbers
from radam_codegen.runtime.cuda_loader import LoadedCudaKernel, load_cuda_kernel
from radam_codegen.runtime.library import Fingerprint, OperatorLibrary
from radam_codegen.runtime.loader import LoadedKernel, load_kernel, load_operator

__all__ = [
    "Fingerprint",
    "GroupNumbers",
    "LoadedCudaKernel",
    "LoadedKernel",
    "OperatorLibrary",
    "TensorNumbers",
    "load_cuda_kernel",
    "load_kernel",
    "load_operator",
]
