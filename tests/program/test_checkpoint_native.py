"""Checkpoints of Paddle's own RAdam go on in ours, and ours in Paddle's, close to float64."""

from __future__ import annotations

from typing import Any

import numpy as np
import paddle
import pytest
from support.resumable import TENSORS, Training, gradient
from support.static_programs import FedProgram, Tensor, random_gradients
from support.twin import Twin, expected_tensor, initial_values

import radam_codegen as rc
from radam_codegen.errors import CheckpointError
from radam_codegen.ir.plan import GroupPlan

#: By type, as the native optimizer cannot step float32 and float64 parameters together.
NAMES = {"float32": ("w", "w_1", "scalar"), "float64": ("double",)}
SINGLE = NAMES["float32"]
LR = 0.05
AFTER = 6
#: Both sides of the switch to rectification, and well beyond.
BEFORE = (1, 4, 5, 6, 40)

native = paddle.optimizer.RAdam


def plan_groups(arrangement: str, names: tuple[str, ...], beta2: float) -> list[GroupPlan]:
    def group(names: tuple[str, ...], lr_scale: float, beta2: float) -> GroupPlan:
        tensors = [Tensor(name, *TENSORS[name]) for name in names]
        return GroupPlan(
            tuple(expected_tensor(each, lr_scale=lr_scale) for each in tensors), beta2=beta2
        )

    if arrangement == "flat":
        return [group(names, 1.0, beta2)]
    return [group(("w",), 1.0, 0.9), group(("w_1", "scalar"), 0.5, beta2)]


def hand_over(source: Training, target: Training, state: dict[str, Any]) -> Training:
    for name, param in source.params.items():
        target.params[name].set_value(param)
    target.optimizer.set_state_dict(state)
    target.done = source.done
    return target


def assert_follows_float64(training: Training, arrangement: str, beta2: float) -> None:
    names = tuple(training.params)
    tensors = [Tensor(name, *TENSORS[name]) for name in names]
    values = [np.full(tensor.shape, 0.5, tensor.dtype) for tensor in tensors]
    twin = Twin(tensors, plan_groups(arrangement, names, beta2), values)
    for step in range(training.done):
        twin.step([gradient(name, step) for name in names], LR)
    for name, expected in zip(names, twin.values()):
        np.testing.assert_allclose(
            training.params[name].numpy(), expected, rtol=2e-5, atol=2e-6, err_msg=name
        )


@pytest.mark.parametrize("dtype", NAMES)
@pytest.mark.parametrize("before", BEFORE)
@pytest.mark.parametrize("beta2", [0.9, 0.999, 0.9999])
def test_native_to_ours(beta2: float, before: int, dtype: str) -> None:
    source = Training("flat", native, names=NAMES[dtype], beta2=beta2).train(before)
    target = Training("flat", names=NAMES[dtype], beta2=beta2)
    hand_over(source, target, source.optimizer.state_dict())
    for name in NAMES[dtype]:
        assert target.optimizer.state_dict()[f"{name}_step_0"].tolist() == [before]
    assert_follows_float64(target.train(AFTER), "flat", beta2)


@pytest.mark.parametrize("dtype", NAMES)
@pytest.mark.parametrize("before", BEFORE)
@pytest.mark.parametrize("beta2", [0.9, 0.999, 0.9999])
def test_ours_to_native(beta2: float, before: int, dtype: str) -> None:
    source = Training("flat", names=NAMES[dtype], beta2=beta2).train(before)
    with paddle.utils.unique_name.guard():
        target = Training("flat", native, names=NAMES[dtype], beta2=beta2)
        hand_over(source, target, source.optimizer.native_state_dict())
        assert_follows_float64(target.train(AFTER), "flat", beta2)


@pytest.mark.parametrize("beta2", [1 - 1e-7, 1 - 1e-8])
def test_a_beta2_near_one_both_ways(beta2: float) -> None:
    source = Training("flat", native, names=SINGLE, beta2=beta2).train(7)
    middle = Training("flat", names=SINGLE, beta2=beta2)
    middle.optimizer.set_state_dict(source.optimizer.state_dict())
    assert middle.optimizer.state_dict()["w_step_0"].tolist() == [7]
    exported = middle.train(2).optimizer.native_state_dict()
    back = Training("flat", names=SINGLE, beta2=beta2)
    back.optimizer.set_state_dict(exported)
    assert back.optimizer.state_dict()["w_step_0"].tolist() == [7 + 2]


