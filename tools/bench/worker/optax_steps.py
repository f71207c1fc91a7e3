"""Steps of optax, jitted as a whole, with parameters and state donated."""

from __future__ import annotations

from typing import Any

from .contestant import Contestant
from .workload import Workload

__all__ = ["make"]


def make(workload: Workload, options: dict[str, Any]) -> Contestant:
    """Make one; there are no options."""
    return _OptaxSteps(workload)


class _OptaxSteps(Contestant):
    def __init__(self, workload: Workload) -> None:
        import jax
        import optax

        parts = []
        if workload.clip_norm is not None:
            parts.append(optax.clip_by_global_norm(workload.clip_norm))
        if workload.weight_decay is not None:
            parts.append(optax.add_decayed_weights(workload.weight_decay))
        parts.append(
            optax.radam(workload.learning_rate, workload.beta1, workload.beta2, workload.epsilon)
        )
        optimizer = optax.chain(*parts)

        def step(parameters: Any, state: Any, gradients: Any) -> tuple[Any, Any]:
            updates, state = optimizer.update(gradients, state, parameters)
            return optax.apply_updates(parameters, updates), state

        count = range(len(workload.shapes))
        self._parameters = [jax.device_put(workload.parameter(index)) for index in count]
        self._gradients = [jax.device_put(workload.gradient(index)) for index in count]
        self._state = optimizer.init(self._parameters)
        self._jitted = jax.jit(step, donate_argnums=(0, 1))
        self._wait = jax.block_until_ready

    def step(self) -> None:
        self._parameters, self._state = self._jitted(self._parameters, self._state, self._gradients)
        self._wait((self._parameters, self._state))
