"""Checkpoints that don't fit: one error that lists it all, and the state to the byte as before."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np
import paddle
import pytest
from support.resumable import Training, bits
from support.resumable_program import ProgramTraining

import radam_codegen as rc
from radam_codegen.errors import ArgumentTypeError, CheckpointError

State = dict[str, Any]


def without(*keys: str) -> Callable[[State], State]:
    return lambda state: {key: value for key, value in state.items() if key not in keys}


def with_entry(key: str, value: Any) -> Callable[[State], State]:
    return lambda state: {**state, key: value}


def with_master(**masters: Any) -> Callable[[State], State]:
    def changed(state: State) -> State:
        merged = {**state["master_weights"], **masters}
        kept = {name: value for name, value in merged.items() if value is not None}
        return {**state, "master_weights": kept}

    return changed


def only(*parts: str) -> Callable[[State], State]:
    return lambda state: {
        key: value for key, value in state.items() if any(part in key for part in parts)
    }


def renamed(state: State) -> State:
    """What another model's checkpoint looks like."""
    return {f"other_{key}": v for key, v in state.items() if key[:1].islower()}


#: What is wrong, and what the error says of it. The parameters: "w" [5, 3], "half" with a master
#: weight, "double" in float64.
FAULTS: dict[str, tuple[Callable[[State], State], list[str]]] = {
    "a moment is missing": (without("w_moment1_0"), ["'w': no moment1"]),
    "moments are missing": (
        without("w_moment1_0", "w_moment2_0", "double_moment2_0"),
        ["'w': no moment1", "'w': no moment2", "'double': no moment2"],
    ),
    "a step count is missing": (without("w_step_0"), ["'w': no step count"]),
    "a parameter is missing": (
        without("w_moment1_0", "w_moment2_0", "w_step_0"),
        ["'w': nothing of it is there"],
    ),
    "all but one kind is cut off": (
        only("moment1", "LR", "master"),
        ["'w': no step count", "'w': no moment2", "'half': no moment2"],
    ),
    "a master weight is missing": (with_master(half=None), ["master weight of 'half': missing"]),
    "a master weight too many": (
        with_master(w=np.zeros((5, 3), "float32")),
        ["master weight of 'w': this optimizer keeps none"],
    ),
    "a master weight of another shape": (
        with_master(half=np.zeros((3, 4), "float32")),
        ["master weight of 'half': is float32 [3, 4], not float32 [4, 3]"],
    ),
    "another shape": (
        with_entry("w_moment2_0", np.zeros((3, 5), "float32")),
        ["'w_moment2_0': is float32 [3, 5], not float32 [5, 3]"],
    ),
    "another type": (
        with_entry("w_moment2_0", np.zeros((5, 3), "float64")),
        ["'w_moment2_0': is float64 [5, 3], not float32 [5, 3]"],
    ),
    "a type that is too small": (
        with_entry("double_moment2_0", np.zeros((2, 2), "float32")),
        ["'double_moment2_0': is float32 [2, 2], not float64 [2, 2]"],
    ),
    "no tensor": (with_entry("w_moment2_0", "text"), ["'w_moment2_0': is a str, not float32"]),
    "a count that is no integer": (
        with_entry("w_step_0", np.array([1.5])),
        ["'w_step_0': is float64 [1], not int64"],
    ),
    "a count below zero": (
        with_entry("w_step_0", np.array([-1])),
        ["'w_step_0': holds the negative count -1"],
    ),
    "two counts": (
        with_entry("w_step_0", np.array([1, 2])),
        ["'w_step_0': has the shape [2], not [1]"],
    ),
    "another optimizer's state beside it": (
        with_entry("w_velocity_0", np.zeros((5, 3), "float32")),
        ["'w_velocity_0': no such state is known"],
    ),
    "two candidates": (
        with_entry("w_moment1_7", np.zeros((5, 3), "float32")),
        ["'w_moment1_0' and 'w_moment1_7': both could be moment1 of 'w'"],
    ),
    "no scheduler": (without("LR_Scheduler"), ["'LR_Scheduler': missing"]),
    "another scheduler": (
        with_entry("LR_Scheduler", {"epoch": 3}),
        ["'LR_Scheduler': StepDecay refuses it"],
    ),
    "another model": (
        renamed,
        ["'w': nothing of it is there", "'double': nothing of it", "'LR_Scheduler': missing"],
    ),
    "nothing": (lambda state: {}, ["'w': nothing of it is there", "'half': nothing of it"]),
    "several things at once": (
        lambda state: with_entry("scalar_step_0", np.array([0.0]))(without("w_moment1_0")(state)),
        ["'w': no moment1", "'scalar_step_0': is float64 [1], not int64"],
    ),
}


@pytest.fixture(params=FAULTS)
def fault(request: pytest.FixtureRequest) -> tuple[Callable[[State], State], list[str]]:
    return FAULTS[request.param]


