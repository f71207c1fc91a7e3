"""Parameters in dynamic graph whose elements do not lie one after the other, such as ``x.t()``.

Kernels step a contiguous copy of each, which is filled before a step and written back after it. It
is done in NumPy on the parameter's own memory: Paddle's assignment to a view gives it other memory.
"""

from __future__ import annotations

import ctypes
from collections.abc import Callable, Iterable
from typing import Any

import numpy as np
import numpy.typing as npt
import paddle

from radam_codegen.errors import UnsupportedError

__all__ = ["StridedParameters"]

_Array = npt.NDArray[Any]


class StridedParameters:
    """Those parameters of a step that are views, and the copies that are stepped in their place.

    Args:
        params: parameters of the step, dense tensors on the CPU as far as they are views.

    Raises:
        UnsupportedError: elements of a view share memory, so that there is no one value to update.
    """

    def __init__(self, params: Iterable[Any]) -> None:
        self._views = tuple(_View(each) for each in params if not each.is_contiguous())
        self._copies = {id(each.param): each.copy for each in self._views}
        self._apart: list[int] | None = None

    def __len__(self) -> int:
        return len(self._views)

    def stepped(self, param: Any) -> Any:
        """What is stepped in the place of a parameter: a copy, or itself."""
        return self._copies.get(id(param), param)

    def fit(self) -> bool:
        """Whether the views still are what the copies were made for."""
        return all(each.fits() for each in self._views)

    def load(self, others: Callable[[int, int], Iterable[tuple[str, Any]]]) -> None:
        """Fill the copies.

        Args:
            others: gives what else a step reads or writes between two addresses, and its names.

        Raises:
            UnsupportedError: a view shares elements with another tensor. Native RAdam updates one
                after the other, but copies are written back together.
        """
        addresses = [each.param.data_ptr() for each in self._views]
        if addresses != self._apart:
            for number, view in enumerate(self._views):
                for other in self._views[:number]:
                    view.check_apart(f"parameter {other.param.name!r}", other.param)
            self._apart = addresses
        for view in self._views:
            for name, tensor in others(*_bounds(view.param)):
                view.check_apart(name, tensor)
        for view in self._views:
            _elements_of(view.copy)[...] = _elements_of(view.param)

    def store(self) -> None:
        """Write the copies back."""
        for view in self._views:
            _elements_of(view.param)[...] = _elements_of(view.copy)


class _View:
    def __init__(self, param: Any) -> None:
        if not param.is_dense() or not param.place.is_cpu_place():
            raise UnsupportedError(
                f"parameter {param.name!r} is a view on {param.place}; it must be a dense tensor "
                "on the CPU"
            )
        if _may_meet_itself(param):
            raise UnsupportedError(
                f"parameter {param.name!r} is a view with strides {param.strides}, some elements "
                "of which share memory; make it from contiguous()"
            )
        self.param = param
        self.copy = paddle.empty(param.shape, dtype=param.dtype)

    def fits(self) -> bool:
        return bool(
            not self.param.is_contiguous()
            and self.param.dtype == self.copy.dtype
            and self.param.is_same_shape(self.copy)
        )

    def check_apart(self, name: str, tensor: Any) -> None:
        if np.shares_memory(_elements_of(self.param), _elements_of(tensor)):
            raise UnsupportedError(
                f"parameter {self.param.name!r} is a view with strides {self.param.strides}, which "
                f"shares elements with {name}; give each memory of its own"
            )


def _bounds(tensor: Any) -> tuple[int, int]:
    """Addresses of the first byte of a tensor's elements, and of that after the last one."""
    begin = tensor.data_ptr() if tensor.size else 0
    return begin, begin + _span(tensor)


def _span(tensor: Any) -> int:
    if not tensor.size:
        return 0
    last = sum(stride * (extent - 1) for stride, extent in zip(tensor.strides, tensor.shape))
    return int(tensor.element_size() * (last + 1))


def _may_meet_itself(param: Any) -> bool:
    """Whether a view may have elements that share memory: no stride is above all smaller ones."""
    reach = 0
    for stride, extent in sorted(zip(param.strides, param.shape)):
        if extent > 1:
            if stride <= reach:
                return True
            reach += stride * (extent - 1)
    return False


def _elements_of(tensor: Any) -> _Array:
    """The elements of a tensor on the CPU where they are, as whole numbers of their width."""
    width = tensor.element_size()
    begin, end = _bounds(tensor)
    memory = memoryview((ctypes.c_char * (end - begin)).from_address(begin))
    strides = tuple(width * stride for stride in tensor.strides)
    return np.ndarray(tuple(tensor.shape), f"u{width}", memory, 0, strides)
