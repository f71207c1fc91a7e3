"""Loading CUDA kernels with cffi, on machines with and without a GPU."""

from __future__ import annotations

import os
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from radam_codegen.errors import AbiMismatchError, ArtifactError, NoGpuError
from radam_codegen.runtime.interface import ffi
from radam_codegen.runtime.loader import open_library
from radam_codegen.toolchain.abi import cuda_abi_version

__all__ = ["LoadedCudaKernel", "load_cuda_kernel"]

#: What CUDA answers where there is no driver, or one that is too old, and where there is no GPU.
_NO_DRIVER, _NO_DEVICE = 35, 100
_WITHOUT_GPU = {
    _NO_DRIVER: "there is no NVIDIA driver here, or one that is older than the kernel's CUDA",
    _NO_DEVICE: "the driver finds no GPU that this process may use",
}


@dataclass(frozen=True)
class LoadedCudaKernel:
    """A CUDA kernel in memory.

    Attributes:
        path: Where it was loaded from.
        name: Readable identifier of its structure.
        ir_sha256: Hash of the IR that its source was rendered from.
        body_count: Number of its bodies, one per class of tensors.
        kernel: cffi's ``const radam_cuda_kernel *``.
    """

    path: Path
    name: str
    ir_sha256: str
    body_count: int
    kernel: Any

    @property
    def address(self) -> int:
        """Address of the ``radam_cuda_kernel``."""
        return int(ffi().cast("intptr_t", self.kernel))

    def device_count(self) -> int:
        """How many GPUs there are for this process; at least one.

        Raises:
            NoGpuError: There is none, or no driver; the message says which.
        """
        count = ffi().new("int32_t *")
        status = int(self.kernel.device_count(count))
        if status == 0 and count[0] > 0:
            return int(count[0])
        reason = _WITHOUT_GPU.get(status) or self.error_text(status)
        raise NoGpuError(
            f"CUDA kernel {self.name} cannot run: {reason} (CUDA error {status or _NO_DEVICE}). "
            "Use target='c' on this machine, or one that `nvidia-smi` shows a GPU on."
        )

    def error_text(self, status: int) -> str:
        """What CUDA says that the number of an error means."""
        return str(ffi().string(self.kernel.error_text(status)).decode("utf-8", "replace"))


def load_cuda_kernel(path: str | os.PathLike[str]) -> LoadedCudaKernel:
    """Load a compiled CUDA kernel. Neither a GPU nor a driver is needed for that.

    Raises:
        ArtifactError: The file is missing, cannot be loaded, or is no CUDA kernel.
        AbiMismatchError: The kernel was compiled for another version of the CUDA kernel ABI.
    """
    file = Path(path).absolute()
    library = open_library(file)
    try:
        kernel = library.radam_codegen_cuda_kernel()
    except ffi().error:
        raise ArtifactError(
            f"{file} is no CUDA kernel: it has no radam_codegen_cuda_kernel()."
        ) from None
    # The version is the first field in every version of the struct; the rest is read only after it.
    version = int(kernel.abi_version)
    if version != cuda_abi_version():
        raise AbiMismatchError(
            f"{file} was built for version {version} of the CUDA kernel ABI, but this package "
            f"speaks version {cuda_abi_version()}. Build it again with this package."
        )
    return LoadedCudaKernel(
        path=file,
        name=ffi().string(kernel.name).decode("utf-8", "replace"),
        ir_sha256=ffi().string(kernel.ir_sha256).decode("ascii", "replace"),
        body_count=int(kernel.body_count),
        kernel=kernel,
    )
