"""Small static programs, built by a function and run in a scope of their own."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np
import paddle

__all__ = ["SmallProgram", "parameter"]

Array = np.ndarray[Any, np.dtype[Any]]


def parameter(
    name: str,
    shape: tuple[int, ...] = (3,),
    value: float = 0.5,
    dtype: str = "float32",
    **options: Any,
) -> Any:
    """Create a parameter that starts at ``value``, static or dynamic; options of ``ParamAttr``."""
    attr = paddle.ParamAttr(name=name, initializer=paddle.nn.initializer.Constant(value), **options)
    return paddle.create_parameter(list(shape), dtype, attr=attr)


class SmallProgram:
    """A main and a startup program.

    Args:
        build: called while both are current; what it returns is kept as ``result``.
    """

    def __init__(self, build: Callable[[], Any]) -> None:
        self.main, self.startup = paddle.static.Program(), paddle.static.Program()
        self.scope = paddle.static.Scope()
        self.executor = paddle.static.Executor(paddle.CPUPlace())
        guard = paddle.static.program_guard(self.main, self.startup)
        with paddle.utils.unique_name.guard(), guard:
            self.result = build()

    def start(self) -> SmallProgram:
        """Run the startup program."""
        with paddle.static.scope_guard(self.scope):
            self.executor.run(self.startup)
        return self

    def run(self, fetch_list: Any = None, program: Any = None, **feed: Any) -> list[Any]:
        """Run the main program, or another one, once."""
        # Not as an argument: native optimizers' schedulers write into the current scope only.
        with paddle.static.scope_guard(self.scope):
            results: list[Any] = self.executor.run(
                program or self.main,
                feed={name: np.asarray(value) for name, value in feed.items()},
                fetch_list=fetch_list,
            )
        return results

    def read(self, name: str) -> Array:
        """The value of a variable in the scope."""
        return np.array(self.scope.find_var(name).get_tensor())

    def has(self, name: str) -> bool:
        """Whether the scope knows a variable."""
        return self.scope.find_var(name) is not None
