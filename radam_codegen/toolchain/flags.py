"""Flags for kernels and for the operator."""

from __future__ import annotations

from radam_codegen.toolchain.compiler import Compiler

__all__ = ["KERNEL_FLAGS", "OPERATOR_FLAGS", "kernel_flags"]

#: No flag here lets a compiler change a result: results are the same to the last bit for every
#: optimization level. -fno-math-errno and -fno-trapping-math drop what nobody reads (errno and
#: exception flags), without which sqrt and comparisons would not vectorize.
KERNEL_FLAGS = (
    "-std=c11",
    "-O3",
    "-fPIC",
    "-shared",
    "-fvisibility=hidden",
    "-ffp-contract=off",
    "-fno-math-errno",
    "-fno-trapping-math",
    "-Wall",
    "-Wextra",
)

#: The operator only prepares a launch, and -O1 compiles it nearly a second faster than -O2.
OPERATOR_FLAGS = (
    "-std=c++17",
    "-O1",
    "-fPIC",
    "-shared",
    "-fvisibility=hidden",
    "-Wall",
    "-Wextra",
)


def kernel_flags(compiler: Compiler) -> tuple[str, ...]:
    """Flags for a kernel that is to run on this machine."""
    return (*KERNEL_FLAGS, "-march=native") if compiler.native_flags else KERNEL_FLAGS
