"""Flags for kernels and for the operator."""

from __future__ import annotations

from collections.abc import Iterable

from radam_codegen.toolchain.compiler import Compiler
from radam_codegen.toolchain.cpu import NATIVE, march

__all__ = ["KERNEL_FLAGS", "OPERATOR_FLAGS", "compile_only", "kernel_flags"]

#: The same library for the same source, byte for byte: no path, no time, no chance.
_REPRODUCIBLE = ("-g0", "-Wl,--build-id=none")

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
    *_REPRODUCIBLE,
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
    "-frandom-seed=radam_codegen",  # names of what is local to a C++ file
    *_REPRODUCIBLE,
)


def kernel_flags(compiler: Compiler, cpu: str) -> tuple[str, ...]:
    """Flags for a kernel.

    Args:
        compiler: What will take them.
        cpu: One of :func:`radam_codegen.toolchain.cpu.cpu_names`. For ``"native"`` the compiler is
            told what it understands of the CPU at hand.
    """
    name = march(cpu)
    if cpu == NATIVE:
        return (*KERNEL_FLAGS, *compiler.for_this_cpu)
    return KERNEL_FLAGS if name is None else (*KERNEL_FLAGS, f"-march={name}")


def compile_only(flags: Iterable[str]) -> tuple[str, ...]:
    """Leave out what is for the linker, which Clang warns of with ``-c`` and ``-S``."""
    return tuple(each for each in flags if each != "-shared" and not each.startswith("-Wl,"))
