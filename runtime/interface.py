"""The C declarations of the public headers, as cffi knows them."""

from __future__ import annotations

from functools import cache
from typing import Any

from cffi import FFI

from radam_codegen.toolchain.abi import header_text

__all__ = ["ffi"]

_BEGIN = "/* cffi: begin */"
_END = "/* cffi: end */"


@cache
def ffi() -> Any:
    """One ``FFI`` for the whole process, which knows ``kernel.h`` and ``operator.h``."""
    interface = FFI()
    for name in ("kernel.h", "operator.h"):
        text = header_text(name)
        interface.cdef(text[text.index(_BEGIN) + len(_BEGIN) : text.index(_END)])
    return interface
