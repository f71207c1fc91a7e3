"""An optimizer inside of a branch, as Paddle's own tests have it."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np
import paddle
import pytest
from support.small_programs import SmallProgram, parameter
from support.static_programs import IN_PIR, program_text

import radam_codegen as rc

pytestmark = pytest.mark.usefixtures("static_mode")

# There `paddle.logical_not`, which every second branch is built with, takes PIR values only.
two_branches = pytest.mark.skipif(
    not IN_PIR, reason="Paddle 3.3.1 builds no second branch in the legacy IR"
)

STEPS = 12
X = np.array([1.0, 2.0, 3.0], "float32")
SQUARE, CUBE = 0, 1


def loss_of(kind: int, x: Any, weight: Any) -> Any:
    product = x * weight * weight
    return paddle.mean(product if kind == SQUARE else product * weight)


def expected(kinds: list[int | None]) -> list[list[float]]:
    """Values of the weight in dynamic graph, each kind of loss with its own native optimizer."""
    paddle.disable_static()
    try:
        weight = parameter("expected")
        rates = {SQUARE: 0.01, CUBE: 0.02}
        native = {
            kind: paddle.optimizer.RAdam(rate, parameters=[weight]) for kind, rate in rates.items()
        }
        values = []
        for kind in kinds:
            if kind is not None:
                loss_of(kind, paddle.to_tensor(X), weight).backward()
                native[kind].step()
                native[kind].clear_grad()
            values.append(weight.numpy().tolist())
        return values
    finally:
        paddle.enable_static()


def follow(build: Callable[[Any, Any], Any], kinds: list[int | None], names: list[str]) -> None:
    """Run with the branch 0 or 1 in turn, and compare the named weights after every step."""

    def built() -> None:
        build(paddle.static.data("x", [3], "float32"), paddle.static.data("branch", [1], "int32"))

    program = SmallProgram(built).start()
    values = expected(kinds)
    for step in range(STEPS):
        program.run(x=X, branch=np.array([step % 2], "int32"))
        actual = program.read(names[step % len(names)])
        np.testing.assert_allclose(actual, values[step], 1e-5, err_msg=f"step {step}")


def is_zero(branch: Any) -> Any:
    return paddle.equal(branch, paddle.full([1], 0, "int32"))


@two_branches
@pytest.mark.parametrize("form", ["case", "cond", "switch_case"])
@pytest.mark.parametrize("loss_inside", [True, False])
def test_branches_that_train_one_parameter(form: str, loss_inside: bool) -> None:
    def build(x: Any, branch: Any) -> None:
        weight = parameter("weight")
        outside = [loss_of(SQUARE, x, weight), loss_of(CUBE, x, weight)]
        optimizers = [rc.RAdam(0.01), rc.RAdam(0.02)]

        def train(kind: int) -> Callable[[], Any]:
            def minimized() -> Any:
                loss = loss_of(kind, x, weight) if loss_inside else outside[kind]
                optimizers[kind].minimize(loss)
                return loss

            return minimized

        if form == "case":
            paddle.static.nn.case([(is_zero(branch), train(SQUARE))], default=train(CUBE))
        elif form == "cond":
            paddle.static.nn.cond(is_zero(branch), train(SQUARE), train(CUBE))
        else:
            paddle.static.nn.switch_case(branch, [train(SQUARE), train(CUBE)])

    follow(build, [SQUARE, CUBE] * (STEPS // 2), ["weight"])


@two_branches
def test_parameters_of_a_branch_are_trained() -> None:
    # Native RAdam finds no parameter there, and says nothing.
    def build(x: Any, branch: Any) -> None:
        def train() -> Any:
            loss = loss_of(SQUARE, x, parameter("inner"))
            rc.RAdam(0.01).minimize(loss)
            return loss

        paddle.static.nn.cond(is_zero(branch), train, lambda: paddle.mean(x))

    follow(build, [SQUARE, None] * (STEPS // 2), ["inner"])


@two_branches
def test_one_optimizer_in_both_branches() -> None:
    # The step counts go on from branch to branch, as the moments do.
    def build(x: Any, branch: Any) -> None:
        weight = parameter("weight")
        optimizer = rc.RAdam(0.01)

        def train() -> Any:
            loss = loss_of(SQUARE, x, weight)
            optimizer.minimize(loss)
            return loss

        paddle.static.nn.cond(is_zero(branch), train, train)

    follow(build, [SQUARE] * STEPS, ["weight"])


@two_branches
def test_nothing_to_train_in_either_branch() -> None:
    def build() -> Any:
        x = paddle.static.data("x", [3], "float32")
        x.stop_gradient = False
        branch = paddle.static.data("branch", [1], "int32")
        results = []

        def train() -> None:
            results.append(rc.RAdam(0.01).minimize(paddle.mean(x * x)))

        paddle.static.nn.case([(is_zero(branch), train)], default=train)
        return results

    program = SmallProgram(build).start()
    assert program.result == [([], []), ([], [])]
    program.run(x=X, branch=np.array([0], "int32"))


@pytest.mark.parametrize("loss_inside", [True, False])
def test_a_branch_that_may_be_left_out(loss_inside: bool) -> None:
    def build(x: Any, branch: Any) -> None:
        weight = parameter("weight")
        outside = loss_of(SQUARE, x, weight)
        optimizer = rc.RAdam(0.01)

        def train() -> None:
            optimizer.minimize(loss_of(SQUARE, x, weight) if loss_inside else outside)

        paddle.static.nn.cond(is_zero(branch), train)

    follow(build, [SQUARE, None] * (STEPS // 2), ["weight"])


def test_gradients_from_outside_are_applied_in_a_branch() -> None:
    def build(x: Any, branch: Any) -> None:
        optimizer = rc.RAdam(0.01)
        params_grads = optimizer.backward(loss_of(SQUARE, x, parameter("weight")))

        def train() -> None:
            optimizer.apply_gradients(params_grads)

        paddle.static.nn.cond(is_zero(branch), train)

    follow(build, [SQUARE, None] * (STEPS // 2), ["weight"])


@two_branches
def test_a_refused_update_leaves_the_branch_as_it_was() -> None:
    def build() -> Any:
        x = paddle.static.data("x", [3], "float32")
        branch = paddle.static.data("branch", [1], "int32")
        weight = parameter("weight")
        texts = []

        def train() -> Any:
            loss = loss_of(SQUARE, x, weight)
            optimizer = rc.RAdam(0.01)
            optimizer._set_auxiliary_var("found_inf", branch)
            texts.append(program_text(loss.block.program))
            with pytest.raises(TypeError, match="must hold one bool"):
                optimizer.minimize(loss)
            texts.append(program_text(loss.block.program))
            return loss

        paddle.static.nn.cond(is_zero(branch), train, lambda: paddle.mean(x))
        return texts

    before, after = SmallProgram(build).result
    assert before == after
