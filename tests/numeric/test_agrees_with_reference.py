"""Programs trained by generated kernels follow RAdam in float64."""

from __future__ import annotations

import numpy as np
import pytest
from support.reference import reference_rho
from support.static_programs import IN_PIR, FedProgram, Tensor, random_gradients
from support.twin import Twin, assert_follows, expected_tensor, initial_values

import radam_codegen as rc
from radam_codegen.ir.plan import GroupPlan

pytestmark = pytest.mark.usefixtures("static_mode")

LR = 0.05
STEPS = 12
BETAS2 = (0.9, 0.95, 0.999, 0.9999, 0.99999, 1 - 1e-8, 1 - 1e-10)

SHAPES: tuple[tuple[int, ...], ...] = (
    *((extent,) for extent in (1, 7, 8, 9, 15, 16, 17, 31, 33, 1023, 4097)),
    (64, 65),
    (0,),
    (3, 0),
    (),
)

HOSTILE_NAMES = [
    'quote"s',
    "it's",
    "*/ int x; /*",
    "/* open",
    "// comment \\",
    "line\nbreak\r\n\ttab",
    "{{ 7 * 7 }}{% raw %}{# x #}",
    "back\\slash\\n",
    "%s%n{0}$x`y`",
    " ",
    "a" * 1000,
    *(["größe_重み_\U0001f600"] if IN_PIR else []),
]


def tensors_of(shapes: tuple[tuple[int, ...], ...], dtype: str = "float32") -> list[Tensor]:
    return [Tensor(f"p{index}", shape, dtype) for index, shape in enumerate(shapes)]


def plain_group(tensors: list[Tensor], **numbers: float) -> GroupPlan:
    return GroupPlan(tuple(map(expected_tensor, tensors)), **numbers)


@pytest.mark.parametrize("beta2", BETAS2)
def test_twelve_steps_across_the_switch(beta2: float) -> None:
    rectified = [reference_rho(beta2, t)[1] > 5 for t in range(1, STEPS + 1)]
    assert not rectified[0]
    assert rectified[-1]
    tensors = tensors_of(SHAPES)
    program = FedProgram(tensors, lambda params: rc.RAdam(LR, beta2=beta2))
    assert_follows(
        program, [plain_group(tensors, beta2=beta2)], random_gradients(tensors, STEPS), LR
    )
    np.testing.assert_array_equal(program.read("radam_step_0"), [STEPS] * len(tensors))


@pytest.mark.parametrize(
    "numbers",
    [
        {"beta1": 0.0},
        {"beta1": 0.99, "beta2": 0.99},
        {"beta2": 0.0},
        {"epsilon": 0.0},
        {"epsilon": 0.1},
    ],
    ids=str,
)
def test_other_numbers(numbers: dict[str, float]) -> None:
    tensors = tensors_of(((33,), (5, 5)))
    program = FedProgram(tensors, lambda params: rc.RAdam(LR, **numbers))
    assert_follows(program, [plain_group(tensors, **numbers)], random_gradients(tensors, STEPS), LR)


def test_three_hundred_parameters_in_one_group() -> None:
    tensors = tensors_of(tuple((1 + index % 5, index % 13) for index in range(300)))
    program = FedProgram(tensors, lambda params: rc.RAdam(LR))
    operations, _ = program.result
    assert len(operations) == 1
    assert_follows(program, [plain_group(tensors)], random_gradients(tensors, 7), LR)


def test_names_that_would_break_code() -> None:
    tensors = [Tensor(name, (3, 3)) for name in HOSTILE_NAMES]
    program = FedProgram(tensors, lambda params: rc.RAdam(LR))
    assert_follows(program, [plain_group(tensors)], random_gradients(tensors, 7), LR)
    (source,) = program.optimizer.sources()
    assert not any(name in source.text for name in HOSTILE_NAMES if name != " ")


def test_a_large_parameter_among_small_ones_on_several_threads() -> None:
    tensors = tensors_of(((100_003,), (3,), (0,), (40_000,)))
    program = FedProgram(tensors, lambda params: rc.RAdam(LR))
    assert_follows(program, [plain_group(tensors)], random_gradients(tensors, 7), LR)


def test_gradients_of_all_magnitudes() -> None:
    tensors = [Tensor("p", (64,))]
    random = np.random.default_rng(3)
    scales = 10.0 ** np.linspace(-15, 15, 64)
    gradients = [[(scales * random.standard_normal(64)).astype("float32")] for _ in range(STEPS)]
    # The steps before the rectification go as far as the gradients are large.
    program = FedProgram(tensors, lambda params: rc.RAdam(1e-3))
    assert_follows(program, [plain_group(tensors)], gradients, 1e-3)


def test_no_gradient_at_all_moves_nothing() -> None:
    tensors = tensors_of(((5,), (3, 3)))
    program = FedProgram(tensors, lambda params: rc.RAdam(LR))
    values = initial_values(tensors)
    program.start(values)
    for _ in range(STEPS):
        program.step([np.zeros_like(value) for value in values])
    for actual, value in zip(program.values(), values):
        np.testing.assert_array_equal(actual, value)


def test_float64_to_nine_digits_after_two_hundred_steps() -> None:
    tensors = tensors_of(((1,), (33,), (), (16, 17)), "float64")
    program = FedProgram(tensors, lambda params: rc.RAdam(0.01))
    gradients = random_gradients(tensors, 200, seed=2)
    assert_follows(program, [plain_group(tensors)], gradients, 0.01, rtol=0.0, atol=1e-9)


@pytest.mark.parametrize("beta1", [0.9, 1 - 1e-9])
@pytest.mark.parametrize("beta2", [0.99999, 1 - 1e-8, 1 - 1e-10, 1 - 2.0**-53])
def test_float64_to_twelve_digits_with_betas_near_one(beta1: float, beta2: float) -> None:
    tensors = tensors_of(((33,), ()), "float64")
    program = FedProgram(tensors, lambda params: rc.RAdam(0.01, beta1, beta2))
    group = plain_group(tensors, beta1=beta1, beta2=beta2)
    gradients = random_gradients(tensors, STEPS, seed=3)
    assert_follows(program, [group], gradients, 0.01, rtol=1e-12, atol=1e-12)


def test_float64_beside_float32() -> None:
    tensors = [*tensors_of(((33,), (5, 5))), Tensor("double", (17,), "float64")]
    program = FedProgram(tensors, lambda params: rc.RAdam(0.01))
    assert_follows(program, [plain_group(tensors)], random_gradients(tensors, STEPS), 0.01)


def test_float32_stays_close_to_float64_over_1500_steps() -> None:
    tensors = tensors_of(((4096,), (33,)))
    program = FedProgram(tensors, lambda params: rc.RAdam(LR))
    values = initial_values(tensors)
    program.start(values)
    twin = Twin(tensors, [plain_group(tensors)], values)
    for grads in random_gradients(tensors, 1500, seed=4):
        program.step(grads)
        twin.step(grads, LR)
    largest = max(np.abs(value).max() for value in twin.values())
    apart = max(np.abs(a - b).max() for a, b in zip(program.values(), twin.values()))
    assert apart / largest < 3e-6
