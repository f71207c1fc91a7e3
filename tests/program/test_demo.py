"""The demo trains a real network with both optimizers, in the IR that this process is set to."""

from __future__ import annotations

import os

import numpy as np
import pytest

from radam_codegen.tools.demo.run import DemoResult, run_demo


@pytest.fixture(scope="module")
def result() -> DemoResult:
    return run_demo(epochs=12)  # two thirds of what users get


def test_runs_in_the_ir_that_was_asked_for(result: DemoResult) -> None:
    asked = "legacy" if os.environ.get("FLAGS_enable_pir_api") == "0" else "pir"
    assert result.ir == asked


def test_recognises_the_digits(result: DemoResult) -> None:
    assert result.native.epochs[-1].accuracy >= 0.97
    assert result.generated.epochs[-1].accuracy >= 0.97


def test_starts_where_native_starts(result: DemoResult) -> None:
    assert result.initial_difference == 0.0


def test_learns_what_native_learns(result: DemoResult) -> None:
    native = [epoch.loss for epoch in result.native.epochs]
    generated = [epoch.loss for epoch in result.generated.epochs]
    np.testing.assert_allclose(generated, native, rtol=1e-4)
    assert result.largest_difference <= 5e-5
    assert result.agrees


def test_keeps_eight_bytes_of_state_per_element(result: DemoResult) -> None:
    tensors = 6
    # The ten biases of the last layer end amid a line of the cache, on which its weights begin.
    padding = 2 * 4 * (16 - 10)
    assert result.native.state_bytes == 20 * result.parameter_count
    assert result.generated.state_bytes == 8 * result.parameter_count + padding + 8 * tensors


def test_starts_faster_when_warm(result: DemoResult) -> None:
    startup = result.startup
    assert startup is not None
    assert startup.warm < startup.cold


def test_shows_the_source_that_ran(result: DemoResult) -> None:
    (source,) = result.sources
    assert source.language == "c"
    with open(source.path, encoding="utf-8", newline="") as file:
        assert file.read() == source.text
