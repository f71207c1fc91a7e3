"""Step counts from the numbers that native RAdam keeps in their place."""

from __future__ import annotations

import math
from collections.abc import Iterator
from decimal import MAX_EMAX, MIN_EMIN, Context, Decimal, localcontext
from typing import Any

import numpy as np
import paddle
import pytest

from radam_codegen.program.checkpoint_native import native_power, native_rho, recover_step
from radam_codegen.program.float32_powers import Float32Power

BETAS = (0.1, 0.5, 0.9, 0.99, 0.999, 0.9999)
#: In float32 these are a few units in the last place below 1.
NEAR_ONE = (0.99999, 1 - 1e-6, 1 - 1e-7, 1 - 2.0**-24)
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


@pytest.mark.parametrize("dtype", DTYPES)
@pytest.mark.parametrize("beta2", NEAR_ONE)
def test_native_with_a_beta2_near_one(beta2: float, dtype: str) -> None:
    param = paddle.create_parameter([1], dtype)
    optimizer = paddle.optimizer.RAdam(0.0, beta1=0.8, beta2=beta2, parameters=[param])
    for step in range(1, 1501):
        param.grad = paddle.ones([1], dtype)
        optimizer.step()
        if step < 9 or step in (100, 390, 400, 1000, 1500):  # 0.8^392 has vanished in float32
            found = native_numbers(optimizer)
            assert found[0] == native_power(0.8, step, dtype)
            assert found[1] == native_power(beta2, step, dtype)
            assert recover_step(*found, 0.8, beta2, dtype) == step
            # Also without the help of beta1, by rho alone.
            assert recover_step(0.0, *found[1:], 0.0, beta2, dtype) == step


def native_steps(beta2: float, steps: list[int], dtype: str) -> Iterator[tuple[int, float, float]]:
    """Step, ``beta2_pow`` and ``rho``, by the operations of Paddle's kernel in its type."""
    kind = np.dtype(dtype).type
    base, one = kind(np.float32(beta2)), kind(1)
    power, rho = one, one
    for step in range(1, max(steps) + 1):
        power = power * base
        rho = (rho * (base - power) + power) / (one - power)
        if step in steps:
            yield step, float(power), float(rho)


@pytest.mark.parametrize(
    ("beta2", "steps"),
    [
        (1 - 1e-6, [1000, 32_768, 32_769, 200_000]),
        (1 - 1e-7, [1000, 100_000]),
        (1 - 2.0**-24, [1000, 1_500_000]),
    ],
)
def test_native_s_own_numbers_go_another_way_there(beta2: float, steps: list[int]) -> None:
    apart = []
    for step, power, rho in native_steps(beta2, steps, "float32"):
        assert power == native_power(beta2, step, "float32")
        assert recover_step(0.0, power, rho, 0.9, beta2, "float32") == step
        # What is written for the same step is what rho means, and is read as that step, too.
        assert recover(step, 0.9, beta2) == step
        apart.append(abs(rho * (1 - power) / power / step - 1))
    assert max(apart) > 5e-3  # as a count


@pytest.mark.parametrize("dtype", DTYPES)
@pytest.mark.parametrize("beta2", [0.999999, 1 - 1e-7, 1 - 2.0**-24])
@pytest.mark.parametrize("step", [1_000_000, 50_000_000, 600_000_000])
def test_far_along_with_a_beta2_near_one(step: int, beta2: float, dtype: str) -> None:
    if native_power(beta2, step, dtype) >= np.finfo(dtype).tiny:
        assert recover(step, 0.9, beta2, dtype) == step
    else:
        assert recover(step, 0.9, beta2, dtype) <= step


