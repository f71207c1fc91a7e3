"""What cannot be lowered or raised, after which programs and scope are as they were."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np
import paddle
import pytest
from support.small_programs import SmallProgram, parameter
from support.static_programs import IN_PIR, program_text

import radam_codegen as rc
from radam_codegen.program.lowering import replacement

pytestmark = pytest.mark.usefixtures("static_mode")

X = np.array([1.0, 2.0, 3.0], "float32")


def network(optimizer: Any, **options: Any) -> Callable[[], Any]:
    def build() -> Any:
        x = paddle.static.data("x", [3], "float32")
        loss = paddle.mean(x * paddle.cast(parameter("w", **options), "float32") * parameter("v"))
        rates = paddle.optimizer.lr.StepDecay(0.05, 3)
        made = optimizer(rates)
        made.minimize(loss)
        return made

    return build


def native(rate: Any) -> Any:
    clip = paddle.nn.ClipGradByNorm(0.5)
    return paddle.optimizer.RAdam(rate, weight_decay=0.1, grad_clip=clip)


class Refused:
    """A program that a call must refuse, and leave alone."""

    def __init__(self, build: Callable[[], Any]) -> None:
        self.program = SmallProgram(build)

    def state(self) -> Any:
        scope = self.program.scope
        arrays = {}
        for name in ("w", "v", "w_moment1_0", "w_rho_0", "v_rho_0", "radam_step_0"):
            variable = scope.find_var(name)
            if variable is not None and variable.get_tensor()._is_initialized():
                arrays[name] = np.array(variable.get_tensor()).tobytes()
        main, startup = self.program.main, self.program.startup
        scheduler = getattr(main, "lr_scheduler", None)
        return program_text(main), program_text(startup), scheduler, arrays

    def refuses(
        self, call: Callable[[], Any], message: str, kind: Any = rc.RadamCodegenError
    ) -> Any:
        before = self.state()
        with pytest.raises(kind, match=message) as caught:
            call()
        assert self.state() == before
        return caught.value

    def lower(self, **options: Any) -> Any:
        return rc.lower(self.program.main, **{"scope": self.program.scope, **options})

    def raised(self, **options: Any) -> Any:
        return rc.raise_native(self.program.main, **{"scope": self.program.scope, **options})

    def then_works(self) -> None:
        report = self.lower(startup_program=self.program.startup)
        assert report.matched == 2
        self.program.start().run(x=X)


def test_no_state_anywhere() -> None:
    refused = Refused(network(native))
    refused.refuses(refused.lower, "give lower.. the startup program")
    refused.then_works()


def test_a_part_of_the_state() -> None:
    refused = Refused(network(native))
    refused.program.start()
    refused.program.scope.find_var("v_rho_0").get_tensor()._clear()
    refused.refuses(refused.lower, "holds state of 'w' but nothing in 'v_rho_0'")


def test_state_of_no_number_of_steps() -> None:
    refused = Refused(network(native))
    refused.program.start().run(x=X)
    tensor = refused.program.scope.find_var("w_beta2_pow_0").get_tensor()
    tensor.set(np.full(3, 0.123, "float32"), paddle.CPUPlace())
    refused.refuses(refused.lower, "how many steps parameter 'w' has taken cannot be told")


def test_state_of_another_shape() -> None:
    refused = Refused(network(native))
    refused.program.start()
    tensor = refused.program.scope.find_var("w_moment1_0").get_tensor()
    tensor.set(np.zeros(4, "float32"), paddle.CPUPlace())
    refused.refuses(refused.lower, r"'w_moment1_0' has the shape \[4\] in the scope")


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ({"main_program": 1}, "main_program is a int"),
        ({"startup_program": "x"}, "startup_program is a str"),
        ({"scope": {}}, "scope is a paddle.static.Scope or None"),
        ({"target": "gpu"}, "there is no target 'gpu'"),
    ],
    ids=["program", "startup", "scope", "target"],
)
def test_arguments(arguments: dict[str, Any], message: str) -> None:
    refused = Refused(network(native))
    given = {"main_program": refused.program.main, **arguments}
    refused.refuses(lambda: rc.lower(**given), message)


def test_mode_off() -> None:
    refused = Refused(network(native))
    rc.config(mode="off")
    try:
        refused.refuses(refused.lower, "mode 'off'")
    finally:
        rc.config(mode=None)
    refused.then_works()


@pytest.mark.parametrize("done", [0, 1])
def test_what_interrupts_lowering_leaves_no_trace(
    monkeypatch: pytest.MonkeyPatch, done: int
) -> None:
    def build() -> None:
        x = paddle.static.data("x", [3], "float32")
        loss = paddle.mean(x * parameter("w") * parameter("v"))
        native(0.05).minimize(loss)
        native(paddle.optimizer.lr.StepDecay(0.1, 3)).minimize(loss * 2.0)

    refused = Refused(build)
    refused.program.start().run(x=X)
    real, left = replacement.emit_group, [done]

    def interrupted(*arguments: Any) -> Any:
        if not left[0]:
            real(*arguments)
            raise KeyboardInterrupt
        left[0] -= 1
        return real(*arguments)

    monkeypatch.setattr(replacement, "emit_group", interrupted)
    startup = refused.program.startup
    refused.refuses(lambda: refused.lower(startup_program=startup), "", KeyboardInterrupt)
    monkeypatch.undo()
    refused.program.run(x=X)
    assert refused.lower(startup_program=startup).converted == 4
    refused.program.run(x=X)


@pytest.mark.parametrize(
    ("optimizer", "options", "message"),
    [
        (
            lambda rate: rc.RAdam(rate, decoupled_weight_decay=True, weight_decay=0.1),
            {},
            "decoupled",
        ),
        (lambda rate: rc.RAdam(rate), {"dtype": "bfloat16"}, "'w' .* type bfloat16"),
        (
            lambda rate: rc.RAdam(rate, multi_precision=True),
            {"dtype": "bfloat16"},
            "'w' .* a master weight",
        ),
        (lambda rate: rc.RAdam(rate, beta2=1 - 1e-8), {}, "'[vw]' .* beta2 of 0.99999999, which"),
        (lambda rate: rc.RAdam(rate, beta1=1 - 1e-9), {}, "'[vw]' .* beta1 of 0.999999999, which"),
    ],
    ids=["decoupled decay", "bfloat16", "master weight", "beta2 near 1", "beta1 near 1"],
)
def test_what_native_does_not_have(optimizer: Any, options: Any, message: str) -> None:
    refused = Refused(network(optimizer, **options))
    startup = refused.program.startup
    refused.refuses(lambda: refused.raised(startup_program=startup), message)
    refused.program.start().run(x=X)


def test_a_beta2_that_is_one_in_float32_is_left_to_native() -> None:
    refused = Refused(network(lambda rate: paddle.optimizer.RAdam(rate, beta2=1 - 1e-8)))
    before = refused.state()
    report = refused.lower(startup_program=refused.program.startup)
    assert sorted(each.parameter for each in report.left) == ["v", "w"]
    assert all("its betas are 0.89" in each.reason for each in report.left)
    assert refused.state() == before


def test_what_is_read_at_each_step_is_not_raised() -> None:
    def build() -> None:
        x = paddle.static.data("x", [3], "float32")
        optimizer = rc.RAdam(0.05, weight_decay=paddle.static.data("decay", [1], "float32"))
        optimizer.minimize(paddle.mean(x * parameter("w") * parameter("v")))

    refused = Refused(build)
    startup = refused.program.startup
    refused.refuses(lambda: refused.raised(startup_program=startup), "read at each step")


def test_nothing_to_raise_from() -> None:
    refused = Refused(network(lambda rate: rc.RAdam(rate)))
    refused.refuses(refused.raised, "give raise_native.. the startup program")
    assert len(refused.raised(startup_program=refused.program.startup)) == 2


def test_nothing_to_do() -> None:
    refused = Refused(network(native))
    before = refused.state()
    assert refused.raised() == []
    assert refused.state() == before
    refused.then_works()
    lowered = refused.state()
    report = refused.lower()
    assert (report.matched, report.steps, report.left) == (0, (), ())
    assert str(report) == "0 native RAdam updates became 0 fused operators"
    assert refused.state() == lowered


def test_in_dynamic_graph() -> None:
    refused = Refused(network(native))
    paddle.disable_static()
    report = rc.lower(refused.program.main, refused.program.startup, scope=refused.program.scope)
    assert report.matched == 2
    assert paddle.in_dynamic_mode()
    paddle.enable_static()
    refused.program.start().run(x=X)


@pytest.mark.skipif(not IN_PIR, reason="a program of the legacy IR can be made anywhere")
def test_a_program_of_the_other_ir() -> None:
    other = paddle.base.framework.Program()
    with pytest.raises(rc.RadamCodegenError, match="not of the IR"):
        rc.lower(other)
