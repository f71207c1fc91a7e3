"""Moments in one tensor per group, or one per parameter: what differs, and the ways between."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import paddle
import pytest
from support.resumable_program import TENSORS, ProgramTraining
from support.static_programs import IN_PIR, FedProgram, Tensor, program_text, random_gradients

import radam_codegen as rc
from radam_codegen.config import STATE_LAYOUTS
from radam_codegen.errors import CheckpointError, ConfigError
from radam_codegen.ir.launch import LaunchSpec
from radam_codegen.ir.plan import StateLayout

pytestmark = pytest.mark.usefixtures("static_mode")

LAYOUT = "RADAM_CODEGEN_STATE_LAYOUT"
BEFORE, AFTER = 3, 4
BOTH_WAYS = pytest.mark.parametrize(("old", "new"), [STATE_LAYOUTS, STATE_LAYOUTS[::-1]])


def training(grouped: bool = True) -> ProgramTraining:
    """A program whose variables are named as in a fresh process."""
    with paddle.utils.unique_name.guard():
        return ProgramTraining(grouped)


def parameters(source: ProgramTraining) -> dict[str, Any]:
    return {tensor.name: source.program.read(tensor.name) for tensor in TENSORS}


def go_on(target: ProgramTraining, params: dict[str, Any], state: dict[str, Any]) -> dict[str, Any]:
    """Parameters after some steps from a checkpoint on."""
    target.start()
    for name, value in params.items():
        target.program.write(name, value)
    target.optimizer.set_state_dict(state, scope=target.program.scope)
    target.done = BEFORE
    return parameters(target.train(AFTER))


def assert_same(actual: dict[str, Any], expected: dict[str, Any]) -> None:
    for name, value in expected.items():
        assert actual[name].tobytes() == value.tobytes(), name


@BOTH_WAYS
@pytest.mark.parametrize("whose", ["optimizer", "program"])
def test_a_checkpoint_of_the_other_layout(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path, old: str, new: str, whose: str
) -> None:
    monkeypatch.setenv(LAYOUT, old)
    first = training().start().train(BEFORE)
    params, scope = parameters(first), first.program.scope
    if whose == "optimizer":
        state = first.optimizer.state_dict(scope=scope)
    else:
        state = first.program.main.state_dict("opt", scope)
        state["LR_Scheduler"] = first.scheduler.state_dict()
    paddle.save(state, str(tmp_path / "state"))
    expected = parameters(first.train(AFTER))
    monkeypatch.setenv(LAYOUT, new)
    assert_same(go_on(training(), params, paddle.load(str(tmp_path / "state"))), expected)


def test_a_program_s_flat_state_in_dynamic_graph() -> None:
    tensors = [Tensor("w", (5, 3)), Tensor("v", ()), Tensor("d", (2,), "float64")]
    with paddle.utils.unique_name.guard():
        program = FedProgram(tensors, lambda params: rc.RAdam(0.1)).start()
    for grads in random_gradients(tensors, 2):
        program.step(grads)
    state = program.main.state_dict("opt", program.scope)
    expected = {name: program.read(name) for name in ("w_moment1_0", "v_moment2_0", "d_moment1_0")}
    paddle.disable_static()
    params = [paddle.create_parameter(list(each.shape), each.dtype) for each in tensors]
    for param, tensor in zip(params, tensors):
        param.name = tensor.name
    optimizer = rc.RAdam(0.1, parameters=params)
    optimizer.set_state_dict(state)
    loaded = {name.rpartition("_")[0]: each for name, each in optimizer.state_dict().items()}
    for name, value in expected.items():
        np.testing.assert_array_equal(loaded[name.rpartition("_")[0]].numpy(), value)
    assert loaded["w_step"].item() == 2


def test_flat_moments_of_other_groups_are_refused() -> None:
    first = training().start().train(1)
    state = first.program.main.state_dict("opt", first.program.scope)
    state["LR_Scheduler"] = first.scheduler.state_dict()
    second = training(grouped=False).start()
    before = second.values()
    with pytest.raises(
        CheckpointError, match=r"radam_moment1_\w+_0'.* several parameters.*groups?"
    ):
        second.optimizer.set_state_dict(state, scope=second.program.scope)
    assert second.values() == before


@BOTH_WAYS
def test_paddle_loads_no_other_layout(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path, old: str, new: str
) -> None:
    monkeypatch.setenv(LAYOUT, old)
    training().start().train(1).save(str(tmp_path / "saved"))
    monkeypatch.setenv(LAYOUT, new)
    second = training().start()
    with pytest.raises((AssertionError, RuntimeError), match=r"_moment\d_"):
        second.load(str(tmp_path / "saved"), 1)


def test_equal_sizes_of_other_parameters_have_other_names(tmp_path: Path) -> None:
    def saved_by(shape: tuple[int, ...]) -> FedProgram:
        with paddle.utils.unique_name.guard():
            tensors = [Tensor("a", shape), Tensor("b", shape[::-1])]
            return FedProgram(tensors, lambda params: rc.RAdam(0.1)).start()

    names = [
        saved_by(shape).optimizer.get_opti_var_name_list() for shape in ((2, 8), (8, 2), (2, 8))
    ]
    assert names[0] == names[2]
    assert not set(names[0]) & set(names[1])


@pytest.mark.parametrize("layout", STATE_LAYOUTS)
def test_a_loss_that_reaches_some_parameters_of_another(
    monkeypatch: pytest.MonkeyPatch, layout: str
) -> None:
    """The second update finds the moments of the first; its own may be laid out otherwise."""
    tensors = [Tensor("a", (3,)), Tensor("b", (17,)), Tensor("c", (2, 2))]
    grads = random_gradients(tensors, 4)

    def twice(optimizer: Any, loss: Any) -> Any:
        operations = optimizer.minimize(loss, parameters=["a", "c"])[0]
        monkeypatch.setenv(LAYOUT, layout)
        return operations, optimizer.minimize(loss, parameters=["c", "b"])[0]

    monkeypatch.setenv(LAYOUT, "flat")
    with paddle.utils.unique_name.guard():
        program = FedProgram(tensors, lambda params: rc.RAdam(0.1), twice).start()
    twin = FedProgram(tensors, lambda params: rc.RAdam(0.1)).start()
    first, second = program.result
    for number, grad in enumerate(grads):
        program.step(grad, [first if number % 2 else second])
        kept = twin.values()
        twin.step(grad)
        twin.write("b" if number % 2 else "a", kept[1 if number % 2 else 0])
    # "c" stepped four times in both.
    np.testing.assert_array_equal(program.read("c"), twin.read("c"))
    for name, count in (("a", 2), ("b", 2), ("c", 4)):
        state = program.optimizer.state_dict(scope=program.scope)
        assert np.array(state[f"{name}_step_0"]).tolist() == [count]
        assert np.array(state[f"{name}_moment1_0"]).any()
    assert len(program.optimizer.get_opti_var_name_list()) == 4  # two of either moment


def test_a_flat_moment_of_another_size_is_refused() -> None:
    tensors = [Tensor("a", (3,)), Tensor("b", (5,))]
    program = FedProgram(tensors, lambda params: rc.RAdam(0.1)).start()
    name = program.optimizer.get_opti_var_name_list()[1]
    for size in (20, 22):
        program.write(name, np.zeros(size, "float32"))
        before = program.values()
        with pytest.raises(ValueError, match=f"the moment2 has {size} elements where 21 must be"):
            program.step([np.ones(3, "float32"), np.ones(5, "float32")])
        assert [each.tobytes() for each in program.values()] == [b.tobytes() for b in before]


def test_the_layout_is_in_plan_and_program(monkeypatch: pytest.MonkeyPatch) -> None:
    tensors = [Tensor("b", (3,)), Tensor("a", (5,))]
    flat = FedProgram(tensors, lambda params: rc.RAdam(0.1))
    monkeypatch.setenv(LAYOUT, "per_parameter")
    apart = FedProgram(tensors, lambda params: rc.RAdam(0.1))
    assert flat.optimizer.plan.layout is StateLayout.FLAT
    assert apart.optimizer.plan.layout is StateLayout.PER_PARAMETER
    assert "state layout flat" in str(flat.optimizer.plan)
    # A program of separate moments is as it was before there were others.
    spec = LaunchSpec.from_group(apart.optimizer.plan.groups[0], drops_results=IN_PIR)
    text = spec.to_text().replace('"', '\\"')
    assert text[-20:] in program_text(apart.main)
    assert '"moments' not in program_text(apart.main).replace("\\", "")


def test_there_are_two_layouts() -> None:
    assert {layout.value for layout in StateLayout} == set(STATE_LAYOUTS)
    with pytest.raises(ConfigError, match="flat, per_parameter"):
        rc.config(state_layout="rows")


@pytest.mark.skipif(IN_PIR, reason="PIR skips what it does not know without a word")
@BOTH_WAYS
def test_a_program_warns_of_another_layout(
    monkeypatch: pytest.MonkeyPatch, old: str, new: str
) -> None:
    monkeypatch.setenv(LAYOUT, old)
    first = training().start().train(1)
    state = first.program.main.state_dict("opt", first.program.scope)
    monkeypatch.setenv(LAYOUT, new)
    second = training().start()
    with pytest.warns(UserWarning, match=r"_moment1_.* not in the program"):
        second.program.main.set_state_dict(state, second.program.scope)
