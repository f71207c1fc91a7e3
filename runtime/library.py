"""The C interface of the operator library, for Python."""

from __future__ import annotations

import ctypes
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import TYPE_CHECKING, Any, NamedTuple

from radam_codegen.errors import (
    AbiMismatchError,
    ArgumentError,
    OperatorError,
    UnsupportedError,
)
from radam_codegen.ir.dtypes import DType
from radam_codegen.ir.launch import GroupNumbers, TensorNumbers
from radam_codegen.ir.moments import Moments
from radam_codegen.ir.plan import DecayKind, TensorClass

if TYPE_CHECKING:
    from radam_codegen.runtime.cuda_loader import LoadedCudaKernel
    from radam_codegen.runtime.loader import LoadedKernel

__all__ = ["Fingerprint", "OperatorLibrary"]

_MESSAGE_BYTES = 4096

#: ``radam_cuda_dtype`` of the header, which counts on every device.
_DTYPES = {DType.FLOAT64: 0, DType.FLOAT32: 1, DType.BFLOAT16: 2, DType.FLOAT16: 3}

#: Decays that are added to the gradient.
_DECAY_TERMS = (DecayKind.L2, DecayKind.L1)


class Fingerprint(NamedTuple):
    """What tells a state of a PIR program from all others of the process.

    Attributes:
        value: 16 bytes.
        holds_ours: Whether operators of this package are in the program.
    """

    value: bytes
    holds_ours: bool


