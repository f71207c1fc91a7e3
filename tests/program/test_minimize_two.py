"""Two optimizers over two losses in one program, as a GAN has them, on a stock Executor."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np
import paddle
import pytest
from support.reference import ReferenceState, reference_step
from support.static_programs import program_text

import radam_codegen as rc
from radam_codegen.ir.dtypes import DType
from radam_codegen.ir.plan import Clip, ClipKind, Decay, DecayKind, GroupPlan, TensorPlan

pytestmark = pytest.mark.usefixtures("static_mode")

SHAPE = (5, 3)
ELEMENTS = 15.0
F32 = DType.FLOAT32

#: What each side's optimizer is given, and what that comes to.
CRITIC = GroupPlan(
    (TensorPlan("critic", SHAPE, F32, F32, F32, decay=Decay(DecayKind.L2, 0.1)),),
    clip=Clip(ClipKind.GLOBAL_NORM, 0.5),
)
MAKER = GroupPlan(
    (TensorPlan("maker", SHAPE, F32, F32, F32, decay=Decay(DecayKind.L1, 0.05)),),
    beta1=0.5,
    beta2=0.95,
    clip=Clip(ClipKind.VALUE, 0.3, -0.3),
)
STARTS = {"critic": 0.75, "maker": -0.25}


@dataclass
class Side:
    """One player: its loss, its optimizer, its scheduler, and its float64 reference."""

    name: str
    loss: Any
    scheduler: Any
    result: Any
    plan: GroupPlan
    state: ReferenceState

    def fetches(self, form: str) -> list[Any]:
        operations, _ = self.result
        return {
            "loss and result": [self.loss, self.result],
            "loss and operators": [self.loss, operations],
            "result": [self.result],
        }[form]


class Game:
    """``critic`` is to tell ``real`` from ``maker * noise``; ``maker`` is to fool it."""

    def __init__(self) -> None:
        self.main, self.startup = paddle.static.Program(), paddle.static.Program()
        self.scope = paddle.static.Scope()
        self.executor = paddle.static.Executor(paddle.CPUPlace())
        rates = {
            "critic": paddle.optimizer.lr.StepDecay(0.05, step_size=3, gamma=0.5),
            "maker": paddle.optimizer.lr.LambdaDecay(0.02, lambda step: 1.0 + step % 4),
        }
        names = paddle.utils.unique_name.guard()
        with names, paddle.static.program_guard(self.main, self.startup):
            noise = paddle.static.data("noise", SHAPE, "float32")
            real = paddle.static.data("real", SHAPE, "float32")
            critic, maker = (_parameter(name) for name in ("critic", "maker"))
            fake = maker * noise
            losses = {
                "critic": paddle.scale(paddle.mean(critic * (fake - real)), ELEMENTS),
                "maker": paddle.scale(paddle.mean(critic * fake), -ELEMENTS),
            }
            results = {
                "critic": rc.RAdam(
                    rates["critic"],
                    parameters=[critic],
                    weight_decay=0.1,
                    grad_clip=paddle.nn.ClipGradByGlobalNorm(0.5),
                ).minimize(losses["critic"]),
                "maker": rc.RAdam(
                    rates["maker"],
                    beta1=0.5,
                    beta2=0.95,
                    parameters=["maker"],
                    weight_decay=paddle.regularizer.L1Decay(0.05),
                    grad_clip=paddle.nn.ClipGradByValue(0.3),
                ).minimize(losses["maker"]),
            }
        self.sides = {
            plan.tensors[0].name: Side(
                name,
                losses[name],
                rates[name],
                results[name],
                plan,
                ReferenceState(np.full(SHAPE, STARTS[name]), np.zeros(SHAPE), np.zeros(SHAPE)),
            )
            for name, plan in (("critic", CRITIC), ("maker", MAKER))
        }
        self.executor.run(self.startup, scope=self.scope)

    def run(self, feed: dict[str, Any], fetch_list: Any, **more: Any) -> list[Any]:
        results: list[Any] = self.executor.run(
            self.main, feed=feed, fetch_list=fetch_list, scope=self.scope, **more
        )
        return results

    def step(self, name: str, form: str, seed: int) -> list[Any]:
        """One pruned step of one side and of its reference; only what it needs is fed."""
        side = self.sides[name]
        feed = batch(seed)
        if name == "maker":
            del feed["real"]
        given = dict(feed)
        results = self.run(feed, side.fetches(form))
        assert feed.keys() == given.keys()
        self.reference(name, seed)
        side.scheduler.step()
        return results

    def reference(self, name: str, seed: int) -> None:
        side = self.sides[name]
        data = {key: value.astype(np.float64) for key, value in batch(seed).items()}
        critic, maker = (self.sides[each].state.param for each in ("critic", "maker"))
        gradient = {
            "critic": maker * data["noise"] - data.get("real", 0.0),
            "maker": -critic * data["noise"],
        }[name]
        reference_step(side.plan, [side.state], [gradient], side.scheduler())

    def read(self, name: str) -> Any:
        return np.array(self.scope.find_var(name).get_tensor())

    def steps(self) -> list[int]:
        """Steps that each optimizer has done."""
        return [int(self.read(f"radam_step_{index}").item()) for index in range(2)]

    def check(self) -> None:
        for name, side in self.sides.items():
            np.testing.assert_allclose(
                self.read(name), side.state.param, rtol=2e-5, atol=2e-6, err_msg=name
            )


def _parameter(name: str) -> Any:
    initial = paddle.nn.initializer.Constant(STARTS[name])
    return paddle.create_parameter(
        list(SHAPE), "float32", attr=paddle.ParamAttr(name=name, initializer=initial)
    )


def batch(seed: int) -> dict[str, Any]:
    random = np.random.default_rng(seed)
    return {name: random.standard_normal(SHAPE).astype("float32") for name in ("noise", "real")}


FORMS = ["loss and result", "loss and operators", "result"]


@pytest.mark.parametrize("form", FORMS)
def test_alternating_pruned_steps_follow_two_references(form: str) -> None:
    game = Game()
    before = program_text(game.main), program_text(game.startup)
    for seed in range(14):
        name = "maker" if seed % 3 == 2 else "critic"
        game.step(name, form, seed)
        game.check()
    rates = [game.sides[name].scheduler() for name in ("critic", "maker")]
    assert len(set(rates)) == 2
    assert (program_text(game.main), program_text(game.startup)) == before
    assert game.steps() == [10, 4]


def test_a_pruned_step_returns_the_loss() -> None:
    game = Game()
    data = batch(0)
    (loss,) = game.step("critic", "loss and result", 0)
    expected = np.sum(0.75 * (-0.25 * data["noise"] - data["real"]))
    np.testing.assert_allclose(loss, expected, rtol=1e-5)
    assert not game.step("maker", "result", 1)


def test_an_unpruned_run_steps_both_in_the_order_of_the_program() -> None:
    game = Game()
    for seed in range(9):
        game.run(batch(seed), [game.sides["critic"].loss])
        for name, side in game.sides.items():
            game.reference(name, seed)
            side.scheduler.step()
        game.check()


def test_both_in_one_fetch_list_step_both() -> None:
    game = Game()
    critic, maker = game.sides["critic"], game.sides["maker"]
    game.run(batch(0), [critic.loss, critic.result[0], maker.result[0]])
    assert game.steps() == [1, 1]


def test_use_prune_without_operators_steps_both() -> None:
    game = Game()
    game.run(batch(0), [game.sides["critic"].loss], use_prune=True)
    assert game.steps() == [1, 1]
