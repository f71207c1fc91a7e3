"""Static programs that do nothing but updates, by gradients that lie in their scope."""

from __future__ import annotations

from typing import Any

import numpy as np
import paddle

import radam_codegen as rc
from support.static_programs import IN_PIR

__all__ = ["LyingGradients"]

_NUMEL = 3


class LyingGradients:
    """Parameters ``p0``, ``p1``, ... of three ones, whose gradients ``g0``, ``g1``, ... are ones.

    Args:
        count: how many parameters there are.
        options: of the optimizer.
    """

    def __init__(self, count: int, **options: Any) -> None:
        self.main, self.startup = paddle.static.Program(), paddle.static.Program()
        self.scope = paddle.static.Scope()
        self.executor = paddle.static.Executor(paddle.CPUPlace())
        ones = paddle.nn.initializer.Constant(1.0)
        with paddle.static.program_guard(self.main, self.startup):
            self.params = [
                paddle.create_parameter(
                    [_NUMEL], "float32", name=f"p{index}", default_initializer=ones
                )
                for index in range(count)
            ]
            pairs = [(each, _lying(f"g{index}", ones)) for index, each in enumerate(self.params)]
            self.optimizer = rc.RAdam(0.1, **options)
            self.optimizer.apply_gradients(pairs)
        self.executor.run(self.startup, scope=self.scope)

    def step(self, **arguments: Any) -> Any:
        """Run the program once; arguments go to ``Executor.run``."""
        return self.executor.run(self.main, scope=self.scope, **arguments)

    def read(self, name: str) -> Any:
        return np.array(self.scope.find_var(name).get_tensor())


def _lying(name: str, ones: Any) -> Any:
    if IN_PIR:
        return paddle.pir.core.create_persistable_value(
            shape=[_NUMEL], dtype="float32", name=name, initializer=ones
        )
    return paddle.static.create_global_var([_NUMEL], 1.0, "float32", persistable=True, name=name)
