"""Share kernels: groups of equal structure run the same kernel.

Before: ``kernels = (A, B, A)``, ``kernel_of = (0, 1, 2)``.

After: ``kernels = (A, B)``, ``kernel_of = (0, 1, 0)``.
"""

from __future__ import annotations

from dataclasses import replace

from radam_codegen.ir.group import GroupIR, Module
from radam_codegen.passes.base import Pass

__all__ = ["SHARE_KERNELS"]


def _share(module: Module) -> Module:
    kernels: list[GroupIR] = []
    kernel_of = []
    for index in module.kernel_of:
        kernel = module.kernels[index]
        if kernel not in kernels:
            kernels.append(kernel)
        kernel_of.append(kernels.index(kernel))
    return replace(module, kernels=tuple(kernels), kernel_of=tuple(kernel_of))


#: The pass.
SHARE_KERNELS = Pass("share_kernels", _share, exact=True)
