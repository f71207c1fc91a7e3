"""Step counts from the numbers that native RAdam keeps in their place."""

from __future__ import annotations

import math

import numpy as np
import paddle
import pytest

from radam_codegen.program.checkpoint_native import native_power, native_rho, recover_step

BETAS = (0.1, 0.5, 0.9, 0.99, 0.999, 0.9999)
DTYPES = ("float32", "float64")


def recover(step: int, beta1: float, beta2: float, dtype: str = "float32") -> int:
    kind = np.dtype(dtype).type
    return recover_step(
        native_power(beta1, step, dtype),
        native_power(beta2, step, dtype),
        float(kind(native_rho(beta2, step))),
        beta1,
        beta2,
        dtype,
    )


def limit(beta: float, dtype: str) -> int:
    """The last step at which a power is a normal number."""
    return int(math.log(np.finfo(dtype).tiny) / math.log(np.float32(beta)))


@pytest.mark.parametrize("dtype", DTYPES)
@pytest.mark.parametrize("beta2", [0.5, 0.9, 0.999])
def test_the_powers_are_what_native_has(beta2: float, dtype: str) -> None:
    param = paddle.create_parameter([2], dtype)
    optimizer = paddle.optimizer.RAdam(0.0, beta1=0.8, beta2=beta2, parameters=[param])
    for step in range(1, 301):
        param.grad = paddle.ones([2], dtype)
        optimizer.step()
        if step in (1, 2, 7, 100, 300):
            state = {
                kind: tensor.numpy()[0]
                for key, tensor in optimizer.state_dict().items()
                for kind in ("beta1_pow", "beta2_pow", "rho")
                if f"_{kind}_" in key
            }
            assert state["beta1_pow"] == native_power(0.8, step, dtype)
            assert state["beta2_pow"] == native_power(beta2, step, dtype)
            np.testing.assert_allclose(state["rho"], native_rho(beta2, step), rtol=2e-4, atol=1e-37)
            numbers = (float(state[kind]) for kind in ("beta1_pow", "beta2_pow", "rho"))
            assert recover_step(*numbers, 0.8, beta2, dtype) == step


@pytest.mark.parametrize("dtype", DTYPES)
@pytest.mark.parametrize("beta2", BETAS)
def test_exact_as_long_as_beta2_pow_is_normal(beta2: float, dtype: str) -> None:
    last = limit(beta2, dtype)
    steps = {1, 2, 3, 5, 6, 100, 1000, 65536, 123457, last // 2, last - 1, last}
    for step in sorted(step for step in steps if 0 < step <= min(last, 1_000_000)):
        assert recover(step, 0.9, beta2, dtype) == step


@pytest.mark.parametrize("step", [300_000, 1_000_000])
def test_exact_where_rounding_would_mislead_a_logarithm(step: int) -> None:
    beta2 = 0.99999
    by_logarithm = math.log(native_power(beta2, step, "float32")) / math.log(np.float32(beta2))
    assert abs(by_logarithm - step) > 1
    assert recover(step, 0.9, beta2) == step


def test_beta1_pow_tells_where_beta2_pow_has_vanished() -> None:
    step = limit(0.9, "float32") + 500
    assert recover(step, 0.99, 0.9) == step
    assert recover(1, 0.9, 0.0) == 1
    assert recover(77, 0.9, 0.0) == 77


@pytest.mark.parametrize(("beta1", "beta2"), [(0.9, 0.999), (0.9, 0.9), (0.0, 0.9), (0.5, 0.0)])
def test_beyond_it_is_the_least_that_it_can_be(beta1: float, beta2: float) -> None:
    last = max(limit(beta, "float32") for beta in (beta1, beta2) if beta > 0)
    for step in (last + 1, 3 * last):
        assert recover(step, beta1, beta2) == last + 1
    # From there on the count makes no difference: what it enters by is nothing beside 1.
    assert 1.0 - max(beta1, beta2) ** (last + 1) == 1.0
    assert native_rho(max(beta1, beta2), last + 1) < 1e-30


def test_two_zeros_are_one_step() -> None:
    assert recover(1, 0.0, 0.0) == 1


@pytest.mark.parametrize(
    ("step", "beta1", "made_with", "off"),
    [
        (1, 0.9, 0.9, 0),
        (2, 0.9, 0.9999, 0),
        (500, 0.9, 0.9999, 0),  # exact by beta1_pow
        (10, 0.0, 0.9, 0),  # exact as an integer
        (20_000, 0.9, 0.9999, 5),  # beta1_pow has vanished
    ],
)
def test_made_with_another_beta2(step: int, beta1: float, made_with: float, off: int) -> None:
    beta1_pow = native_power(beta1, step, "float32")
    beta2_pow = native_power(made_with, step, "float32")
    rho = float(np.float32(native_rho(made_with, step)))
    found = recover_step(beta1_pow, beta2_pow, rho, beta1, 0.999, "float32")
    assert abs(found - step) <= off


def test_powers_that_were_not_multiplied_up_as_native_does() -> None:
    for step in (1, 10, 1000, 20_000):
        power = float(np.float32(0.999**step))
        assert recover_step(0.0, power, native_rho(0.999, step), 0.9, 0.999, "float32") == step


def test_nothing_before_the_first_step() -> None:
    assert recover_step(1.0, 1.0, 1.0, 0.9, 0.999, "float32") == 0
    assert native_rho(0.999, 0) == 1.0
    assert native_power(0.999, 0, "float32") == 1.0


@pytest.mark.parametrize(
    ("beta1_pow", "beta2_pow", "rho"),
    [
        (0.9, 1.5, 1.0),
        (0.9, -0.1, 1.0),
        (0.9, math.nan, 1.0),
        (math.inf, 0.999, 999.0),
        (0.9, 0.999, math.nan),
        (0.9, 0.999, math.inf),
        (0.9, 0.999, -5.0),
        (0.9, 0.123, 0.456),
        (0.729, 0.123, 998.0),  # rho says 7,115.7 steps, beta1_pow 3
        (1.0, 0.0, 0.0),
        (0.0, 1.0, 1.0),
    ],
)
def test_what_no_number_of_steps_leads_to(beta1_pow: float, beta2_pow: float, rho: float) -> None:
    with pytest.raises(ValueError, match="pow is"):
        recover_step(beta1_pow, beta2_pow, rho, 0.9, 0.999, "float32")
