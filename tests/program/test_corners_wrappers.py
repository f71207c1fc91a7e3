"""Optimizers of Paddle that wrap another one, in static programs."""

from __future__ import annotations

from typing import Any

import numpy as np
import paddle
import pytest
from support.small_programs import SmallProgram, parameter
from support.static_programs import IN_PIR

import radam_codegen as rc

pytestmark = pytest.mark.usefixtures("static_mode")

STEPS = 10


def assert_as_native(wrap: Any) -> None:
    def build(optimizer: Any) -> None:
        x = paddle.static.data("x", [3], "float32")
        wrap(optimizer(0.05)).minimize(paddle.mean(x * parameter("weight") ** 2))

    ours = SmallProgram(lambda: build(rc.RAdam)).start()
    native = SmallProgram(lambda: build(paddle.optimizer.RAdam)).start()
    for step in range(STEPS):
        x = np.array([1.0, 2.0, 3.0 - step], "float32")
        for program in (ours, native):
            program.run(x=x)
        np.testing.assert_allclose(
            ours.read("weight"), native.read("weight"), 2e-5, 2e-6, err_msg=f"step {step}"
        )


def test_look_ahead() -> None:
    assert_as_native(lambda inner: paddle.incubate.optimizer.LookAhead(inner, alpha=0.5, k=3))


@pytest.mark.skipif(IN_PIR, reason="Paddle has GradientMergeOptimizer in the legacy IR only")
@pytest.mark.parametrize("average", [True, False])
def test_gradient_merge(average: bool) -> None:
    merge = paddle.incubate.optimizer.GradientMergeOptimizer
    assert_as_native(lambda inner: merge(inner, k_steps=3, avg=average))
