"""The kernel ABI, as its header states it."""

from __future__ import annotations

import re
from functools import cache
from pathlib import Path

from radam_codegen._resources import include_dir

__all__ = ["abi_version", "chunk_elements", "header_path", "header_text"]


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


def chunk_elements() -> int:
    """Longest range of one tensor that a chunk covers, in elements."""
    return _constant("RADAM_CODEGEN_CHUNK")


def _constant(name: str) -> int:
    found = re.search(rf"^#define {name} (\d+)$", header_text("kernel.h"), re.M)
    assert found is not None, f"kernel.h defines {name}"
    return int(found.group(1))
