"""The C declarations of the public headers, as cffi knows them.

cffi's parser takes longer to read the headers than a process takes to load a kernel, so what it
makes of them is kept in ``_declarations.py``. After a change of a header, write it anew::

    python -m radam_codegen.runtime.interface
"""

from __future__ import annotations

import tempfile
from functools import cache
from pathlib import Path
from typing import Any

from radam_codegen.toolchain.abi import header_text

__all__ = ["DECLARATIONS", "declarations", "ffi", "parsed"]

#: The file that keeps what cffi makes of the headers.
DECLARATIONS = Path(__file__).with_name("_declarations.py")

_MODULE = "radam_codegen.runtime._declarations"
_BEGIN = "/* cffi: begin */"
_END = "/* cffi: end */"


@cache
def ffi() -> Any:
    """One ``FFI`` for the whole process, which knows all public headers but the launcher's."""
    from radam_codegen.runtime._declarations import ffi as declared  # cffi's backend loads here

    return declared


def parsed() -> Any:
    """Return a ``cffi.FFI`` made from the headers themselves, to which more can be added."""
    from cffi import FFI  # the parser, which nothing that only runs kernels needs

    interface = FFI()
    for name in ("kernel.h", "cuda_kernel.h", "operator.h"):
        text = header_text(name)
        interface.cdef(text[text.index(_BEGIN) + len(_BEGIN) : text.index(_END)])
    return interface


def declarations() -> str:
    """Return what :data:`DECLARATIONS` must hold for the headers as they are."""
    interface = parsed()
    interface.set_source(_MODULE, None)
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder, "declarations.py")
        interface.emit_python_code(str(path))
        return path.read_text(encoding="utf-8")


if __name__ == "__main__":
    DECLARATIONS.write_text(declarations(), encoding="utf-8")
