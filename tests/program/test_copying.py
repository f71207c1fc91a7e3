"""Copies of an optimizer, by ``copy`` and by ``pickle``."""

from __future__ import annotations

import copy
import pickle
from typing import Any

import numpy as np
import paddle
import pytest
from support.resumable import Training
from support.static_programs import FedProgram, Tensor, random_gradients

import radam_codegen as rc


@pytest.fixture(params=["flat", "groups"])
def arrangement(request: pytest.FixtureRequest) -> str:
    return str(request.param)


def ordered(training: Training) -> list[bytes]:
    """Parameters and state, which have other names in a copy."""
    masters = training.optimizer._master_weights
    state = training.optimizer.state_dict()
    moments = [tensor for key, tensor in state.items() if "moment" in key or "step" in key]
    return [
        *training.values().values(),
        *(tensor.numpy().tobytes() for tensor in (*moments, *masters.values())),
    ]


@pytest.mark.parametrize("before", [0, 3, 6])
def test_a_deep_copy_goes_on_by_itself(arrangement: str, before: int) -> None:
    training = Training(arrangement, scheduled=True).train(before)
    twin = copy.deepcopy(training)
    assert twin.optimizer._parameter_list[0] is not training.optimizer._parameter_list[0]
    members = list(twin.optimizer._groups.members)
    assert {id(each) for each in members} == {id(each) for each in twin.params.values()}
    at_copy = ordered(training)
    assert ordered(twin) == at_copy
    twin.train(3)
    assert ordered(training) == at_copy  # nothing is shared
    assert ordered(twin) == ordered(training.train(3))


def test_a_copy_s_state_bears_its_parameters_names() -> None:
    training = Training(names=("w", "half"), name="own").train(2)
    twin = copy.deepcopy(training)
    state = twin.optimizer.state_dict()
    for param in twin.params.values():
        for kind in ("moment1", "moment2", "step"):
            key = f"{param.name}_own_{kind}_0"
            assert key in state
            assert state[key].name == key
    assert list(state["master_weights"]) == [twin.params["half"].name]
    # A checkpoint of it fits it, after a step too.
    twin.optimizer.set_state_dict(state)
    assert ordered(twin.train(1)) == ordered(training.train(1))


@pytest.mark.parametrize("before", [0, 3])
def test_a_pickled_optimizer_goes_on(arrangement: str, before: int) -> None:
    names = ("w", "w_1", "scalar", "double", "late")  # bfloat16 is beyond Paddle's pickling
    training = Training(arrangement, scheduled=True, names=names).train(before)
    optimizer, params = pickle.loads(pickle.dumps((training.optimizer, training.params)))
    twin = copy.copy(training)
    twin.optimizer, twin.params, twin.scheduler = optimizer, params, optimizer._learning_rate
    assert ordered(twin) == ordered(training)
    assert ordered(twin.train(3)) == ordered(training.train(3))


def test_a_copy_takes_the_optimizer_s_settings_along() -> None:
    param = paddle.create_parameter([3], "float32")
    clip = paddle.nn.ClipGradByNorm(0.5)
    optimizer = rc.RAdam(
        0.25, 0.8, 0.95, 1e-6, [param], paddle.regularizer.L1Decay(0.1), clip, "own"
    )
    optimizer._set_auxiliary_var("found_inf", paddle.to_tensor([False]))
    for twin in (copy.deepcopy(optimizer), pickle.loads(pickle.dumps(optimizer))):
        assert twin.get_lr() == 0.25
        options = twin._groups.options[0]
        assert (options.beta1, options.beta2, options.epsilon) == (0.8, 0.95, 1e-6)
        assert options.grad_clip.clip_norm == 0.5
        assert options.weight_decay._coeff == 0.1
        assert twin._name == "own"
        twin._parameter_list[0].grad = paddle.ones([3])
        twin.step()
        twin.clear_gradients()
        assert not twin._parameter_list[0].grad.any()


def test_optimizer_and_network_copied_together() -> None:
    network = paddle.nn.Linear(3, 2)
    optimizer = rc.RAdam(0.1, parameters=network.parameters())
    network(paddle.ones([1, 3])).sum().backward()
    optimizer.step()
    twin, twin_optimizer = copy.deepcopy((network, optimizer))
    assert twin_optimizer._parameter_list[0] is twin.weight
    before = twin.weight.numpy().copy()
    twin(paddle.ones([1, 3])).sum().backward()
    twin_optimizer.step()
    assert not np.array_equal(before, twin.weight.numpy())
    np.testing.assert_array_equal(before, network.weight.numpy())


@pytest.mark.usefixtures("static_mode")
@pytest.mark.parametrize(
    "duplicate", [copy.deepcopy, lambda each: pickle.loads(pickle.dumps(each))]
)
def test_in_static_mode_a_copy_has_yet_to_be_minimized(duplicate: Any) -> None:
    tensors = [Tensor("w", (3,)), Tensor("b", (2,))]
    first = FedProgram(tensors, lambda params: rc.RAdam(0.1, parameters=["w"]))
    twin = duplicate(first.optimizer)
    assert twin.state_dict() == {}
    assert twin._groups.members == ["w"]
    second = FedProgram(tensors, lambda params: twin)
    gradients = random_gradients(tensors, 3)
    for program in (first, second):
        program.start()
        for grads in gradients:
            program.step(grads)
    for one, other in zip(first.values(), second.values()):
        np.testing.assert_array_equal(one, other)
