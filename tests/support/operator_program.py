"""A program of one step operator whose gradients are fed: no optimizer, no generator."""

from __future__ import annotations

import inspect
from typing import Any

import numpy as np
import paddle

from radam_codegen.config import current
from radam_codegen.program.emit_ops import emit_build, emit_step
from radam_codegen.program.operator import ensure_operator
from radam_codegen.runtime import GroupNumbers, OperatorLibrary, TensorNumbers, load_kernel
from radam_codegen.toolchain import build_kernel
from support.hand_written import HAND_WRITTEN_CLASSES, hand_written_source

IN_PIR = bool(paddle.get_flags("FLAGS_enable_pir_api")["FLAGS_enable_pir_api"])


def _run(executor: Any, *arguments: Any, **options: Any) -> None:
    """Run as Paddle does, also where other tests have put our hook in place."""
    inspect.unwrap(paddle.static.Executor.run)(executor, *arguments, **options)


class Registry:
    """Builds and registers groups of the hand-written kernel; what the real glue does."""

    def __init__(self) -> None:
        self.groups: dict[int, tuple[GroupNumbers, list[TensorNumbers]]] = {}
        self.calls: list[tuple[int, str]] = []
        self.failure: BaseException | None = None
        self.library: OperatorLibrary = ensure_operator(self.build)

    def build(self, key: int, launch: str) -> None:
        self.calls.append((key, launch))
        if self.failure is not None:
            raise self.failure
        kernel = load_kernel(build_kernel(hand_written_source(), current()).library)
        numbers, tensor_numbers = self.groups[key]
        self.library.register(key, kernel, numbers, tensor_numbers, HAND_WRITTEN_CLASSES)


def create_variable(name: str, shape: list[int], dtype: str, value: float) -> Any:
    """A persistable variable that the startup program initializes."""
    if IN_PIR:
        return paddle.pir.core.create_persistable_value(
            shape=shape,
            dtype=dtype,
            name=name,
            initializer=paddle.nn.initializer.Constant(value),
        )
    return paddle.static.create_global_var(shape, value, dtype, persistable=True, name=name)


class GroupProgram:
    """A main and a startup program with one group; ``step`` feeds gradients and runs it once."""

    def __init__(
        self,
        registry: Registry,
        shapes: list[list[int]],
        dtypes: list[str] | None = None,
        *,
        key: int,
        launch: str = "launch",
        lr_dtype: str = "float32",
        lr: float = 0.5,
        clip_bound: float = 0.0,
        master: bool = False,
        found_inf: bool = False,
        register: bool = True,
    ) -> None:
        self.shapes = shapes
        self.dtypes = dtypes or ["float32"] * len(shapes)
        self.scope = paddle.static.Scope()
        self.executor = paddle.static.Executor(paddle.CPUPlace())
        self.main, self.startup = paddle.static.Program(), paddle.static.Program()
        self.prefix = f"g{key & 0xFFFF}"
        if register:
            registry.groups[key] = (
                GroupNumbers(0.9, 0.999, 1e-8, clip_bound=clip_bound),
                [
                    TensorNumbers(body=int(dtype == "float64"), master=master)
                    for dtype in self.dtypes
                ],
            )
        with paddle.static.program_guard(self.main, self.startup):
            params, grads, moment1s, moment2s, masters = [], [], [], [], []
            for i, (shape, dtype) in enumerate(zip(self.shapes, self.dtypes)):
                attr = paddle.ParamAttr(
                    name=f"{self.prefix}_p{i}", initializer=paddle.nn.initializer.Constant(1.0)
                )
                params.append(paddle.create_parameter(shape, dtype, attr=attr))
                grads.append(paddle.static.data(f"{self.prefix}_grad{i}", shape, dtype))
                moment1s.append(create_variable(f"{self.prefix}_m{i}", shape, dtype, 0.0))
                moment2s.append(create_variable(f"{self.prefix}_v{i}", shape, dtype, 0.0))
                if master:
                    masters.append(create_variable(f"{self.prefix}_w{i}", shape, "float32", 0.0))
            step = create_variable(f"{self.prefix}_step", [len(shapes)], "int64", 0.0)
            rate = create_variable(f"{self.prefix}_lr", [1], lr_dtype, lr)
            flag = paddle.static.data("found_inf", [1], "bool") if found_inf else None
        self.build_op = emit_build(self.startup, step, key, launch)
        self.step_op = emit_step(
            self.main,
            params,
            grads,
            moment1s,
            moment2s,
            step,
            rate,
            master=masters if master else None,
            found_inf=flag,
            key=key,
            launch=launch,
        )

    def run_startup(self) -> None:
        with paddle.static.scope_guard(self.scope):
            _run(self.executor, self.startup)

    def step(self, grads: list[Any], found_inf: bool | None = None) -> None:
        feed = {f"{self.prefix}_grad{i}": grad for i, grad in enumerate(grads)}
        if found_inf is not None:
            feed["found_inf"] = np.array([found_inf])
        with paddle.static.scope_guard(self.scope):
            _run(self.executor, self.main, feed=feed, fetch_list=[])

    def read(self, name: str) -> Any:
        return np.array(self.scope.find_var(f"{self.prefix}_{name}").get_tensor())

    def write(self, name: str, value: Any) -> None:
        self.scope.var(f"{self.prefix}_{name}").get_tensor().set(value, paddle.CPUPlace())
