"""Training in dynamic graph that can be stopped and gone on with: gradients depend on the step."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any

import numpy as np
import paddle
from paddle.optimizer.lr import StepDecay

import radam_codegen as rc

__all__ = ["ARRANGEMENTS", "LATE", "TENSORS", "Training", "bits", "gradient", "resume_from_file"]

Array = np.ndarray[Any, np.dtype[Any]]

#: Names, shapes and types of the parameters.
TENSORS = {
    "w": ((5, 3), "float32"),
    "w_1": ((3,), "float32"),
    "scalar": ((), "float32"),
    "double": ((2, 2), "float64"),
    "half": ((4, 3), "bfloat16"),
    "late": ((3,), "float32"),
    "frozen": ((2,), "float32"),
}
#: The first step in which "late" has a gradient, from 0.
LATE = 4

#: Ways to hand the parameters to the optimizer.
ARRANGEMENTS: dict[str, Callable[[dict[str, Any]], list[Any]]] = {
    "flat": lambda params: list(params.values()),
    "groups": lambda params: [
        {"params": _some(params, "w late frozen"), "beta2": 0.9},
        {"params": _some(params, "half double w_1 scalar"), "learning_rate": 0.5},
    ],
    "groups turned": lambda params: [
        {"params": _some(params, "scalar half"), "learning_rate": 0.5},
        {"params": _some(params, "frozen late w"), "beta2": 0.9},
        {"params": _some(params, "w_1 double"), "learning_rate": 0.5},
    ],
}


def _some(params: dict[str, Any], names: str) -> list[Any]:
    return [params[name] for name in names.split() if name in params]


class Training:
    """An optimizer with parameters of its own.

    Args:
        arrangement: a key of ``ARRANGEMENTS``.
        optimizer: the class.
        scheduled: whether the learning rate falls every third step.
        options: more arguments of the optimizer.
    """

    def __init__(
        self,
        arrangement: str = "flat",
        optimizer: Any = rc.RAdam,
        scheduled: bool = False,
        names: Sequence[str] = tuple(TENSORS),
        **options: Any,
    ) -> None:
        self.params = {name: _create(name) for name in names}
        self.scheduler = StepDecay(0.05, step_size=3, gamma=0.5) if scheduled else None
        if optimizer is rc.RAdam:
            options = {"multi_precision": True, **options}
        self.optimizer = optimizer(
            learning_rate=self.scheduler or 0.05,
            parameters=ARRANGEMENTS[arrangement](self.params),
            **options,
        )
        self.done = 0

    def train(self, steps: int) -> Training:
        """Do so many steps more."""
        for _ in range(steps):
            for name, param in self.params.items():
                if not param.stop_gradient and (name != "late" or self.done >= LATE):
                    param.grad = paddle.to_tensor(gradient(name, self.done)).astype(param.dtype)
            self.optimizer.step()
            self.optimizer.clear_grad(set_to_zero=False)
            if self.scheduler is not None:
                self.scheduler.step()
            self.done += 1
        return self

    def save(self, prefix: str) -> None:
        """Save parameters and optimizer, as a user does."""
        paddle.save(dict(self.params), f"{prefix}.pdparams")
        paddle.save(self.optimizer.state_dict(), f"{prefix}.pdopt")

    def load(self, prefix: str, done: int, as_arrays: bool = False) -> Training:
        """Load what was saved after so many steps."""
        for name, value in paddle.load(f"{prefix}.pdparams").items():
            self.params[name].set_value(value)
        self.optimizer.set_state_dict(paddle.load(f"{prefix}.pdopt", return_numpy=as_arrays))
        self.done = done
        return self

    def values(self) -> dict[str, bytes]:
        """The parameters, to the bit."""
        return {name: param.numpy().tobytes() for name, param in self.params.items()}

    def moments(self) -> dict[str, bytes]:
        """The optimizer's tensors, to the bit, under names that are the same in every process."""
        state = self.optimizer.state_dict()
        masters = state.pop("master_weights", {})
        state.pop("LR_Scheduler", None)
        tensors = {**state, **{f"{name}_master_0": each for name, each in masters.items()}}
        return {name.rsplit("_", 1)[0]: each.numpy().tobytes() for name, each in tensors.items()}


def _create(name: str) -> Any:
    shape, dtype = TENSORS[name]
    attr = paddle.ParamAttr(
        initializer=paddle.nn.initializer.Constant(0.5), trainable=name != "frozen"
    )
    param = paddle.create_parameter(list(shape), dtype, attr=attr)
    param.name = name  # asked for beforehand, a name could be had only once in a process
    return param


def gradient(name: str, step: int) -> Array:
    """The gradient of a parameter in a step, from 0."""
    shape, dtype = TENSORS[name]
    random = np.random.default_rng([step, *name.encode()])
    values = np.asarray(random.standard_normal(shape))
    return values.astype("float64" if dtype == "float64" else "float32")


def bits(state: Any) -> Any:
    """A state dict's values as bytes, for comparison."""
    if isinstance(state, dict):
        return {name: bits(value) for name, value in state.items()}
    if isinstance(state, paddle.Tensor):
        return state.numpy().tobytes()
    if isinstance(state, paddle.base.core.DenseTensor):
        return np.array(state).tobytes()
    return state


def resume_from_file(prefix: str, done: int, steps: int, out: str) -> None:
    """What a fresh process does: load, train on, save. Twice, as tensors and as arrays."""
    for as_arrays in (False, True):
        training = Training("groups", scheduled=True).load(prefix, done, as_arrays)
        training.train(steps).save(f"{out}{int(as_arrays)}")
