"""Lowering of programs of a size that people train."""

from __future__ import annotations

import math
from collections.abc import Callable
from typing import Any

import paddle
import pytest
from support.static_programs import IN_PIR

import radam_codegen as rc
from radam_codegen.program.lowering import step_times

pytestmark = pytest.mark.usefixtures("static_mode")


def resnet() -> Any:
    x = paddle.static.data("x", [1, 3, 64, 64], "float32")
    return paddle.vision.models.resnet50()(x)


def bert() -> Any:
    """The encoder of BERT-base."""
    x = paddle.static.data("x", [1, 16, 768], "float32")
    layer = paddle.nn.TransformerEncoderLayer(768, 12, 3072, activation="gelu")
    return paddle.nn.TransformerEncoder(layer, 12)(x)


@pytest.mark.parametrize(
    ("model", "parameters", "elements"),
    [
        (resnet, 161, 25_557_032),
        pytest.param(
            bert,
            192,
            85_054_464,
            marks=pytest.mark.skipif(
                not IN_PIR, reason="Paddle's attention cannot be built in the legacy IR"
            ),
        ),
    ],
)
def test_every_update_is_fused(
    model: Callable[[], Any], parameters: int, elements: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    # Each step takes a second; nobody looks at how long they take here.
    monkeypatch.setattr(step_times, "WARM_UP", 0)
    clips = paddle.nn.ClipGradByGlobalNorm if IN_PIR else paddle.nn.ClipGradByNorm
    main, startup = paddle.static.Program(), paddle.static.Program()
    with paddle.static.program_guard(main, startup), paddle.utils.unique_name.guard():
        loss = paddle.mean(model() ** 2)
        paddle.optimizer.RAdam(1e-4, weight_decay=0.01, grad_clip=clips(1.0)).minimize(loss)
    report = rc.lower(main, startup, scope=paddle.static.Scope(), time_steps=1)
    assert len(report.steps) == 1
    assert report.matched == parameters
    assert not report.left
    assert not report.steps[0].notes
    assert report.state.before == 5 * 4 * elements
    assert report.state.after == 2 * 4 * elements + 8 * parameters
    assert report.traffic.before == (13 + 5 + 3) * 4 * elements
    assert report.traffic.after == 8 * 4 * elements
    times = report.step_seconds
    assert times is not None
    assert times.repeats == 1
    assert all(math.isfinite(each) and each > 0 for each in (times.before, times.after))
    assert f"\nstep: {times}\n" in str(report)
