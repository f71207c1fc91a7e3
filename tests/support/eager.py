"""Parameters in dynamic graph whose gradients are set, and the reference beside them."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import numpy as np
import paddle
from paddle.base.framework import EagerParamBase

from radam_codegen.ir.dtypes import DType
from radam_codegen.ir.plan import GroupPlan, TensorPlan
from support.reference import ReferenceState, reference_step

__all__ = ["Reference", "parameter", "set_gradients", "steps_of", "values_of"]

Array = np.ndarray[Any, np.dtype[Any]]


def parameter(name: str, value: Any, dtype: str = "float32") -> Any:
    """A trainable parameter of that name and value."""
    tensor = paddle.to_tensor(np.asarray(value, np.float64)).astype(dtype)
    made = EagerParamBase.from_tensor(tensor, name=name)
    made.stop_gradient = False
    return made


def set_gradients(grads: Mapping[Any, Any]) -> None:
    """Give parameters these gradients, in their own type."""
    for param, grad in grads.items():
        param.grad = paddle.to_tensor(np.asarray(grad, np.float64)).astype(param.dtype)


def values_of(*params: Any) -> list[Array]:
    """Parameters as float64 arrays."""
    return [param.astype("float64").numpy() for param in params]


def steps_of(optimizer: Any) -> dict[str, int]:
    """How often each parameter was stepped that was, by name."""
    suffix = "_step_0"
    return {
        key[: -len(suffix)]: int(value.item())
        for key, value in optimizer.state_dict().items()
        if key.endswith(suffix) and value.item()
    }


class Reference:
    """The float64 reference of some parameters, as they are when it is made.

    ``special`` says what a parameter's plan has other than the usual, by name.
    """

    def __init__(self, *params: Any, **special: Mapping[str, Any]) -> None:
        self._states = {
            param.name: ReferenceState(value, np.zeros_like(value), np.zeros_like(value))
            for param, value in zip(params, values_of(*params))
        }
        self.special: dict[str, Mapping[str, Any]] = dict(special)

    def step(self, grads: Mapping[str, Any], lr: float, **numbers: Any) -> None:
        """Step the parameters that have a gradient here as one group."""
        tensors = tuple(
            TensorPlan(
                name,
                self._states[name].param.shape,
                DType.FLOAT64,
                DType.FLOAT64,
                DType.FLOAT64,
                **self.special.get(name, {}),
            )
            for name in grads
        )
        reference_step(
            GroupPlan(tensors, **numbers),
            [self._states[name] for name in grads],
            [np.asarray(grad, np.float64) for grad in grads.values()],
            lr,
        )

    def __getitem__(self, name: str) -> Array:
        return self._states[name].param

    def check(self, *params: Any, rtol: float = 2e-5, atol: float = 2e-6) -> None:
        """Demand that parameters are where the reference is."""
        for param, value in zip(params, values_of(*params)):
            np.testing.assert_allclose(value, self[param.name], rtol, atol, err_msg=param.name)
