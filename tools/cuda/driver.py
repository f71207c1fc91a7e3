"""Memory and clocks of a GPU, by its driver alone: neither Paddle nor PyTorch is needed."""

from __future__ import annotations

import ctypes
from collections.abc import Callable
from typing import Any

import numpy as np

from radam_codegen.errors import NoGpuError, ToolchainError

__all__ = ["Gpu"]

Array = np.ndarray[Any, np.dtype[Any]]

_LIBRARY = "libcuda.so.1"


class Gpu:
    """The first GPU that this process may use.

    Raises:
        NoGpuError: There is no driver, or it finds no GPU.
    """

    def __init__(self) -> None:
        try:
            self._driver = ctypes.CDLL(_LIBRARY)
        except OSError as error:
            raise NoGpuError(
                f"There is no GPU here that can be used: the driver's library {_LIBRARY} cannot "
                "be loaded. Run this on a machine where `nvidia-smi` shows a GPU."
            ) from error
        status = self._driver.cuInit(0)
        count = ctypes.c_int()
        if status == 0:
            status = self._driver.cuDeviceGetCount(ctypes.byref(count))
        if status != 0 or count.value == 0:
            raise NoGpuError(
                f"There is no GPU here that can be used: the driver finds none (CUDA error "
                f"{status or 100}). Run this on a machine where `nvidia-smi` shows one."
            )
        device = ctypes.c_int()
        self._do("cuDeviceGet", ctypes.byref(device), 0)
        name = ctypes.create_string_buffer(256)
        self._do("cuDeviceGetName", name, len(name), device)
        self.name = name.value.decode(errors="replace")
        # The context that CUDA's runtime, in the kernels' libraries, uses as well.
        context = ctypes.c_void_p()
        self._do("cuDevicePrimaryCtxRetain", ctypes.byref(context), device)
        self._do("cuCtxSetCurrent", context)
        self._held: list[ctypes.c_uint64] = []

    def _do(self, function: str, *arguments: Any) -> None:
        status = getattr(self._driver, function)(*arguments)
        if status != 0:
            raise ToolchainError(f"{function} failed with CUDA error {status}")

    def put(self, array: Array) -> int:
        """Copy an array to the GPU and return its address there; it stays until :meth:`clear`."""
        address = ctypes.c_uint64()
        self._do("cuMemAlloc_v2", ctypes.byref(address), ctypes.c_size_t(max(array.nbytes, 1)))
        self._held.append(address)
        if array.nbytes:
            contiguous = np.ascontiguousarray(array)
            size = ctypes.c_size_t(array.nbytes)
            self._do("cuMemcpyHtoD_v2", address, contiguous.ctypes.data_as(ctypes.c_void_p), size)
        return int(address.value)

    def get(self, address: int, like: Array) -> Array:
        """Wait for the GPU, and copy what lies at an address, as large as an array."""
        found = np.empty_like(like)
        if found.nbytes:
            to, size = found.ctypes.data_as(ctypes.c_void_p), ctypes.c_size_t(found.nbytes)
            self._do("cuMemcpyDtoH_v2", to, ctypes.c_uint64(address), size)
        return found

    def clear(self) -> None:
        """Free all that was put there."""
        while self._held:
            self._do("cuMemFree_v2", self._held.pop())

    def seconds(self, work: Callable[[], None], repeats: int) -> float:
        """How long the GPU takes for what ``work`` starts, the median of several times."""
        begin, end = ctypes.c_void_p(), ctypes.c_void_p()
        for event in (begin, end):
            self._do("cuEventCreate", ctypes.byref(event), 0)
        work()
        taken = []
        for _ in range(repeats):
            self._do("cuEventRecord", begin, None)
            work()
            self._do("cuEventRecord", end, None)
            self._do("cuEventSynchronize", end)
            elapsed = ctypes.c_float()
            self._do("cuEventElapsedTime", ctypes.byref(elapsed), begin, end)
            taken.append(elapsed.value / 1e3)
        return float(np.median(taken))
