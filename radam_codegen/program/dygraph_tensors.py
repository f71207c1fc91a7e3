"""Where the tensors of a launch in dynamic graph are.

A step looks at every tensor anew: whoever loads a checkpoint, converts a model or sets a gradient
changes addresses, and perhaps more. The operator library does so for hundreds of tensors in the
time that Python takes for a few. With a Paddle that does not let it, Python does the same.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from typing import Any

import numpy as np
import paddle

from radam_codegen.errors import UnsupportedError
from radam_codegen.runtime import OperatorLibrary

__all__ = ["LaunchTensors"]

#: What ``radam_role`` tells apart, in its order, in which the fields of ``radam_tensor`` start too.
_ROLES = ("parameter", "gradient", "moment1", "moment2", "master weight")

#: Fields of ``radam_objects`` and of ``radam_tensor``, 8 bytes each.
_OBJECT_FIELDS, _TENSOR_FIELDS = 4, 6


class LaunchTensors:
    """Parameters of a launch and their state, a row for each.

    Args:
        library: what reads them, if it can.
        params: the parameters.
        moment1: their first moments.
        moment2: their second moments.
        masters: their master weights, None where there is none.
        memory: what is stepped in the place of each parameter; None: these themselves.

    Attributes:
        params: the parameters.
        pointer: cffi's ``radam_tensor *``: a row each, as last read.
    """

    def __init__(
        self,
        library: OperatorLibrary,
        params: Sequence[Any],
        moment1: Sequence[Any],
        moment2: Sequence[Any],
        masters: Sequence[Any],
        memory: Sequence[Any] | None = None,
    ) -> None:
        self.params = tuple(params)
        self._library = library
        # Kept, as is the address of every object in here.
        self._rows = tuple(zip(memory or params, moment1, moment2, masters))
        self._objects = np.zeros((len(self._rows), _OBJECT_FIELDS), np.int64)
        for addresses, row in zip(self._objects, self._rows):
            addresses[:] = [0 if each is None else id(each) for each in row]
        self._table = np.zeros((len(self._rows), _TENSOR_FIELDS), np.int64)
        self._dtypes = np.zeros((len(self._rows), len(_ROLES)), np.int32)
        self._arrays = tuple(
            array.ctypes.data for array in (self._objects, self._table, self._dtypes)
        )
        self._adopted: Any = None
        self.pointer = library.ffi.cast("radam_tensor *", self._table.ctypes.data)

    def __len__(self) -> int:
        return len(self._rows)

    def adopt(self, grads: Sequence[Any]) -> None:
        """Read the tensors, whose types are those that :meth:`read` wants to find.

        Raises:
            UnsupportedError: a kernel cannot take one of them.
        """
        failed, self._adopted = self._look(grads)
        if failed:
            row, role = divmod(failed - 1, len(_ROLES))
            name = f"parameter {self.params[row].name!r}"
            raise UnsupportedError(
                f"{name if role == 0 else f'the {_ROLES[role]} of {name}'} cannot be used: it must "
                f"be a dense, contiguous tensor of the parameter's shape, with memory on the CPU"
            )

    def between(self, begin: int, end: int, grads: Sequence[Any]) -> Iterator[tuple[str, Any]]:
        """Tensors that may lie between two addresses, as last read, and what each is called."""
        addresses, numels = self._table[:, :-1], self._table[:, -1:]
        near = (addresses < end) & (addresses + 8 * numels > begin) & (numels > 0) & (addresses > 0)
        for row, role in np.argwhere(near):
            tensors = (self._rows[row][0], grads[row], *self._rows[row][1:])
            name = f"parameter {self.params[row].name!r}"
            yield name if role == 0 else f"the {_ROLES[role]} of {name}", tensors[role]

    def read(self, grads: Sequence[Any]) -> bool:
        """Read the tensors; whether a kernel can take them all, and their types are as adopted."""
        failed, dtypes = self._look(grads)
        return not failed and bool(dtypes == self._adopted)

    def _look(self, grads: Sequence[Any]) -> tuple[int, Any]:
        """Fill the table; as ``radam_operator_read_tensors``, with what identifies the types."""
        given = np.fromiter(grads, object, len(self))  # whose memory is addresses of objects
        objects, table, dtypes = self._arrays
        failed = self._library.read_tensors(objects, given.ctypes.data, len(self), table, dtypes)
        return self._look_in_python(grads) if failed < 0 else (failed, self._dtypes.tobytes())

    def _look_in_python(self, grads: Sequence[Any]) -> tuple[int, Any]:
        dtypes: list[Any] = []
        for place, ((param, *state), grad) in enumerate(zip(self._rows, grads)):
            numel = param.size
            for role, tensor in enumerate((param, grad, *state)):
                if tensor is None and _ROLES[role] == "master weight":
                    dtypes.append(None)
                    continue
                if not _is_plain(tensor, param):
                    return 1 + len(_ROLES) * place + role, None
                dtypes.append(tensor.dtype)
                self._table[place, role] = tensor.data_ptr() if numel else 0
            self._table[place, -1] = numel
        return 0, dtypes


def _is_plain(tensor: Any, param: Any) -> bool:
    """Whether a kernel can take a tensor as it is."""
    return (
        isinstance(tensor, paddle.Tensor)
        and tensor.is_dense()
        and tensor.is_same_shape(param)
        and tensor.is_contiguous()
        and (tensor.size == 0 or _has_memory(tensor))
    )


def _has_memory(tensor: Any) -> bool:
    return bool(
        tensor._is_initialized()
        and tensor.place.is_cpu_place()
        and tensor._holder_size() >= tensor.size * tensor.element_size()
    )
