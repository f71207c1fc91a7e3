"""How much an optimizer keeps, and that it is what is documented."""

from __future__ import annotations

import numpy as np
import pytest
from support.static_programs import FedProgram, Tensor, random_gradients
from support.twin import Twin, expected_tensor, initial_values

import radam_codegen as rc
from radam_codegen.config import STATE_LAYOUTS
from radam_codegen.ir.plan import GroupPlan

pytestmark = pytest.mark.usefixtures("static_mode")

MEGABYTE = Tensor("p", (512, 512))


def test_at_most_eight_bytes_per_element_of_a_megabyte() -> None:
    program = FedProgram([MEGABYTE], lambda params: rc.RAdam(0.01)).start()
    state = program.optimizer_state()
    assert set(program.scope.local_var_names()) - {"feed", "fetch"} == {"p", *state}
    assert sum(value.nbytes for value in state.values()) <= 8.1 * 512 * 512
    for grads in random_gradients([MEGABYTE], 2):
        program.step(grads)
    state = program.optimizer_state()
    assert sum(value.nbytes for value in state.values()) <= 8.1 * 512 * 512


@pytest.mark.parametrize("layout", STATE_LAYOUTS)
def test_the_state_is_two_moments_and_step_counts(
    monkeypatch: pytest.MonkeyPatch, layout: str
) -> None:
    tensors = [Tensor("w", (3, 5)), Tensor("b", (5,), "float64"), Tensor("s", ())]
    monkeypatch.setenv("RADAM_CODEGEN_STATE_LAYOUT", layout)
    program = FedProgram(tensors, lambda params: rc.RAdam(0.01))
    values = initial_values(tensors)
    program.start(values)
    twin = Twin(tensors, [GroupPlan(tuple(map(expected_tensor, tensors)))], values)
    for grads in random_gradients(tensors, 7):
        program.step(grads)
        twin.step(grads, 0.01)
    state = program.optimizer_state()
    variables = [name for name in state if not name.startswith("learning_rate")]
    if layout == "flat":  # a pair of tensors per type
        assert sorted(name[: len("radam_moment1")] for name in variables) == [
            *("radam_moment1", "radam_moment1", "radam_moment2", "radam_moment2"),
            "radam_step_0",
        ]
    else:
        assert set(variables) == {
            *(f"{name}_moment{which}_0" for name in ("w", "b", "s") for which in (1, 2)),
            "radam_step_0",
        }
    assert program.optimizer.plan.layout == layout
    assert state["radam_step_0"].dtype == np.int64
    np.testing.assert_array_equal(state["radam_step_0"], [7, 7, 7])
    for tensor, reference in zip(tensors, twin.states):
        for which, moment in ((1, reference.moment1), (2, reference.moment2)):
            actual = program.read(f"{tensor.name}_moment{which}_0")
            assert actual.dtype == tensor.dtype
            assert actual.shape == tensor.shape
            np.testing.assert_allclose(actual, moment, rtol=2e-6, atol=1e-7)


def test_startup_sets_everything_back() -> None:
    program = FedProgram([Tensor("p", (9,))], lambda params: rc.RAdam(0.01)).start()
    gradients = random_gradients([Tensor("p", (9,))], 7)

    def train() -> np.ndarray:
        for grads in gradients:
            program.step(grads)
        return program.read("p")

    first = train()
    program.start()
    np.testing.assert_array_equal(program.read("radam_step_0"), [0])
    np.testing.assert_array_equal(train(), first)
