"""Checkpoints in dynamic graph: going on from one is the same, to the bit, as not stopping."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path
from typing import Any

import numpy as np
import paddle
import pytest
from paddle.optimizer.lr import StepDecay
from support.resumable import ARRANGEMENTS, LATE, TENSORS, Training, bits
from support.static_programs import IN_PIR

import radam_codegen as rc
from radam_codegen.errors import ArgumentError, CheckpointError

TESTS = Path(__file__).resolve().parents[1]
BEFORE, AFTER = 3, 5


@pytest.fixture(params=["flat", "groups"])
def arrangement(request: pytest.FixtureRequest) -> str:
    return str(request.param)


def reference(arrangement: str, **options: Any) -> Training:
    return Training(arrangement, scheduled=True, **options).train(BEFORE + AFTER)


def same(one: Training, other: Training) -> None:
    assert one.values() == other.values()
    assert one.moments() == other.moments()


def test_a_new_optimizer_goes_on(arrangement: str, tmp_path: Path) -> None:
    prefix = str(tmp_path / "checkpoint")
    Training(arrangement, scheduled=True).train(BEFORE).save(prefix)
    resumed = Training(arrangement, scheduled=True).load(prefix, BEFORE)
    same(resumed.train(AFTER), reference(arrangement))


def test_an_optimizer_that_has_stepped_goes_back(arrangement: str, tmp_path: Path) -> None:
    prefix = str(tmp_path / "checkpoint")
    training = Training(arrangement, scheduled=True).train(BEFORE)
    training.save(prefix)
    training.train(AFTER)  # by now "late" has state, which it had not before
    assert BEFORE < LATE < BEFORE + AFTER
    same(training.load(prefix, BEFORE).train(AFTER), reference(arrangement))


def test_a_fresh_process_goes_on(tmp_path: Path) -> None:
    prefix, out = str(tmp_path / "checkpoint"), str(tmp_path / "out")
    Training("groups", scheduled=True).train(BEFORE).save(prefix)
    code = (
        "from support.resumable import resume_from_file\n"
        f"resume_from_file({prefix!r}, {BEFORE}, {AFTER}, {out!r})\n"
    )
    done = subprocess.run(
        [sys.executable, "-c", code],
        capture_output=True,
        text=True,
        cwd=TESTS,
        env={**os.environ, "FLAGS_enable_pir_api": str(int(IN_PIR))},
        timeout=300,
        check=False,
    )
    assert done.returncode == 0, done.stderr
    expected = reference("groups")
    for as_arrays in (0, 1):
        same(Training("groups", scheduled=True).load(f"{out}{as_arrays}", 0), expected)


@pytest.mark.parametrize("other", [name for name in ARRANGEMENTS if name != "groups"])
def test_step_counts_follow_their_parameters_into_other_groups(other: str) -> None:
    state = Training("groups").train(LATE + 2).optimizer.state_dict()
    training = Training(other)
    training.optimizer.set_state_dict(state)
    counts = {
        key: value.item() for key, value in training.optimizer.state_dict().items() if "step" in key
    }
    expected = {f"{name}_step_0": LATE + 2 for name in TENSORS}
    assert counts == {**expected, "late_step_0": 2, "frozen_step_0": 0}


def test_the_same_numbers_in_other_groups_go_on_the_same(tmp_path: Path) -> None:
    prefix = str(tmp_path / "checkpoint")
    Training("groups", scheduled=True).train(BEFORE).save(prefix)
    resumed = Training("groups turned", scheduled=True).load(prefix, BEFORE)
    same(resumed.train(AFTER), reference("groups"))


def test_before_the_first_step_there_is_no_state() -> None:
    training = Training()
    assert training.optimizer.state_dict() == {}
    training.optimizer.set_state_dict({})
    assert training.optimizer.state_dict() == {}
    same(training.train(3), Training().train(3))
    scheduled = Training(scheduled=True)
    assert list(scheduled.optimizer.state_dict()) == ["LR_Scheduler"]
    same(scheduled.train(3), Training(scheduled=True).train(3))


def test_what_was_set_is_what_is_given_back() -> None:
    state = bits(Training("groups", scheduled=True).train(LATE + 1).optimizer.state_dict())
    source = Training("groups", scheduled=True).train(LATE + 1)
    target = Training("groups", scheduled=True)
    target.optimizer.set_state_dict(source.optimizer.state_dict())
    same_names = {key.rsplit("_", 1)[0] for key in state}
    given = bits(target.optimizer.state_dict())
    assert {key.rsplit("_", 1)[0] for key in given} == same_names
    assert target.moments() == source.moments()
    assert given["LR_Scheduler"] == state["LR_Scheduler"]


def test_names_and_types() -> None:
    with paddle.utils.unique_name.guard():
        training = Training(names=("w", "half", "late", "frozen")).train(2)
        state = training.optimizer.state_dict()
    assert set(state) == {
        *(f"{name}_moment{which}_0" for name in ("w", "half") for which in (1, 2)),
        *(f"{name}_step_0" for name in ("w", "half", "late", "frozen")),
        "master_weights",
    }
    assert list(state["master_weights"]) == ["half"]
    for name, tensor in state.items():
        if name != "master_weights":
            assert tensor.name == name
            dtype = paddle.int64 if "step" in name else paddle.float32
            assert tensor.dtype == dtype
            assert tensor.stop_gradient
    assert state["w_step_0"].shape == [1]


def test_the_tensors_go_on_changing() -> None:
    training = Training().train(1)
    state = training.optimizer.state_dict()
    training.train(1)
    assert state["w_step_0"].item() == 2
    assert bits(state) == bits(training.optimizer.state_dict())


def test_loading_leaves_the_caller_s_tensors_alone() -> None:
    source = Training().train(2)
    state = source.optimizer.state_dict()
    before = bits(state)
    target = Training()
    target.optimizer.set_state_dict(state)
    target.train(2)
    assert bits(state) == before


@pytest.mark.parametrize("name", [None, "own", "other"])
def test_optimizers_may_have_other_names(name: str | None) -> None:
    source = Training(name="own").train(2)
    state = source.optimizer.state_dict()
    assert state["w_own_step_0"].item() == 2
    target = Training(name=name)
    target.optimizer.set_state_dict(state)
    target.done = 2
    for each in (source, target):
        each.train(2)
    # The parameters differ, as those were not loaded; the moments depend on gradients alone.
    one, other = source.moments(), target.moments()
    assert other["w_moment1" if name is None else f"w_{name}_moment1"] == one["w_own_moment1"]


def test_a_parameter_whose_name_begins_like_another_s() -> None:
    # "w_1_moment1_0" is of "w_1", not of "w" in an optimizer named "1".
    source = Training(names=("w", "w_1")).train(2)
    target = Training(names=("w",))
    target.optimizer.set_state_dict(source.optimizer.state_dict())
    assert set(target.moments()) == {"w_moment1", "w_moment2", "w_step"}
    assert target.moments()["w_moment1"] == source.moments()["w_moment1"]


def test_the_alias() -> None:
    source, target = Training().train(2), Training()
    target.optimizer.load_state_dict(source.optimizer.state_dict())
    assert target.moments() == source.moments()


def test_a_scope_is_for_programs() -> None:
    optimizer = Training().train(1).optimizer
    with pytest.raises(ArgumentError, match="scope"):
        optimizer.state_dict(scope=paddle.static.Scope())
    with pytest.raises(ArgumentError, match="scope"):
        optimizer.set_state_dict({}, scope=paddle.static.Scope())


def test_a_scheduler_that_lacks_its_state() -> None:
    state = Training().train(2).optimizer.state_dict()
    with pytest.raises(CheckpointError, match="'LR_Scheduler': missing"):
        Training(scheduled=True).optimizer.set_state_dict(state)


def test_a_lambda_scheduler_need_not_have_any() -> None:
    param = paddle.create_parameter([3], "float32")
    scheduler = paddle.optimizer.lr.LambdaDecay(0.1, lambda epoch: 0.9**epoch)
    rc.RAdam(scheduler, parameters=[param]).set_state_dict({})


def test_a_scheduler_that_refuses_its_state_is_left_alone() -> None:
    training = Training(scheduled=True).train(4)
    state = dict(training.optimizer.state_dict())
    before = bits(state)
    state["LR_Scheduler"] = {"last_epoch": 1}
    with pytest.raises(CheckpointError, match="StepDecay refuses it"):
        training.optimizer.set_state_dict(state)
    assert bits(training.optimizer.state_dict()) == before


def test_paddle_s_own_training_loop(tmp_path: Path) -> None:
    x, y = np.ones((4, 3), "float32"), np.ones((4, 2), "float32")

    def model() -> Any:
        with paddle.utils.unique_name.guard():
            network = paddle.nn.Linear(3, 2)
        scheduler = StepDecay(0.1, step_size=2)
        made = paddle.Model(network)
        made.prepare(rc.RAdam(scheduler, parameters=network.parameters()), paddle.nn.MSELoss())
        return made

    first = model()
    for _ in range(3):
        first.train_batch([x], [y])
    first.save(str(tmp_path / "model"))
    second = model()
    second.load(str(tmp_path / "model"))
    for each in (first, second):
        for _ in range(3):
            each.train_batch([x], [y])
    for one, other in zip(first.parameters(), second.parameters()):
        np.testing.assert_array_equal(one.numpy(), other.numpy())


def test_zero_dimensional_state_keeps_its_shape(tmp_path: Path) -> None:
    training = Training(names=("scalar",)).train(2)
    training.save(str(tmp_path / "checkpoint"))
    loaded = paddle.load(str(tmp_path / "checkpoint.pdopt"))
    moment = next(value for key, value in loaded.items() if "moment1" in key)
    assert moment.shape == []
    np.testing.assert_array_equal(
        moment.numpy(), next(iter(training.optimizer.state_dict().values())).numpy()
    )
