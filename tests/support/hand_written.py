"""A kernel written by hand, for tests that need some kernel but no generator."""

from __future__ import annotations

import hashlib
from pathlib import Path

from radam_codegen.codegen.source import KernelSource
from radam_codegen.ir.dtypes import DType
from radam_codegen.ir.plan import DecayKind, TensorClass

#: Types of what its bodies update.
HAND_WRITTEN_CLASSES = tuple(
    TensorClass(dtype, dtype, dtype, False, DecayKind.NONE)
    for dtype in (DType.FLOAT32, DType.FLOAT64)
)

_FILE = Path(__file__).with_name("hand_written_kernel.c")


def hand_written_source(edit: str = "") -> KernelSource:
    """The kernel's source; ``edit`` is appended to it, so that it is another one."""
    text = _FILE.read_text(encoding="utf-8") + edit
    return source_of(text)


def source_of(text: str) -> KernelSource:
    digest = hashlib.sha256(text.encode("utf-8")).hexdigest()
    return KernelSource(name="hand_written", language="c", text=text, sha256=digest)
