"""The kernel ABI, as its header states it."""

from __future__ import annotations

import re
from functools import cache
from pathlib import Path

from radam_codegen._resources import include_dir

__all__ = [
    "abi_version",
    "chunk_elements",
    "cuda_abi_version",
    "header_path",
    "header_text",
]


def header_path(name: str) -> Path:
    """Path of one of the public headers, such as ``"kernel.h"``."""
    return include_dir() / "radam_codegen" / name


@cache
def header_text(name: str) -> str:
    """Text of one of the public headers, such as ``"kernel.h"``."""
    return header_path(name).read_text(encoding="utf-8")


def abi_version() -> int:
    """Version of the kernel ABI that this package speaks."""
    return _constant("RADAM_CODEGEN_ABI_VERSION")


def cuda_abi_version() -> int:
    """Version of the CUDA kernel ABI that this package speaks."""
    return _constant("RADAM_CODEGEN_CUDA_ABI_VERSION", "cuda_kernel.h")


def chunk_elements() -> int:
    """Longest range of one tensor that a chunk covers, in elements."""
    return _constant("RADAM_CODEGEN_CHUNK")


def _constant(name: str, header: str = "kernel.h") -> int:
    found = re.search(rf"^#define {name} (\d+)$", header_text(header), re.M)
    assert found is not None, f"{header} defines {name}"
    return int(found.group(1))
