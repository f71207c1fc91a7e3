"""From rendered sources to shared libraries: compilers, flags, keys, the cache.

Nothing here imports Paddle; what the operator needs to know of it is given as arguments.
"""

from __future__ import annotations

from radam_codegen.toolchain.abi import abi_version
from radam_codegen.toolchain.compiler import Compiler, find_c_compiler, find_cxx_compiler
from radam_codegen.toolchain.kernel import build_kernel
from radam_codegen.toolchain.operator import PaddleInstallation, build_operator
from radam_codegen.toolchain.recipe import Artifact

__all__ = [
    "Artifact",
    "Compiler",
    "PaddleInstallation",
    "abi_version",
    "build_kernel",
    "build_operator",
    "find_c_compiler",
    "find_cxx_compiler",
]