def test_a_count_that_cannot_be_known_is_said_of_the_parameter() -> None:
    source = Training("flat", native, names=("w",), beta1=0.0, beta2=1 - 1e-8).train(2)
    target = Training("flat", names=("w",), beta1=0.0, beta2=1 - 1e-8)
    with pytest.raises(
        CheckpointError, match=r"'w': there is no telling .* beta2 0\.99999999 is 1"
    ):
        target.optimizer.set_state_dict(source.optimizer.state_dict())
    assert target.optimizer.state_dict() == {}


def test_groups_have_their_own_betas() -> None:
    source = Training("groups", native, names=SINGLE).train(6)
    middle = Training("groups", names=SINGLE)
    hand_over(source, middle, source.optimizer.state_dict()).train(6)
    with paddle.utils.unique_name.guard():
        target = Training("groups", native, names=SINGLE)
        hand_over(middle, target, middle.optimizer.native_state_dict()).train(6)
    assert_follows_float64(target, "groups", 0.999)


def test_through_a_file(tmp_path: Any) -> None:
    file = str(tmp_path / "native.pdopt")
    source = Training("flat", native, scheduled=True, names=SINGLE).train(5)
    paddle.save(source.optimizer.state_dict(), file)
    target = Training("flat", scheduled=True, names=SINGLE)
    hand_over(source, target, paddle.load(file, return_numpy=True))
    assert target.scheduler is not None
    assert target.scheduler.state_dict() == source.scheduler.state_dict()  # type: ignore[union-attr]
    exported = target.optimizer.native_state_dict()
    for key, value in source.optimizer.state_dict().items():
        if key != "LR_Scheduler":
            key = key.rsplit("_", 1)[0] + "_0"
            assert exported[key].shape == value.shape
            assert exported[key].dtype == value.dtype
            if "rho" not in key:
                np.testing.assert_array_equal(exported[key].numpy(), value.numpy())
            else:
                np.testing.assert_allclose(exported[key].numpy(), value.numpy(), rtol=1e-4)
    assert exported["LR_Scheduler"] == target.scheduler.state_dict()


def test_an_export_is_a_copy() -> None:
    training = Training("flat", names=SINGLE).train(2)
    exported = training.optimizer.native_state_dict()
    before = exported["w_moment1_0"].numpy().copy()
    training.train(1)
    np.testing.assert_array_equal(exported["w_moment1_0"].numpy(), before)


def test_exported_under_the_name_of_the_optimizer() -> None:
    with paddle.utils.unique_name.guard():
        source = Training("flat", native, names=("w",), name="own").train(1)
        expected = set(source.optimizer.state_dict())
    target = Training("flat", names=("w",), name="own")
    target.optimizer.set_state_dict(source.optimizer.state_dict())
    assert set(target.optimizer.native_state_dict()) == expected


def test_before_the_first_step_nothing_is_exported() -> None:
    assert Training("flat", names=SINGLE).optimizer.native_state_dict() == {}


def test_a_parameter_that_never_had_a_gradient_may_be_missing() -> None:
    names = ("w", "late", "frozen")
    source = Training("flat", native, names=names).train(2)
    assert not any("late" in key for key in source.optimizer.state_dict())
    target = Training("flat", names=names)
    hand_over(source, target, source.optimizer.state_dict()).train(4)
    counts = {
        key: value.item() for key, value in target.optimizer.state_dict().items() if "step" in key
    }
    assert counts == {"w_step_0": 6, "late_step_0": 2, "frozen_step_0": 0}


def test_a_parameter_that_was_lost_shows_when_it_steps() -> None:
    source = Training("flat", native, names=("w", "w_1")).train(2)
    state = {
        key: v for key, v in source.optimizer.state_dict().items() if not key.startswith("w_1_")
    }
    target = Training("flat", names=("w", "w_1"))
    hand_over(source, target, state)
    before = target.values()
    with pytest.raises(CheckpointError, match="'w_1'"):
        target.train(1)
    assert target.values() == before
    assert target.optimizer.state_dict()["w_step_0"].tolist() == [2]
    target.optimizer.set_state_dict(target.optimizer.state_dict())
    target.train(1)
    assert target.optimizer.state_dict()["w_1_step_0"].tolist() == [1]


def test_another_model_s_checkpoint_shows_before_the_first_step() -> None:
    state = Training("flat", native, names=("w_1", "scalar")).train(2).optimizer.state_dict()
    optimizer = Training("flat", names=("w",)).optimizer
    with pytest.raises(CheckpointError, match="'w': nothing of it is there"):
        optimizer.set_state_dict(state)
    assert optimizer.state_dict() == {}


