"""Static programs that only apply given gradients: all that a run does is the step."""

from __future__ import annotations

from typing import Any

from .contestant import Arrays, Contestant
from .paddle_optimizer import make_optimizer
from .workload import Workload

__all__ = ["make"]


def make(workload: Workload, options: dict[str, Any]) -> Contestant:
    """Make one.

    Args:
        workload: What to step.
        options: ``optimizer``: ``"ours"``, ``"native"``, ``"skipped"`` for ours with every step
            skipped, ``"none"`` for the same program without an optimizer, or ``"one-op"`` for that
            with one small operator.
    """
    return _StaticSteps(workload, options["optimizer"])


class _StaticSteps(Contestant):
    def __init__(self, workload: Workload, kind: str) -> None:
        import paddle

        paddle.enable_static()
        self._main, startup = paddle.static.Program(), paddle.static.Program()
        self._scope = paddle.static.Scope()
        self._executor = paddle.static.Executor(paddle.CPUPlace())
        self._shapes = workload.shapes
        with paddle.static.program_guard(self._main, startup):
            pairs = [
                (_parameter(paddle, index, shape), _gradient(paddle, index, shape))
                for index, shape in enumerate(workload.shapes)
            ]
            self._optimizer = make_optimizer("ours" if kind == "skipped" else kind, workload)
            if kind == "skipped":
                self._optimizer._set_auxiliary_var("found_inf", _always(paddle))
            if kind == "one-op":
                paddle.increment(_gradient(paddle, len(pairs), (1,)))
            elif self._optimizer is not None:
                self._optimizer.apply_gradients(pairs)
        self._executor.run(startup, scope=self._scope)
        for index in range(len(workload.shapes)):
            self._tensor(f"w_{index}").set(workload.parameter(index), paddle.CPUPlace())
            self._tensor(f"g_{index}").set(workload.gradient(index), paddle.CPUPlace())
        self._has_state = kind == "ours"

    def step(self) -> None:
        self._executor.run(self._main, scope=self._scope)

    def arrays(self) -> list[Arrays]:
        if not self._has_state:
            return []
        # Held on to, should these be copies: the addresses must stay good.
        self._state = self._optimizer.state_dict(scope=self._scope)
        return [
            Arrays(
                self._tensor(f"w_{index}")._ptr(),
                self._tensor(f"g_{index}")._ptr(),
                self._state[f"w_{index}_moment1_0"]._ptr(),
                self._state[f"w_{index}_moment2_0"]._ptr(),
                self._numel(index),
            )
            for index in range(len(self._shapes))
        ]

    def state_bytes(self) -> int:
        # Parameters are none of the optimizer's; gradients are given by hand here.
        others = {f"{kind}_{index}" for index in range(len(self._shapes)) for kind in "wg"}
        names = set(self._main.state_dict("all", self._scope)) - others
        return sum(
            _nbytes(self._tensor(name)) for name in names if not name.startswith("learning_rate")
        )

    def _tensor(self, name: str) -> Any:
        return self._scope.find_var(name).get_tensor()

    def _numel(self, index: int) -> int:
        numel = 1
        for extent in self._shapes[index]:
            numel *= extent
        return numel


def _nbytes(tensor: Any) -> int:
    import numpy as np

    return int(np.asarray(tensor).nbytes)


def _parameter(paddle: Any, index: int, shape: tuple[int, ...]) -> Any:
    zero = paddle.nn.initializer.Constant(0.0)
    return paddle.create_parameter(
        list(shape), "float32", name=f"w_{index}", default_initializer=zero
    )


def _always(paddle: Any) -> Any:
    """A flag that is set, in the legacy IR."""
    return paddle.static.create_global_var([1], True, "bool", persistable=True, name="always")


def _gradient(paddle: Any, index: int, shape: tuple[int, ...]) -> Any:
    """A variable that keeps its value from run to run."""
    if not paddle.framework.in_pir_mode():
        return paddle.static.create_global_var(
            list(shape), 0.0, "float32", persistable=True, name=f"g_{index}"
        )
    return paddle.pir.core.create_persistable_value(
        shape=list(shape),
        dtype="float32",
        name=f"g_{index}",
        initializer=paddle.nn.initializer.Constant(0.0),
    )
