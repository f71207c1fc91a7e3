"""Tensors of dynamic graph that share memory, by which native RAdam and ours are trained."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, NamedTuple

import numpy as np
import paddle
from paddle.base.framework import EagerParamBase

__all__ = ["LR", "NUMEL", "SHIFT", "Layout", "Training", "over", "values"]

Array = np.ndarray[Any, np.dtype[Any]]

LR = 0.05
#: Several chunks, and no multiple of any vector's length.
NUMEL = 300_001
SHIFT = 1_000


class Layout(NamedTuple):
    """Where two parameters, ``a`` before ``b``, and their gradients begin in one piece of memory.

    None is memory of its own.
    """

    a: int = 0
    b: int = 2 * NUMEL
    grad_a: int | None = None
    grad_b: int | None = None


def values(count: int, seed: int, dtype: str = "float32") -> Any:
    """A tensor of random numbers."""
    return paddle.to_tensor(np.random.default_rng(seed).standard_normal(count)).astype(dtype)


def over(tensor: Any, memory: Any) -> None:
    """Have a tensor lie over another one's memory."""
    tensor.get_tensor()._share_data_with(memory.get_tensor())


class Training:
    """Two parameters under one optimizer, in such a layout.

    Args:
        make: makes the optimizer; ``parameters`` are given.
        layout: where what begins.
    """

    def __init__(self, make: Any, layout: Layout, dtype: str = "float32") -> None:
        self.memory = values(3 * NUMEL, 1, dtype)
        self.params = [self._parameter("a", layout.a), self._parameter("b", layout.b)]
        for number, (param, grad) in enumerate(zip(self.params, (layout.grad_a, layout.grad_b))):
            own = values(NUMEL, 2 + number, dtype)
            param.grad = own
            if grad is not None:
                over(param.grad, self._part(grad))
                assert param.grad.data_ptr() == self._part(grad).data_ptr()
        self.optimizer = make(parameters=self.params)

    def _part(self, begin: int) -> Any:
        return self.memory[begin : begin + NUMEL]

    def _parameter(self, name: str, begin: int) -> Any:
        made = EagerParamBase.from_tensor(self._part(begin).clone(), name=name)
        made.stop_gradient = False
        over(made, self._part(begin))
        return made

    def state(self, name: str) -> Mapping[str, Any]:
        """Tensors of the optimizer's state of one kind, by parameter."""
        state: Mapping[str, Any] = self.optimizer._accumulators[name]
        return state

    def run(self, steps: int = 8) -> Array:
        """All memory after so many more steps."""
        for _ in range(steps):
            self.optimizer.step()
        array: Array = self.memory.astype("float32").numpy()
        return array
