"""Steps in Paddle's dynamic graph."""

from __future__ import annotations

from typing import Any

from .contestant import Arrays, Contestant
from .paddle_optimizer import make_optimizer
from .workload import Workload

__all__ = ["make"]


def make(workload: Workload, options: dict[str, Any]) -> Contestant:
    """Make one; ``options["optimizer"]`` is ``"ours"`` or ``"native"``."""
    return _DynamicSteps(workload, options["optimizer"])


class _DynamicSteps(Contestant):
    def __init__(self, workload: Workload, kind: str) -> None:
        import paddle

        self._parameters = []
        for index, shape in enumerate(workload.shapes):
            parameter = paddle.create_parameter(list(shape), "float32", name=f"w_{index}")
            parameter.set_value(workload.parameter(index))
            parameter.grad = paddle.to_tensor(workload.gradient(index))
            self._parameters.append(parameter)
        self._optimizer = make_optimizer(kind, workload, self._parameters)
        self._has_state = kind == "ours"

    def step(self) -> None:
        self._optimizer.step()

    def arrays(self) -> list[Arrays]:
        if not self._has_state:
            return []
        # Held on to, should these be copies: the addresses must stay good.
        self._state = self._optimizer.state_dict()
        return [
            Arrays(
                each.data_ptr(),
                each.grad.data_ptr(),
                self._state[f"{each.name}_moment1_0"].data_ptr(),
                self._state[f"{each.name}_moment2_0"].data_ptr(),
                each.size,
            )
            for each in self._parameters
        ]

    def state_bytes(self) -> int:
        tensors = self._optimizer.state_dict().values()
        return sum(each.size * each.element_size() for each in tensors if hasattr(each, "size"))
