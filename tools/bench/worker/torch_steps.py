"""Steps of torch's optimizers."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from .contestant import Contestant
from .workload import Workload

__all__ = ["make"]


def make(workload: Workload, options: dict[str, Any]) -> Contestant:
    """Make one.

    Args:
        workload: What to step.
        options: ``optimizer``: ``"radam"`` (foreach), ``"radam-compiled"`` or ``"adam-fused"``.
    """
    return _TorchSteps(workload, options["optimizer"])


class _TorchSteps(Contestant):
    def __init__(self, workload: Workload, kind: str) -> None:
        import torch

        torch.set_num_threads(workload.threads)
        parameters = []
        for index in range(len(workload.shapes)):
            # Copies: in torch's own memory, whose pages are smaller than those of NumPy.
            parameter = torch.nn.Parameter(torch.from_numpy(workload.parameter(index)).clone())
            parameter.grad = torch.from_numpy(workload.gradient(index)).clone()
            parameters.append(parameter)
        numbers = {
            "lr": workload.learning_rate,
            "betas": (workload.beta1, workload.beta2),
            "eps": workload.epsilon,
            "weight_decay": workload.weight_decay or 0.0,
        }
        if kind == "adam-fused":
            optimizer: Any = torch.optim.Adam(parameters, fused=True, **numbers)
        else:
            optimizer = torch.optim.RAdam(parameters, foreach=True, **numbers)
        norm = workload.clip_norm

        def step() -> None:
            if norm is not None:
                torch.nn.utils.clip_grad_norm_(parameters, norm, foreach=True)
            optimizer.step()

        self._step: Callable[[], None] = torch.compile(step) if kind == "radam-compiled" else step

    def step(self) -> None:
        self._step()