@pytest.mark.parametrize(
    "base", [1 - 2.0**-24, 1 - 2.0**-23, 1 - 87 * 2.0**-24, 0.99, 0.9, 0.77, 0.5]
)
def test_leaps_land_where_single_steps_do(base: float) -> None:
    factor = np.float32(base)
    steps = min(2_000_000, int(110 / (1 - factor)))  # beyond the smallest normal number
    powers = np.multiply.accumulate(np.full(steps, factor))
    power, leaps = Float32Power(float(factor)), 0
    while power.step < steps and power.leap(steps - power.step):
        assert power.value == powers[power.step - 1]
        leaps += 1
    assert power.value == powers[-1]
    assert leaps < steps
    for step in np.random.default_rng(1).integers(1, steps, 20):
        bound = float(powers[step - 1])
        power = Float32Power(float(factor))
        while power.value > bound:
            assert power.leap(1 << 60, bound)
        assert power.value == bound
        assert power.step == 1 + int(np.argmax(powers <= bound))


def test_a_power_that_rounding_keeps_from_falling() -> None:
    beta2 = 1 - 2.0**-24
    assert native_power(beta2, 10**10, "float32") == np.finfo("float32").tiny
    # 126 binades of 2^23 steps: from there on the power says no more than "at least".
    assert recover(10**10, 0.9, beta2) == 126 << 23


@pytest.mark.parametrize("beta", [0.0, 0.1, 0.5, 0.9, 0.999])
def test_a_power_falls_no_more_at_some_time(beta: float) -> None:
    last = float(np.multiply.accumulate(np.full(300_000, np.float32(beta)))[-1])
    for step in (300_000, 10**9):
        assert native_power(beta, step, "float32") == last
    assert native_power(beta, 10**9, "float64") == 0.0


@pytest.mark.parametrize("beta2", [0.0, 0.5, 0.999, *NEAR_ONE])
@pytest.mark.parametrize("step", [1, 2, 6, 1000, 10**6, 10**9, 2**53])
def test_rho_has_all_digits(step: int, beta2: float) -> None:
    with localcontext(Context(prec=120, Emin=MIN_EMIN, Emax=MAX_EMAX)):
        power = Decimal(float(np.float32(beta2))) ** step
        exact = step * power / (1 - power)
        found = native_rho(beta2, step)
        if exact > np.finfo("float64").tiny:
            assert abs(Decimal(found) / exact - 1) <= 2.0**-53
        else:
            assert found <= np.finfo("float64").tiny


def native_numbers(optimizer: Any) -> tuple[float, float, float]:
    found = {
        kind: float(tensor.numpy().flat[0])
        for key, tensor in optimizer.state_dict().items()
        for kind in ("beta1_pow", "beta2_pow", "rho")
        if f"_{kind}_" in key
    }
    return found["beta1_pow"], found["beta2_pow"], found["rho"]


@pytest.mark.parametrize("dtype", DTYPES)
def test_a_beta2_that_is_one_in_float32(dtype: str) -> None:
    beta2 = 1 - 1e-8
    param = paddle.create_parameter([1], dtype)
    optimizer = paddle.optimizer.RAdam(0.0, beta1=0.8, beta2=beta2, parameters=[param])
    for step in range(1, 8):
        param.grad = paddle.ones([1], dtype)
        optimizer.step()
        found = native_numbers(optimizer)
        assert found[1] == native_power(beta2, step, dtype) == 1.0
        np.testing.assert_equal(found[2], native_rho(beta2, step))
        assert recover_step(*found, 0.8, beta2, dtype) == step
    # Where beta1's power tells nothing either, only the first step can be known.
    for beta1, power in ((0.8, 0.0), (0.0, 0.0), (1 - 1e-9, 1.0)):
        assert recover_step(power, 1.0, math.inf, beta1, beta2, dtype) == 1
        with pytest.raises(ValueError, match=r"0\.999999.* is 1 in float32"):
            recover_step(power, 1.0, math.nan, beta1, beta2, dtype)
        assert recover_step(1.0, 1.0, 1.0, beta1, beta2, dtype) == 0


def test_a_beta1_that_is_one_in_float32() -> None:
    beta1 = 1 - 1e-9
    assert recover(77, beta1, 0.999) == 77
    with pytest.raises(ValueError, match=r"beta1 0\.999999999 is 1 in float32"):
        recover_step(1.0, 0.0, 0.0, beta1, 0.999, "float32")


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
