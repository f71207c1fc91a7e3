"""The languages that kernels are rendered in: what differs between them besides the templates."""

from __future__ import annotations

from dataclasses import dataclass, field

from radam_codegen.ir.dtypes import DType

__all__ = ["CUDA_TARGET", "C_TARGET", "Target"]


@dataclass(frozen=True)
class Target:
    """One language: where its templates are, how its types are called, how it is compiled."""

    language: str
    #: Template of a whole file, relative to the templates folder.
    template: str
    #: Name of the file that is rendered.
    file_name: str
    types: dict[DType, str] = field(hash=False)
    #: Unsigned integers of the same size as a type.
    words: dict[DType, str] = field(hash=False)
    #: What a function's declaration begins with, and that of one that must be inlined.
    function: str
    inline_function: str
    #: Type of what functions know of a group by the name ``group``.
    group: str
    #: Flags that decide what the code computes; the toolchain adds those for the CPU at hand.
    flags: tuple[str, ...]
    #: The command that compiles the file, for a reader.
    compile_line: str


_TYPES = {
    DType.FLOAT64: "double",
    DType.FLOAT32: "float",
    # Held as their bits, and converted where they are loaded and stored.
    DType.BFLOAT16: "uint16_t",
    DType.FLOAT16: "uint16_t",
    DType.INT64: "int64_t",
    DType.BOOL: "bool",
}
_WORDS = {DType.FLOAT64: "uint64_t", DType.FLOAT32: "uint32_t"}

_C_FLAGS = (
    "-std=c11",
    "-O3",
    # No compiler decides by itself where to contract; the source says fma where it means it.
    "-ffp-contract=off",
    # sqrt need not set errno, and no trap is expected: both only stand in the way of vectors.
    "-fno-math-errno",
    "-fno-trapping-math",
)

#: Portable C11, vectorized by the compiler.
C_TARGET = Target(
    language="c",
    template="c/kernel.c.j2",
    file_name="kernel.c",
    types=_TYPES,
    words=_WORDS,
    function="static",
    inline_function="static always_inline",
    group="radam_group",
    flags=_C_FLAGS,
    compile_line=" ".join(
        (
            "cc",
            *_C_FLAGS,
            "-march=native -fPIC -shared -fvisibility=hidden -g0",
            "-I<include> -o kernel.so kernel.c -lm",
        )
    ),
)

_CUDA_FLAGS = (
    "-std=c++17",
    "-O3",
    # No compiler decides by itself where to contract; the source says fma where it means it.
    "-fmad=false",
    # What CUDA does without these, too: subnormal numbers are kept, quotients and roots are rounded
    # as IEEE wants it.
    "-ftz=false",
    "-prec-div=true",
    "-prec-sqrt=true",
)

#: CUDA C++ for GPUs from sm_70 on.
CUDA_TARGET = Target(
    language="cuda",
    template="cuda/kernel.cu.j2",
    file_name="kernel.cu",
    types=_TYPES,
    words=_WORDS,
    function="static __device__",
    inline_function="static __device__ __forceinline__",
    group="group_arguments",
    flags=_CUDA_FLAGS,
    compile_line=" ".join(
        (
            "nvcc",
            *_CUDA_FLAGS,
            "-gencode=<architectures> -cudart=static -shared -Xcompiler=-fPIC,-fvisibility=hidden",
            "-I<include> -o kernel.so kernel.cu",
        )
    ),
)