@dataclass(frozen=True)
class OperatorLibrary:
    """The loaded operator: a registry of groups, by key, for the whole process.

    All methods may be called from any thread.

    Attributes:
        path: Where it was loaded from.
        ffi: The ``cffi.FFI`` that knows its declarations.
        library: cffi's library object.
    """

    path: Path
    ffi: Any
    library: Any

    def register(
        self,
        key: int,
        kernel: LoadedKernel | LoadedCudaKernel,
        numbers: GroupNumbers,
        tensor_numbers: Sequence[TensorNumbers],
        classes: Sequence[TensorClass],
        moments: Moments | None = None,
        drops_results: bool = False,
        clips: bool = False,
    ) -> None:
        """Make a group known under a key (int64), in place of one that had the key before.

        Args:
            key: The key.
            kernel: What updates the group.
            numbers: What all tensors have in common.
            tensor_numbers: What each tensor has.
            classes: Types of the tensors, by the number of the body that updates them. A step with
                tensors of other types is refused.
            moments: Where a step finds the moments; None: each tensor has entries of its own.
            drops_results: Whether a step on the CPU lets go of the operator's results, which are
                tensors of their own that nobody reads.
            clips: Whether the kernel clips the gradients that are to be clipped.

        Raises:
            ArgumentError: A body number is not one of the kernel's.
            AbiMismatchError: The kernel's ABI is not the operator's.
            UnsupportedError: The kernel is for a GPU, and the operator was compiled for CPUs only.
        """
        group = self.ffi.new("radam_numbers *", tuple(numbers))
        tensors = self.ffi.new(
            "radam_tensor_numbers[]",
            [
                (each.lr_scale, each.decay, int(each.need_clip), each.body)
                for each in tensor_numbers
            ],
        )
        if any(not 0 <= each.body < len(classes) for each in tensor_numbers):
            raise _no_such_body(kernel, tensor_numbers)
        inputs = self.ffi.new(
            "radam_operator_inputs[]",
            [
                (
                    *_dtypes(classes[each.body]),
                    int(each.master),
                    int(each.decay_at_run_time),
                    int(clips and each.need_clip),
                    int(classes[each.body].decay in _DECAY_TERMS),
                    *place,
                )
                for each, place in zip(tensor_numbers, _places(moments, len(tensor_numbers)))
            ],
        )
        given = (key, kernel.kernel, group, tensors, inputs, len(tensor_numbers))
        if self.ffi.typeof(kernel.kernel) == self.ffi.typeof("const radam_cuda_kernel *"):
            status = self.library.radam_operator_register_cuda(*given)
        else:
            status = self.library.radam_operator_register(*given, int(drops_results))
        if status == 1:
            raise AbiMismatchError(
                f"Kernel {kernel.name} ({kernel.path}) was built for another version of the "
                f"kernel ABI than the operator {self.path}. Build both with one package."
            )
        if status == 2:
            raise _no_such_body(kernel, tensor_numbers)
        if status == 4:
            raise UnsupportedError(
                f"Kernel {kernel.name} is for a GPU, but the operator {self.path} was compiled for "
                "a Paddle without CUDA. Install paddlepaddle-gpu, or use target='c'."
            )
        assert status == 0, "cffi hands over no NULL pointers, and layouts count from 0"

    def contains(self, key: int) -> bool:
        """Whether a group is registered under the key."""
        return bool(self.library.radam_operator_contains(key))

    def forget(self, key: int) -> bool:
        """Drop a group; False when there was none. A step that runs with it finishes."""
        return bool(self.library.radam_operator_forget(key) == 0)

    def set_threads(self, count: int) -> None:
        """Set the largest number of threads that one step uses."""
        self.library.radam_operator_set_threads(count)

    def keep_freed_memory(self) -> bool:
        """Have the process keep the memory that it frees; False where the C library cannot."""
        return bool(self.library.radam_operator_keep_freed_memory() == 0)

    def set_openmp(self, path: Path) -> bool:
        """Use an OpenMP runtime that is loaded already; False when it is not, or is none."""
        status = self.library.radam_operator_set_openmp(str(path).encode())
        return bool(status == 0)

    def set_python_module(self, path: Path) -> bool:
        """Have Paddle's Python module tell what tensors and PIR programs are; it is loaded already.

        False when it does not: :attr:`read_tensors` returns -1 then, or :meth:`fingerprint` None.
        """
        status = self.library.radam_operator_set_python_module(str(path).encode())
        return bool(status == 0)

    @cached_property
    def read_tensors(self) -> Any:
        """``radam_operator_read_tensors``, a function of addresses as plain numbers.

        cffi would release Python's lock around it, and another thread could change a tensor.
        """
        address = self.ffi.addressof(self.library, "radam_operator_read_tensors")
        number, pointer = ctypes.c_int64, ctypes.c_void_p
        return ctypes.PYFUNCTYPE(number, pointer, pointer, number, pointer, pointer)(
            int(self.ffi.cast("intptr_t", address))
        )

    def fingerprint(self, block: int) -> Fingerprint | None:
        """Return the fingerprint of a PIR program as it is now; None: it cannot be read here.

        Args:
            block: The address of its global ``pir::Block``.
        """
        value = ctypes.create_string_buffer(16)
        status = self._fingerprint(block, value)
        return None if status < 0 else Fingerprint(value.raw, status == 1)

    @cached_property
    def _fingerprint(self) -> Any:
        # As above, nobody changes a program while it is read.
        address = self.ffi.addressof(self.library, "radam_operator_fingerprint")
        pointer = ctypes.c_void_p
        return ctypes.PYFUNCTYPE(ctypes.c_int32, pointer, pointer)(
            int(self.ffi.cast("intptr_t", address))
        )

    def run(
        self,
        key: int,
        tensors: Any,
        count: int,
        step: Any,
        lr: float,
        found_inf: bool = False,
    ) -> None:
        """Run one step of a registered group on plain pointers.

        Args:
            key: The group's key.
            tensors: cffi's ``radam_tensor[count]``, in the order of the group's tensor numbers.
            count: Number of tensors.
            step: cffi's ``int64_t[count]``: step counts, updated in place.
            lr: Learning rate of this step.
            found_inf: Whether kernels with a skip flag leave everything as it is.

        Raises:
            OperatorError: The key is unknown, or the count is not the group's.
            UnsupportedError: As :meth:`check`.
        """
        message = self.ffi.new("char[]", _MESSAGE_BYTES)
        status = self.library.radam_operator_run(
            key, tensors, count, step, lr, int(found_inf), message, _MESSAGE_BYTES
        )
        self._raise(status, key, message)

    def check(self, key: int, tensors: Any, count: int) -> None:
        """Refuse tensors that a step could not be run on, as :meth:`run` does, updating nothing.

        Raises:
            OperatorError: The key is unknown, or the count is not the group's.
            UnsupportedError: Tensors share memory in a way that no order of updates makes good. The
                message says ``tensor`` with its number for each.
        """
        message = self.ffi.new("char[]", _MESSAGE_BYTES)
        status = self.library.radam_operator_check(key, tensors, count, message, _MESSAGE_BYTES)
        self._raise(status, key, message)

    def _raise(self, status: int, key: int, message: Any) -> None:
        if status == 0:
            return
        text = self.ffi.string(message).decode("utf-8", "replace")
        if status == 5:
            raise UnsupportedError(text)
        raise OperatorError(f"The step of group {key} was not run: {text}.")


def _dtypes(each: TensorClass) -> tuple[int, int, int]:
    """Types of parameter, gradient and moments, as the header numbers them."""
    return _DTYPES[each.param_dtype], _DTYPES[each.grad_dtype], _DTYPES[each.moment_dtype]


def _places(moments: Moments | None, count: int) -> Iterable[tuple[int, int, int]]:
    """Of each tensor the entry that its moments are in, elements before them, and its size."""
    if moments is None:
        return ((index, 0, -1) for index in range(count))
    sizes = moments.sizes
    return ((storage, offset, sizes[storage]) for storage, offset in moments.places)


def _no_such_body(
    kernel: LoadedKernel | LoadedCudaKernel, tensor_numbers: Sequence[TensorNumbers]
) -> ArgumentError:
    bodies = sorted({each.body for each in tensor_numbers})
    return ArgumentError(
        f"Kernel {kernel.name} has {kernel.body_count} bodies, numbered from 0, but the tensors "
        f"ask for {bodies}."
    )