def check_refused(call: Callable[[], None], expected: list[str]) -> None:
    with pytest.raises(CheckpointError) as caught:
        call()
    lines = str(caught.value).splitlines()
    for part in expected:
        assert any(line.startswith(f"  - {part}") for line in lines), (part, lines)


def test_dynamic_graph(fault: tuple[Callable[[State], State], list[str]]) -> None:
    damage, expected = fault
    with paddle.utils.unique_name.guard():
        other = Training("groups", scheduled=True).train(5)
    state = damage(other.optimizer.state_dict())
    training = Training("groups", scheduled=True).train(7)
    before, values = bits(training.optimizer.state_dict()), training.values()
    check_refused(lambda: training.optimizer.set_state_dict(state), expected)
    assert bits(training.optimizer.state_dict()) == before
    assert training.values() == values
    # It goes on as if nothing had been.
    untouched = Training("groups", scheduled=True).train(8)
    assert training.train(1).values() == untouched.values()


@pytest.mark.usefixtures("static_mode")
def test_static_program(fault: tuple[Callable[[State], State], list[str]]) -> None:
    damage, expected = fault
    with paddle.utils.unique_name.guard():
        other = ProgramTraining().start().train(3)
    with paddle.utils.unique_name.guard():
        ProgramTraining()
        # Its variables' names are others than those in the checkpoint.
        training = ProgramTraining().start().train(2)
    scope = training.program.scope
    state = damage(other.optimizer.state_dict(scope=other.program.scope))
    before = training.values(), training.scheduler.state_dict()
    check_refused(lambda: training.optimizer.set_state_dict(state, scope=scope), expected)
    assert (training.values(), training.scheduler.state_dict()) == before


def test_before_the_first_step_nothing_is_made() -> None:
    state = without("w_moment1_0")(Training().train(2).optimizer.state_dict())
    training = Training()
    with pytest.raises(CheckpointError):
        training.optimizer.set_state_dict(state)
    assert training.optimizer.state_dict() == {}


def test_each_fault_is_listed_once() -> None:
    state = {"w_step_0": np.array([1])}
    with pytest.raises(CheckpointError) as caught:
        Training(names=("w", "w_1")).optimizer.set_state_dict(state)
    assert str(caught.value).splitlines()[1:] == [
        "  - 'w': no moment1",
        "  - 'w': no moment2",
        "  - 'w_1': nothing of it is there",
    ]


def native_state(**changes: Any) -> State:
    training = Training(optimizer=paddle.optimizer.RAdam, names=("w", "w_1")).train(3)
    kinds = {k.rsplit("_", 1)[0]: v.numpy() for k, v in training.optimizer.state_dict().items()}
    return {f"{key}_0": value for key, value in {**kinds, **changes}.items() if value is not None}


def differing() -> Any:
    power = np.full((5, 3), 0.997, "float32")
    power[2, 1] = 0.998
    return power


@pytest.mark.parametrize(
    ("changes", "expected"),
    [
        ({"w_rho": None}, "'w': no rho"),
        ({"w_beta1_pow": None}, "'w': no beta1_pow"),
        ({"w_moment1": None}, "'w': no moment1"),
        ({"w_rho": np.zeros([1], "float32")}, "'w_rho_0': is float32 [1], not float32 [5, 3]"),
        ({"w_beta2_pow": differing()}, "'w_beta2_pow_0': its elements differ"),
        (
            {"w_beta2_pow": np.full((5, 3), 0.123, "float32")},
            "'w': there is no telling its step count, as beta2_pow is 0.123",
        ),
        ({"w_beta2_pow": np.full((5, 3), 1.5, "float32")}, "'w': there is no telling"),
    ],
)
def test_native_checkpoints(changes: State, expected: str) -> None:
    training = Training(names=("w", "w_1")).train(5)
    before = bits(training.optimizer.state_dict())
    check_refused(lambda: training.optimizer.set_state_dict(native_state(**changes)), [expected])
    assert bits(training.optimizer.state_dict()) == before
    training.optimizer.set_state_dict(native_state())


def test_another_optimizer_s_checkpoint() -> None:
    with paddle.utils.unique_name.guard():
        adam = Training(optimizer=paddle.optimizer.Adam, names=("w",)).train(2)
    check_refused(
        lambda: Training(names=("w",)).optimizer.set_state_dict(adam.optimizer.state_dict()),
        ["'w_beta1_pow_acc_0': no such state is known", "'w': no step count"],
    )


def test_a_missing_gradient_is_no_excuse_for_state_that_is_there() -> None:
    # The native optimizer asserts this too.
    training = Training(names=("w", "w_1")).train(1)
    state = {key: value for key, value in native_state().items() if not key.startswith("w_1")}
    check_refused(
        lambda: training.optimizer.set_state_dict(state), ["'w_1': nothing of it is there"]
    )


def test_a_state_dict_is_a_dict() -> None:
    with pytest.raises(ArgumentTypeError, match="list"):
        rc.RAdam(parameters=[paddle.create_parameter([2], "float32")]).set_state_dict([])  # type: ignore[arg-type]
