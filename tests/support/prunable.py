"""Static programs to prune, built in whichever IR the process runs."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from typing import Any

import numpy as np
import paddle

import radam_codegen

IN_PIR = bool(paddle.get_flags("FLAGS_enable_pir_api")["FLAGS_enable_pir_api"])
FLOATS = np.float32


@dataclass
class Half:
    """A loss with its own parameters, feed, optimizer and scheduler."""

    name: str
    data: Any
    hidden: Any
    loss: Any
    scheduler: Any = None
    result: Any = None
    parameters: list[Any] = field(default_factory=list)

    @property
    def feed_name(self) -> str:
        return f"x_{self.name}"

    @property
    def ops(self) -> Any:
        return self.result[0]

    def forms(self) -> list[list[Any]]:
        """The three fetch lists that prune to this half."""
        return [[self.loss, self.result], [self.loss, self.ops], [self.result]]

    def weights(self, scope: Any) -> list[np.ndarray]:
        return [read(scope, f"{self.name}_{kind}") for kind in ("w", "b")]


@dataclass
class Programs:
    main: Any
    startup: Any
    halves: dict[str, Half]
    scope: Any = field(default_factory=paddle.static.Scope)
    executor: Any = field(default_factory=lambda: paddle.static.Executor(paddle.CPUPlace()))

    def start(self) -> Programs:
        self.executor.run(self.startup, scope=self.scope)
        return self

    def run(self, feed: Any = None, fetch_list: Any = None, **more: Any) -> Any:
        return self.executor.run(
            self.main, feed=feed, fetch_list=fetch_list, scope=self.scope, **more
        )

    def text(self) -> str:
        return text_of(self.main)


def text_of(program: Any) -> str:
    return str(program) if IN_PIR else program.to_string(throw_on_error=False)


def read(scope: Any, name: str) -> np.ndarray:
    return np.array(scope.find_var(name).get_tensor())


def batch(name: str, seed: int, rows: int = 5) -> np.ndarray:
    return (
        np.random.default_rng([seed, len(name), ord(name[0])])
        .standard_normal((rows, 4))
        .astype(FLOATS)
    )


def feed_of(names: Sequence[str], seed: int) -> dict[str, np.ndarray]:
    return {f"x_{name}": batch(name, seed) for name in names}


def dense(x: Any, name: str, size: int = 3) -> tuple[Any, list[Any]]:
    """A layer with parameters ``<name>_w`` and ``<name>_b`` of known first values."""

    def attr(kind: str, scale: float) -> Any:
        fill = np.linspace(-scale, scale, 4 * size if kind == "w" else size).astype(FLOATS)
        initial = paddle.nn.initializer.Assign(fill.reshape(4, size) if kind == "w" else fill)
        return paddle.ParamAttr(name=f"{name}_{kind}", initializer=initial)

    layer = paddle.nn.Linear(4, size, weight_attr=attr("w", 1.0), bias_attr=attr("b", 0.3))
    return layer(x), [layer.weight, layer.bias]


def state(name: str, value: float) -> Any:
    """A persistable variable of shape [1] that the startup program initializes."""
    if not IN_PIR:
        return paddle.static.create_global_var([1], value, "float32", True, name=name)
    initial = paddle.nn.initializer.Constant(value)
    return paddle.pir.core.create_persistable_value(
        shape=[1], dtype="float32", name=name, initializer=initial
    )


def adam(scheduler: Any, parameters: Any) -> Any:
    """A native optimizer with all that comes between gradients and update."""
    return paddle.optimizer.Adam(
        scheduler,
        parameters=parameters,
        weight_decay=0.1,
        grad_clip=paddle.nn.ClipGradByNorm(0.1),
    )


def radam(scheduler: Any, parameters: Any) -> Any:
    """Ours, with all that it does inside its one op."""
    return radam_codegen.RAdam(
        scheduler,
        parameters=parameters,
        weight_decay=0.1,
        grad_clip=paddle.nn.ClipGradByGlobalNorm(0.1),
    )


def build(
    names: Sequence[str],
    optimizer: Callable[[Any, Any], Any] | None = adam,
    rates: Callable[[str], Any] = lambda name: 0.1,
    activation: Callable[[Any], Any] = lambda y: y,
) -> Programs:
    """One half per name in one pair of programs; ``optimizer`` None: losses only."""
    main, startup = paddle.static.Program(), paddle.static.Program()
    halves: dict[str, Half] = {}
    with paddle.static.program_guard(main, startup), paddle.utils.unique_name.guard():
        for name in names:
            data = paddle.static.data(f"x_{name}", [None, 4], "float32")
            hidden, parameters = dense(data, name)
            hidden = activation(hidden)
            loss = paddle.mean(paddle.square(hidden))
            halves[name] = Half(name, data, hidden, loss, parameters=parameters)
        for half in halves.values() if optimizer is not None else ():
            half.scheduler = rates(half.name)
            # State of equal names wherever the half stands, so that programs can be compared.
            with paddle.utils.unique_name.guard(f"{half.name}_"):
                half.result = optimizer(half.scheduler, half.parameters).minimize(half.loss)
    return Programs(main, startup, halves)


def append_op(programs: Programs) -> None:
    """Change the main program in a way that no target needs."""
    with paddle.static.program_guard(programs.main, programs.startup):
        half = next(iter(programs.halves.values()))
        paddle.mean(half.data)


def op_names(program: Any) -> list[str]:
    ops = program.global_block().ops
    return [op.name() if IN_PIR else op.type for op in ops]
