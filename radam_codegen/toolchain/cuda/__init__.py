"""CUDA kernels: finding nvcc, choosing architectures, compiling."""

from __future__ import annotations

from radam_codegen.toolchain.cuda.compiler import CudaCompiler, find_cuda_compiler
from radam_codegen.toolchain.cuda.kernel import build_cuda_kernel, cuda_kernel_recipe

__all__ = ["CudaCompiler", "build_cuda_kernel", "cuda_kernel_recipe", "find_cuda_compiler"]
