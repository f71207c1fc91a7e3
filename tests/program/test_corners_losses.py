"""One optimizer that minimizes several losses, in one program and in two."""

from __future__ import annotations

from typing import Any

import numpy as np
import paddle
import pytest
from support.small_programs import SmallProgram, parameter
from support.static_programs import persistable_names, program_text

import radam_codegen as rc
from radam_codegen.config import STATE_LAYOUTS

pytestmark = pytest.mark.usefixtures("static_mode")

LR = 0.01
STEPS = 12
NAMES = ("a", "b", "c")
X = np.array([1.0, 2.0, 3.0], "float32")


def losses(which: str, x: Any, weights: list[Any]) -> list[Any]:
    """Two losses: of the same parameters, of parameters of their own, or sharing one of them."""
    a, b, c = weights
    first, second = {
        "same": (a * b * c, a * a * b * c),
        "disjoint": (a * a, b * b * c),
        "overlapping": (a * b * b, b * c),
    }[which]
    return [paddle.mean(x * first), paddle.mean(x * second)]


def minimized(optimizer: Any, which: str) -> list[Any]:
    x = paddle.static.data("x", [3], "float32")
    weights = [parameter(name) for name in NAMES]
    opt = optimizer(LR)
    return [opt.minimize(loss) for loss in losses(which, x, weights)]


@pytest.mark.parametrize("which", ["same", "disjoint", "overlapping"])
def test_two_losses_in_one_run(which: str) -> None:
    ours = SmallProgram(lambda: minimized(rc.RAdam, which)).start()
    native = SmallProgram(lambda: minimized(paddle.optimizer.RAdam, which)).start()
    for step in range(STEPS):
        for program in (ours, native):
            program.run(x=X)
        for name in NAMES:
            np.testing.assert_allclose(
                ours.read(name), native.read(name), 2e-5, 2e-6, err_msg=f"step {step}, {name}"
            )


@pytest.mark.parametrize("which", ["same", "disjoint", "overlapping"])
def test_pruned_to_one_loss_at_a_time(which: str) -> None:
    program = SmallProgram(lambda: minimized(rc.RAdam, which)).start()
    turns = [0, 1, 0, 0, 1, 1, 1, 0, 1, 0, 1, 0]
    for step, values in enumerate(dynamic(which, turns)):
        program.run(fetch_list=[program.result[turns[step]]], x=X)
        for name in NAMES:
            np.testing.assert_allclose(
                program.read(name), values[name], 2e-5, 2e-6, err_msg=f"step {step}, {name}"
            )


def dynamic(which: str, turns: list[int]) -> list[dict[str, Any]]:
    """The same with one native optimizer in dynamic graph; parameters count their own steps."""
    paddle.disable_static()
    try:
        weights = [parameter(name) for name in NAMES]
        optimizer = paddle.optimizer.RAdam(LR, parameters=weights)
        values = []
        for turn in turns:
            losses(which, paddle.to_tensor(X), weights)[turn].backward()
            optimizer.step()
            optimizer.clear_grad(set_to_zero=False)
            values.append({each.name: each.numpy() for each in weights})
        return values
    finally:
        paddle.enable_static()


@pytest.mark.parametrize("layout", STATE_LAYOUTS)
def test_several_updates_share_the_state(monkeypatch: pytest.MonkeyPatch, layout: str) -> None:
    monkeypatch.setenv("RADAM_CODEGEN_STATE_LAYOUT", layout)
    program = SmallProgram(lambda: minimized(rc.RAdam, "overlapping")).start()
    program.run(x=X)
    state = program.read("radam_step_0"), program.read("radam_step_1")
    assert [sorted(counts.tolist()) for counts in state] == [[1, 2], [1]]
    moments = [name for name in persistable_names(program.main) if "_moment1_" in name]
    assert len(moments) == (len(NAMES) if layout == "per_parameter" else 2)


def test_a_loss_of_updated_parameters() -> None:
    # Built after the first update, it is computed from what that has written.
    def build(optimizer: Any) -> None:
        x = paddle.static.data("x", [3], "float32")
        weight = parameter("weight")
        for rate in (0.01, 0.02):
            optimizer(rate).minimize(paddle.mean(x * weight * weight))

    ours = SmallProgram(lambda: build(rc.RAdam)).start()
    native = SmallProgram(lambda: build(paddle.optimizer.RAdam)).start()
    for _ in range(STEPS):
        for program in (ours, native):
            program.run(x=X)
        np.testing.assert_allclose(ours.read("weight"), native.read("weight"), 2e-5, 2e-6)


@pytest.mark.parametrize("name", [None, "mine"])
def test_two_programs_have_states_of_their_own(name: str | None) -> None:
    optimizer = rc.RAdam(LR, name=name)

    def build() -> None:
        x = paddle.static.data("x", [3], "float32")
        weight = parameter("weight")
        optimizer.minimize(paddle.mean(x * weight * weight))

    first, second = SmallProgram(build).start(), SmallProgram(build).start()
    expected = SmallProgram(lambda: minimized(rc.RAdam, "disjoint")).start()
    for step in range(STEPS):
        expected.run(x=X)
        first.run(x=X)
        if step >= 4:
            second.run(x=X)
        if step == STEPS - 5:
            early = expected.read("a")
    np.testing.assert_array_equal(first.read("weight"), expected.read("a"))
    np.testing.assert_array_equal(second.read("weight"), early)


def test_a_refused_minimize_can_be_called_again() -> None:
    def build() -> Any:
        x = paddle.static.data("x", [3], "float32")
        half = parameter("half", dtype="bfloat16")
        loss = paddle.mean(x * parameter("full") * paddle.cast(half, "float32"))
        optimizer = rc.RAdam(LR, multi_precision=True)
        main, startup = loss.block.program, paddle.static.default_startup_program()
        before = program_text(main)
        stranger = paddle.static.Program()
        # Master weights start from parameters, which this startup program has none of.
        with pytest.raises(ValueError, match="half"):
            optimizer.minimize(loss, startup_program=stranger)
        assert program_text(main) == before
        assert not stranger.global_block().ops
        return optimizer.minimize(loss, startup_program=startup)

    program = SmallProgram(build).start()
    program.run(x=X, fetch_list=[program.result])
    assert program.read("full")[0] < 0.5
    assert program.read("half_fp32_master_0")[0] < 0.5
