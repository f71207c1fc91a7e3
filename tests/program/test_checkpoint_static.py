"""Checkpoints of static programs, by Paddle's own functions and by the optimizer's."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path
from typing import Any

import numpy as np
import paddle
import pytest
from support.resumable_program import TENSORS, ProgramTraining
from support.static_programs import IN_PIR, FedProgram, Tensor

import radam_codegen as rc
from radam_codegen.errors import ArgumentTypeError, CheckpointError, ProgramError

pytestmark = pytest.mark.usefixtures("static_mode")

TESTS = Path(__file__).resolve().parents[1]
BEFORE, AFTER = 4, 5


def training(grouped: bool = True) -> ProgramTraining:
    """A program whose variables are named as in a fresh process."""
    with paddle.utils.unique_name.guard():
        return ProgramTraining(grouped)


def later_training(grouped: bool = True) -> ProgramTraining:
    """A program that is the second in a process, so its variables are named otherwise."""
    with paddle.utils.unique_name.guard():
        ProgramTraining(grouped=False)
        later = ProgramTraining(grouped)
    assert "radam_step_1" in later.program.state_names()
    assert "radam_step_0" not in later.program.state_names()
    return later


def by_kind(values: dict[str, bytes]) -> dict[str, bytes]:
    """Values of a single group without the number at the end of names."""
    params = {tensor.name for tensor in TENSORS}
    return {name if name in params else name.rsplit("_", 1)[0]: v for name, v in values.items()}


def copied(state: dict[str, Any]) -> dict[str, Any]:
    return {
        name: copied(value) if isinstance(value, dict) else np.array(value)
        for name, value in state.items()
        if name != "LR_Scheduler"
    } | ({"LR_Scheduler": state["LR_Scheduler"]} if "LR_Scheduler" in state else {})


def params_of(source: ProgramTraining) -> dict[str, Any]:
    return {tensor.name: source.program.read(tensor.name) for tensor in TENSORS}


def resume(target: ProgramTraining, params: dict[str, Any], state: dict[str, Any]) -> None:
    for name, value in params.items():
        target.program.write(name, value)
    target.optimizer.set_state_dict(state, scope=target.program.scope)
    target.done = BEFORE


def test_saved_and_loaded_in_a_fresh_process(tmp_path: Path) -> None:
    prefix, out = str(tmp_path / "saved"), str(tmp_path / "out")
    first = training().start().train(BEFORE)
    first.save(prefix)
    expected = first.train(AFTER).values()
    code = (
        "from support.resumable_program import resume_from_file\n"
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
    for startup in (0, 1):
        assert training().load(f"{out}{startup}", BEFORE + AFTER).values() == expected


def test_the_program_s_own_state_dict(tmp_path: Path) -> None:
    first = training().start().train(BEFORE)
    state = first.program.main.state_dict("all", first.program.scope)
    paddle.save(state, str(tmp_path / "state"))
    paddle.save(first.scheduler.state_dict(), str(tmp_path / "scheduler"))
    expected = first.train(AFTER).values()
    second = training().start()
    second.program.main.set_state_dict(paddle.load(str(tmp_path / "state")), second.program.scope)
    second.scheduler.set_state_dict(paddle.load(str(tmp_path / "scheduler")))
    second.done = BEFORE
    assert second.train(AFTER).values() == expected


@pytest.mark.parametrize("startup", [True, False])
def test_the_optimizer_s_state_dict(tmp_path: Path, startup: bool) -> None:
    first = training(grouped=False).start().train(BEFORE)
    params = params_of(first)
    paddle.save(first.optimizer.state_dict(scope=first.program.scope), str(tmp_path / "state"))
    expected = first.train(AFTER).values()
    second = later_training(grouped=False)
    if startup:
        second.start()
    else:  # only the learning rate is no state of the optimizer's, nor a parameter
        rate = next(n for n in second.program.state_names() if n.startswith("learning_rate"))
        second.program.write(rate, np.zeros_like(first.program.read("learning_rate_0")))
    resume(second, params, paddle.load(str(tmp_path / "state")))
    assert by_kind(second.train(AFTER).values()) == by_kind(expected)


def test_what_the_state_dict_holds() -> None:
    first = training().start().train(2)
    with paddle.static.scope_guard(first.program.scope):
        state = first.optimizer.state_dict()  # of the global scope
    assert set(state) == {
        *(f"{tensor.name}_moment{which}_0" for tensor in TENSORS for which in (1, 2)),
        *(f"{tensor.name}_step_0" for tensor in TENSORS),
        "master_weights",
        "LR_Scheduler",
    }
    assert set(state["master_weights"]) == {"half"}
    assert np.array(state["w_step_0"]).tolist() == [2]
    before = np.array(state["w_moment1_0"])
    assert before.shape == (5, 3)
    assert before.any()
    first.train(1)
    assert np.array(state["w_step_0"]).tolist() == [3]  # the very memory
    assert not np.array_equal(before, np.array(state["w_moment1_0"]))


def test_step_counts_follow_their_parameters_into_other_groups() -> None:
    first = training().start().train(1)
    first.program.write("radam_step_0", np.array([5, 6, 7, 8]))
    first.program.write("radam_step_1", np.array([9]))
    state = first.optimizer.state_dict(scope=first.program.scope)
    second = training(grouped=False).start()
    second.optimizer.set_state_dict(state, scope=second.program.scope)
    assert second.program.read("radam_step_0").tolist() == [9, 5, 6, 7, 8]


def test_the_program_s_counts_say_little_in_other_groups(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("RADAM_CODEGEN_STATE_LAYOUT", "per_parameter")
    first = training().start().train(BEFORE)
    scope = first.program.scope
    state = copied(first.program.main.state_dict("opt", scope))
    state["LR_Scheduler"] = first.scheduler.state_dict()
    second = training(grouped=False).start()
    second.optimizer.set_state_dict(state, scope=second.program.scope)
    assert second.program.read("radam_step_0").tolist() == [BEFORE] * len(TENSORS)
    # The same groups, with the same names: their order is known.
    state["radam_step_1"][0] += 1
    third = training().start()
    third.optimizer.set_state_dict(state, scope=third.program.scope)
    assert third.program.read("radam_step_1").tolist() == [BEFORE + 1]
    with pytest.raises(CheckpointError, match=r"save the state_dict\(\) of the optimizer"):
        second.optimizer.set_state_dict(state, scope=second.program.scope)


def test_a_program_s_state_dict_may_hold_more() -> None:
    tensors = [Tensor("w", (3,))]

    def two_optimizers() -> FedProgram:
        def minimize(optimizer: Any, loss: Any) -> Any:
            paddle.optimizer.Momentum(0.1, name="other").minimize(loss)
            return optimizer.minimize(loss)

        with paddle.utils.unique_name.guard():
            return FedProgram(tensors, lambda params: rc.RAdam(0.1), minimize).start()

    first, second = two_optimizers(), two_optimizers()
    first.step([np.ones(3, "float32")])
    state = first.main.state_dict("all", first.scope)
    assert any("velocity" in name for name in state)
    second.optimizer.set_state_dict(state, scope=second.scope)
    np.testing.assert_array_equal(second.read("w_moment1_0"), first.read("w_moment1_0"))
    assert second.read("radam_step_0").tolist() == [1]


def test_between_programs_and_dynamic_graph() -> None:
    tensors = (Tensor("w", (5, 3)), Tensor("scalar", ()))
    with paddle.utils.unique_name.guard():
        first = ProgramTraining(tensors=tensors).start().train(BEFORE)
    state = first.optimizer.state_dict(scope=first.program.scope)
    values = copied(state)
    paddle.disable_static()
    params = {
        tensor.name: paddle.create_parameter(list(tensor.shape), "float32") for tensor in tensors
    }
    for name, param in params.items():
        param.name = name
    optimizer = rc.RAdam(first.scheduler, parameters=list(params.values()))
    optimizer.set_state_dict(state)
    back = optimizer.state_dict()
    paddle.enable_static()
    with paddle.utils.unique_name.guard():
        second = ProgramTraining(tensors=tensors).start()
    second.optimizer.set_state_dict(back, scope=second.program.scope)
    for name, value in copied(second.optimizer.state_dict(scope=second.program.scope)).items():
        assert np.all(value == values[name]), name
    assert values["w_step_0"].tolist() == [BEFORE]


def test_before_there_is_any_state() -> None:
    optimizer = rc.RAdam()
    assert optimizer.state_dict() == {}
    with pytest.raises(ProgramError, match="minimize"):
        optimizer.set_state_dict({})
    program = FedProgram([Tensor("w", (3,))], lambda params: rc.RAdam())
    with pytest.raises(ProgramError, match=r"radam_moment1_.*startup"):
        program.optimizer.state_dict(scope=program.scope)
    with pytest.raises(ProgramError, match="startup"):
        program.optimizer.native_state_dict(scope=program.scope)
    program.start()
    state = program.optimizer.state_dict(scope=program.scope)
    assert {name.rsplit("_", 1)[0]: np.array(value).tolist() for name, value in state.items()} == {
        "w_moment1": [0, 0, 0],
        "w_moment2": [0, 0, 0],
        "w_step": [0],
    }


def test_a_scope_must_be_one() -> None:
    program = FedProgram([Tensor("w", (3,))], lambda params: rc.RAdam()).start()
    for call in (
        lambda: program.optimizer.state_dict(scope="global"),
        lambda: program.optimizer.set_state_dict({}, scope="global"),
        lambda: program.optimizer.native_state_dict(scope="global"),
    ):
        with pytest.raises(ArgumentTypeError, match="scope"):
            call()
