"""Training in a static program that can be stopped and gone on with."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np
import paddle
from paddle.optimizer.lr import StepDecay

import radam_codegen as rc
from support.static_programs import FedProgram, Tensor, random_gradients
from support.twin import initial_values

__all__ = ["TENSORS", "ProgramTraining", "resume_from_file"]

TENSORS = (
    Tensor("w", (5, 3)),
    Tensor("w_1", (3,)),
    Tensor("scalar", ()),
    Tensor("double", (2, 2), "float64"),
    Tensor("half", (4, 3), "bfloat16"),
)
STEPS = 20


class ProgramTraining:
    """A program with two groups, clip, decay and a scheduler, in a scope of its own.

    Args:
        grouped: False puts all parameters into one group.
        tensors: the parameters.
    """

    def __init__(self, grouped: bool = True, tensors: Sequence[Tensor] = TENSORS) -> None:
        self.grouped = grouped
        self.scheduler = StepDecay(0.05, step_size=3, gamma=0.5)
        self.program = FedProgram(tensors, self._optimizer)
        self.optimizer = self.program.optimizer
        self.gradients = random_gradients(
            [Tensor(each.name, each.shape, _wide(each.dtype)) for each in tensors], STEPS
        )
        self.done = 0

    def _optimizer(self, params: list[Any]) -> Any:
        parts = [params[1:], params[:1]] if self.grouped else [params]
        return rc.RAdam(
            self.scheduler,
            parameters=[{"params": part} for part in parts],
            weight_decay=0.1,
            grad_clip=paddle.nn.ClipGradByGlobalNorm(2.0),
            multi_precision=True,
        )

    def start(self) -> ProgramTraining:
        """Run the startup program, and set the parameters to values of their own."""
        self.program.start()
        wide = [Tensor(each.name, each.shape, _wide(each.dtype)) for each in self.program.tensors]
        for tensor, value in zip(self.program.tensors, initial_values(wide)):
            if tensor.dtype != "bfloat16":
                self.program.write(tensor.name, value)
        return self

    def train(self, steps: int) -> ProgramTraining:
        """Do so many steps more."""
        for _ in range(steps):
            grads = [
                _bfloat16(grad) if tensor.dtype == "bfloat16" else grad
                for tensor, grad in zip(self.program.tensors, self.gradients[self.done])
            ]
            self.program.step(grads)
            self.scheduler.step()
            self.done += 1
        return self

    def values(self) -> dict[str, bytes]:
        """Parameters and optimizer state, to the bit; the learning rate is written anew."""
        return {
            name: self.program.read(name).tobytes()
            for name in sorted(self.program.state_names())
            if not name.startswith("learning_rate")
        }

    def save(self, prefix: str) -> None:
        """``paddle.static.save``, and the scheduler beside it."""
        with paddle.static.scope_guard(self.program.scope):
            paddle.static.save(self.program.main, prefix)
        paddle.save(self.scheduler.state_dict(), f"{prefix}.scheduler")

    def load(self, prefix: str, done: int) -> ProgramTraining:
        """``paddle.static.load``."""
        for name in self.program.state_names():
            if self.program.scope.find_var(name) is None:  # Paddle's load makes none in PIR
                self.program.write(name, np.zeros(1, "float32"))
        with paddle.static.scope_guard(self.program.scope):
            paddle.static.load(self.program.main, prefix, self.program.executor)
        self.scheduler.set_state_dict(paddle.load(f"{prefix}.scheduler"))
        self.done = done
        return self


def _wide(dtype: str) -> str:
    return "float32" if dtype == "bfloat16" else dtype


def _bfloat16(values: Any) -> Any:
    """Bits of bfloat16, by cutting the rest off."""
    return (np.ascontiguousarray(values).view(np.uint32) >> 16).astype(np.uint16)


def resume_from_file(prefix: str, done: int, steps: int, out: str) -> None:
    """What a fresh process does: load, train on, save; with the startup program, and without."""
    paddle.enable_static()
    for startup in (False, True):
        with paddle.utils.unique_name.guard():
            training = ProgramTraining()
        if startup:
            training.start()
        training.load(prefix, done).train(steps)
        training.save(f"{out}{int(startup)}")
