"""Loading kernels and the operator with cffi.

A library stays loaded for as long as the process runs: the operator keeps pointers into it.
"""

from __future__ import annotations

import os
import threading
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from radam_codegen.errors import AbiMismatchError, ArtifactError
from radam_codegen.runtime.interface import ffi
from radam_codegen.runtime.library import OperatorLibrary
from radam_codegen.toolchain.abi import abi_version, chunk_elements

__all__ = ["LoadedKernel", "load_kernel", "load_operator", "open_library"]


@dataclass(frozen=True)
class LoadedKernel:
    """A kernel in memory.

    Attributes:
        path: Where it was loaded from.
        name: Readable identifier of its structure.
        ir_sha256: Hash of the IR that its source was rendered from.
        body_count: Number of its bodies, one per class of tensors.
        kernel: cffi's ``const radam_kernel *``.
    """

    path: Path
    name: str
    ir_sha256: str
    body_count: int
    kernel: Any

    @property
    def address(self) -> int:
        """Address of the ``radam_kernel``."""
        return int(ffi().cast("intptr_t", self.kernel))


# Libraries by what tells files apart. A file that was built anew under its old path is loaded anew.
_FileIdentity = tuple[str, int, int, int]
_loaded: dict[_FileIdentity, Any] = {}
_loaded_lock = threading.Lock()


def load_kernel(path: str | os.PathLike[str]) -> LoadedKernel:
    """Load a compiled kernel.

    Raises:
        ArtifactError: The file is missing, cannot be loaded, or is no kernel.
        AbiMismatchError: The kernel was compiled for another version of the kernel ABI.
    """
    file = Path(path).absolute()
    library = open_library(file)
    try:
        kernel = library.radam_codegen_kernel()
    except ffi().error:
        raise ArtifactError(f"{file} is no kernel: it has no radam_codegen_kernel().") from None
    # The version is the first field in every version of the struct; the rest is read only after it.
    _check_abi(file, int(kernel.abi_version))
    expected_chunk = chunk_elements()
    if kernel.chunk != expected_chunk:
        raise AbiMismatchError(
            f"{file} works in chunks of {kernel.chunk} elements, this package in chunks of "
            f"{expected_chunk}. Build the kernel again."
        )
    return LoadedKernel(
        path=file,
        name=ffi().string(kernel.name).decode("utf-8", "replace"),
        ir_sha256=ffi().string(kernel.ir_sha256).decode("ascii", "replace"),
        body_count=int(kernel.body_count),
        kernel=kernel,
    )


def load_operator(path: str | os.PathLike[str]) -> OperatorLibrary:
    """Load the compiled operator. The libraries of its Paddle must be in the process already.

    Raises:
        ArtifactError: The file is missing, cannot be loaded, or is not the operator.
        AbiMismatchError: The operator was compiled for another version of the kernel ABI.
    """
    file = Path(path).absolute()
    library = open_library(file)
    try:
        version = int(library.radam_operator_abi_version())
    except ffi().error:
        raise ArtifactError(f"{file} is not the operator of radam_codegen.") from None
    _check_abi(file, version)
    return OperatorLibrary(file, ffi(), library)


def _check_abi(file: Path, version: int) -> None:
    if version != abi_version():
        raise AbiMismatchError(
            f"{file} was built for version {version} of the kernel ABI, but this package speaks "
            f"version {abi_version()}. Build it again with this package."
        )


def open_library(file: Path) -> Any:
    """Load a library, or return it where it is loaded already.

    Raises:
        ArtifactError: The file is missing or cannot be loaded.
    """
    try:
        status = file.stat()
        identity = (str(file), status.st_dev, status.st_ino, status.st_mtime_ns)
        with _loaded_lock:
            if identity not in _loaded:
                _loaded[identity] = ffi().dlopen(str(file))
            return _loaded[identity]
    except OSError as error:
        raise ArtifactError(f"{file} cannot be loaded: {error}.") from error