def test_a_parameter_without_elements() -> None:
    param = paddle.create_parameter([0, 3], "float32")
    param.name = "none"
    state = {
        f"none_{kind}_0": paddle.zeros([0, 3])
        for kind in ("beta1_pow", "beta2_pow", "rho", "moment1", "moment2")
    }
    optimizer = rc.RAdam(parameters=[param])
    optimizer.set_state_dict(state)
    assert optimizer.state_dict()["none_step_0"].tolist() == [0]


def fed_tensors(dtype: str = "float32") -> list[Tensor]:
    return [Tensor("w", (5, 3), dtype), Tensor("b", (3,), dtype), Tensor("s", (), dtype)]


def fed_program(optimizer: Any, dtype: str = "float32") -> FedProgram:
    with paddle.utils.unique_name.guard():
        return FedProgram(fed_tensors(dtype), lambda params: optimizer(LR))


def state_of(program: FedProgram) -> dict[str, Any]:
    return dict(program.main.state_dict("opt", program.scope))


def give(program: FedProgram, values: list[Any]) -> None:
    for tensor, value in zip(program.tensors, values):
        program.write(tensor.name, value)


@pytest.mark.parametrize("before", BEFORE)
@pytest.mark.usefixtures("static_mode")
@pytest.mark.parametrize("dtype", NAMES)
def test_static_programs_both_ways(before: int, dtype: str) -> None:
    """Native, then ours, then native again; what is handed on is the programs' state."""
    tensors = fed_tensors(dtype)
    gradients = random_gradients(tensors, before + 2 * AFTER)
    values = initial_values(tensors)
    twin = Twin(tensors, [GroupPlan(tuple(map(expected_tensor, tensors)))], values)
    first, second, third = (fed_program(each, dtype) for each in (native, rc.RAdam, native))
    for program in (first, second, third):
        program.start(values)
    for number, grads in enumerate(gradients):
        if number == before:
            give(second, first.values())
            second.optimizer.set_state_dict(state_of(first), scope=second.scope)
            assert second.read("radam_step_0").tolist() == [before] * len(tensors)
        elif number == before + AFTER:
            give(third, second.values())
            state = second.optimizer.native_state_dict(scope=second.scope)
            third.main.set_state_dict(state, third.scope)
        program = (first, second, third)[(number >= before) + (number >= before + AFTER)]
        program.step(grads)
        twin.step(grads, LR)
        for tensor, actual, expected in zip(tensors, program.values(), twin.values()):
            np.testing.assert_allclose(
                actual, expected, rtol=2e-5, atol=2e-6, err_msg=f"step {number}, {tensor.name}"
            )


@pytest.mark.usefixtures("static_mode")
def test_an_export_has_every_variable_of_a_native_program() -> None:
    ours = fed_program(lambda rate: rc.RAdam(paddle.optimizer.lr.StepDecay(rate, 3))).start()
    theirs = fed_program(native)
    exported = ours.optimizer.native_state_dict(scope=ours.scope)
    wanted = theirs.state_names() - theirs.state_before
    assert set(exported) == {name for name in wanted if not name.startswith("learning_rate")}
    # Before the first step it is what the native startup program sets.
    theirs.start()
    for name, value in exported.items():
        np.testing.assert_array_equal(np.array(value), theirs.read(name), err_msg=name)
        assert np.array(value).dtype == theirs.read(name).dtype


@pytest.mark.usefixtures("static_mode")
def test_an_export_to_files_that_paddle_loads(tmp_path: Any) -> None:
    prefix = str(tmp_path / "native")
    ours, theirs = fed_program(rc.RAdam).start(), fed_program(native).start()
    for grads in random_gradients(ours.tensors, 7):
        ours.step(grads)
    with paddle.static.scope_guard(theirs.scope):
        paddle.static.save(theirs.main, prefix)
    rates = {n: theirs.read(n) for n in theirs.state_names() if n.startswith("learning_rate")}
    exported = ours.optimizer.native_state_dict(scope=ours.scope)
    paddle.save({**{n: np.array(v) for n, v in exported.items()}, **rates}, f"{prefix}.pdopt")
    with paddle.static.scope_guard(theirs.scope):
        paddle.static.load(theirs.main, prefix, theirs.executor)
    for name, value in exported.items():
        np.testing.assert_array_equal(np.array(value), theirs.read(name), err_msg=name)
