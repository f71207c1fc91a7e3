"""What lowering takes in, what it leaves, and what it says about it."""

from __future__ import annotations

import json
from collections.abc import Callable
from typing import Any

import numpy as np
import paddle
import pytest
from paddle.nn import ClipGradByGlobalNorm, ClipGradByNorm, ClipGradByValue
from support.native_programs import operators_of
from support.small_programs import SmallProgram, parameter
from support.static_programs import IN_PIR, program_text

import radam_codegen as rc

pytestmark = pytest.mark.usefixtures("static_mode")

Array = Any
Build = Callable[[], Any]


def network(minimize: Callable[[Any], Any]) -> Build:
    def build() -> Any:
        x = paddle.static.data("x", [3], "float32")
        return minimize(paddle.mean(x * parameter("w") * parameter("v")))

    return build


def native(**options: Any) -> Build:
    return network(lambda loss: paddle.optimizer.RAdam(0.05, **options).minimize(loss))


def steps_of(program: SmallProgram, count: int = 12, main: Any = None) -> list[list[Array]]:
    found = []
    for step in range(count):
        x = np.random.default_rng(step).standard_normal(3).astype("float32")
        program.run(program=main, x=x)
        found.append([program.read("w"), program.read("v")])
    return found


def lower(program: SmallProgram, **options: Any) -> rc.LoweringReport:
    return rc.lower(program.main, program.startup, scope=program.scope, **options)


def assert_goes_the_same_way(build: Build, count: int = 1) -> SmallProgram:
    """Lower a program that was built anew, and compare it with one that was not."""
    lowered = SmallProgram(build)
    report = lower(lowered)
    assert len(report.steps) == count
    assert not report.left
    expected = steps_of(SmallProgram(build).start())
    np.testing.assert_allclose(steps_of(lowered.start()), expected, 2e-5, 2e-6)
    return lowered


def test_the_report() -> None:
    program = SmallProgram(native(weight_decay=0.1, grad_clip=ClipGradByNorm(0.5)))
    report = lower(program)
    assert report.program is program.main
    assert report.startup_program is program.startup
    (plan,) = report.plans
    assert [tensor.name for tensor in plan.groups[0].tensors] == ["v", "w"]
    assert plan.groups[0].beta1 == 0.9  # as it was written, not as a float32
    document = json.loads(json.dumps(report.to_json()))
    assert document["matched"] == 2
    assert document["steps"][0]["parameters"] == ["v", "w"]
    assert document["state"] == {"before": 2 * 5 * 3 * 4, "after": 2 * (2 * 3 * 4 + 8)}
    assert document["traffic"] == {"before": 6 * 4 * (13 + 5 + 3), "after": 6 * 4 * 8}
    assert str(report).startswith("2 native RAdam updates became 1 fused operator\n")
    assert "radam_clip_norm__f32_l2, 2 parameters" in str(report)


def test_the_programs_forget_native_state() -> None:
    program = SmallProgram(native())
    lower(program)
    for each in (program.main, program.startup):
        assert "w_rho_0" not in program_text(each)
        assert "w_beta1_pow_0" not in program_text(each)


def test_a_copy() -> None:
    program = SmallProgram(native(weight_decay=0.1)).start()
    before = program_text(program.main), program_text(program.startup)
    report = lower(program, inplace=False)
    assert (program_text(program.main), program_text(program.startup)) == before
    assert report.program is not program.main
    start = program.read("w"), program.read("v")
    expected = steps_of(program)
    for name, value in zip("wv", start):
        program.scope.find_var(name).get_tensor().set(value, paddle.CPUPlace())
    found = steps_of(program, main=report.program)
    np.testing.assert_allclose(found, expected, 2e-5, 2e-6)


def test_pruned_by_its_operators() -> None:
    def build() -> Any:
        x = paddle.static.data("x", [3], "float32")
        loss = paddle.mean(x * parameter("w") * parameter("v"))
        paddle.optimizer.RAdam(0.05, weight_decay=0.1).minimize(loss)
        return loss

    program = SmallProgram(build)
    report = lower(program)
    program.start()
    x = np.array([1.0, 2.0, 3.0], "float32")
    (before,) = program.run(fetch_list=[program.result], x=x)
    moved = program.read("w")
    assert (moved != 0.5).all()
    program.run(fetch_list=[program.result, list(report.optimize_ops)], x=x)
    assert (program.read("w") != moved).all()
    assert np.isfinite(before).all()


def test_what_has_gone_is_found_nowhere() -> None:
    """Who holds operators and values of the program as it was gets an error, and no crash."""

    def build() -> Any:
        x = paddle.static.data("x", [3], "float32")
        loss = paddle.mean(x * parameter("w") * parameter("v"))
        return loss, paddle.optimizer.RAdam(0.05, weight_decay=0.1).minimize(loss)

    program = SmallProgram(build)
    held = [] if IN_PIR else list(program.main.global_block().vars.values())
    lower(program)
    program.start()
    loss, (operators, params_grads) = program.result
    with pytest.raises(Exception, match=r"no longer exists|not found|another program|does not"):
        program.run(fetch_list=[loss, (operators, params_grads)], x=np.ones(3, "float32"))
    for variable in held:
        assert variable.name in str(variable)
    if not IN_PIR:
        with pytest.raises(Exception, match="rho"):
            program.run(fetch_list=["w_rho_0"], x=np.ones(3, "float32"))
    program.run(x=np.ones(3, "float32"))


def test_another_optimizer_stays() -> None:
    def build() -> None:
        x = paddle.static.data("x", [3], "float32")
        loss = paddle.mean(x * parameter("w") * parameter("v"))
        parameters = paddle.static.default_main_program().global_block().all_parameters()
        paddle.optimizer.Adam(0.01, parameters=parameters).minimize(loss)
        paddle.optimizer.RAdam(0.05).minimize(loss * 2.0)

    lowered = SmallProgram(build)
    report = lower(lowered)
    adam = "adam_" if IN_PIR else "adam"
    assert [(each.operator, each.parameter) for each in report.left] == [(adam, "v"), (adam, "w")]
    assert "no RAdam" in report.left[0].reason
    assert "left: adam" in str(report)
    expected = steps_of(SmallProgram(build).start())
    np.testing.assert_allclose(steps_of(lowered.start()), expected, 2e-5, 2e-6)


def clipped_by_hand(keep: list[Any]) -> Build:
    """A program whose clipped gradient of v somebody else wants, too."""

    def minimize(loss: Any) -> None:
        optimizer = paddle.optimizer.RAdam(0.05, weight_decay=0.1)
        pairs = ClipGradByNorm(0.1)(sorted(optimizer.backward(loss), key=lambda pair: pair[0].name))
        keep.append(pairs[0][1] if IN_PIR else pairs[0][1].name)
        optimizer.apply_gradients(pairs)

    return network(minimize)


def test_what_is_to_be_fetched_stays() -> None:
    keep: list[Any] = []
    lowered = SmallProgram(clipped_by_hand(keep))
    report = lower(lowered, keep=keep)
    # In the legacy IR the decay is added to the very variable that is wanted.
    part = "the clip (norm)" if IN_PIR else "the L2 decay"
    ((name, note),) = report.steps[0].notes
    assert name == "v"
    assert note.startswith(f"{part} stays")
    assert "it is to be fetched" in note
    expected: list[Any] = []
    reference = SmallProgram(clipped_by_hand(expected)).start()
    lowered.start()
    x = np.array([3.0, -2.0, 1.0], "float32")
    for _ in range(8):
        (one,) = lowered.run(fetch_list=keep, x=x)
        (other,) = reference.run(fetch_list=expected, x=x)
        np.testing.assert_allclose(one, other, 2e-5, 2e-6)
        np.testing.assert_allclose(lowered.read("v"), reference.read("v"), 2e-5, 2e-6)
        np.testing.assert_allclose(lowered.read("w"), reference.read("w"), 2e-5, 2e-6)


@pytest.mark.parametrize("between", [True, False])
def test_what_stands_between_two_updates_sees_the_first(between: bool) -> None:
    def build() -> Any:
        x = paddle.static.data("x", [3], "float32")
        w, v = parameter("w"), parameter("v")
        optimizer = paddle.optimizer.RAdam(0.05, weight_decay=0.1)
        pairs = {pair[0].name: pair for pair in optimizer.backward(paddle.mean(x * w * v))}
        optimizer.apply_gradients([pairs["w"]])
        seen = (w if between else x) * 2.0
        optimizer.apply_gradients([pairs["v"]])
        return seen

    lowered, reference = SmallProgram(build), SmallProgram(build).start()
    assert len(lower(lowered).steps) == 1 + between
    lowered.start()
    for x in np.random.default_rng(0).standard_normal((8, 3)).astype("float32"):
        (one,) = lowered.run(fetch_list=[lowered.result], x=x)
        (other,) = reference.run(fetch_list=[reference.result], x=x)
        np.testing.assert_allclose(one, other, 2e-5, 2e-6)
        np.testing.assert_allclose(lowered.read("v"), reference.read("v"), 2e-5, 2e-6)


@pytest.mark.skipif(not IN_PIR, reason="native RAdam cannot be built so in the legacy IR")
def test_a_clip_of_which_somebody_reads_the_norm_stays() -> None:
    def build(options: dict[str, Any]) -> Any:
        x = paddle.static.data("x", [3], "float32")
        loss = paddle.mean(x * parameter("w") * parameter("v"))
        paddle.optimizer.RAdam(0.05, grad_clip=ClipGradByGlobalNorm(0.1)).minimize(loss)
        block = paddle.static.default_main_program().global_block()
        (root,) = [op for op in block.ops if op.name() == "pd_op.sqrt"]
        return root.result(0) * 2.0

    program = SmallProgram(lambda: build({}))
    (step,) = lower(program).steps
    assert {name for name, _ in step.notes} == {"v", "w"}
    assert "reads the norm, too" in step.notes[0][1]
    assert step.plan.clip.kind.value == "none"
    reference = SmallProgram(lambda: build({}))
    found = steps_of(program.start())
    np.testing.assert_allclose(found, steps_of(reference.start()), 2e-5, 2e-6)


@pytest.mark.skipif(not IN_PIR, reason="native RAdam cannot be built so in the legacy IR")
def test_a_clip_over_gradients_of_two_optimizers_stays() -> None:
    def minimize(loss: Any) -> None:
        optimizer = paddle.optimizer.RAdam(0.05)
        pairs = ClipGradByGlobalNorm(0.1)(optimizer.backward(loss))
        pairs = {pair[0].name: pair for pair in pairs}
        optimizer.apply_gradients([pairs["w"]])
        paddle.optimizer.SGD(0.1).apply_gradients([pairs["v"]])

    build = network(minimize)
    lowered = SmallProgram(build)
    (step,) = lower(lowered).steps
    assert "not all the gradients" in step.notes[0][1]
    expected = steps_of(SmallProgram(build).start())
    np.testing.assert_allclose(steps_of(lowered.start()), expected, 2e-5, 2e-6)


@pytest.mark.skipif(IN_PIR, reason="in PIR these work with no native optimizer")
@pytest.mark.parametrize(
    "wrap",
    [
        lambda inner: paddle.incubate.optimizer.GradientMergeOptimizer(inner, k_steps=3),
        lambda inner: paddle.static.amp.decorate(inner, init_loss_scaling=8.0),
    ],
    ids=["gradient merge", "mixed precision"],
)
def test_wrapped_optimizers(wrap: Callable[[Any], Any]) -> None:
    def minimize(loss: Any) -> None:
        inner = paddle.optimizer.RAdam(0.05, weight_decay=0.1, grad_clip=ClipGradByNorm(0.5))
        wrap(inner).minimize(loss)

    build = network(minimize)
    program = assert_goes_the_same_way(build)
    rc.raise_native(program.main, program.startup, program.scope)
    assert operators_of(program.main) == operators_of(SmallProgram(build).main)


@pytest.mark.skipif(not IN_PIR, reason="GradScaler.minimize builds PIR programs only")
def test_a_gradient_scaler() -> None:
    def minimize(loss: Any) -> None:
        options = {"init_loss_scaling": 8.0, "use_dynamic_loss_scaling": False}
        scaler = paddle.amp.GradScaler(**options)
        inner = paddle.optimizer.RAdam(0.05, weight_decay=0.1)
        decorated = paddle.static.amp.decorate(inner, **options)
        startup = paddle.static.default_startup_program()
        scaler.minimize(decorated, scaler.scale(loss), startup_program=startup)

    assert_goes_the_same_way(network(minimize))


@pytest.mark.skipif(not IN_PIR, reason="Paddle's legacy loops do not train")
def test_in_a_loop() -> None:
    def build() -> None:
        x = paddle.static.data("x", [3], "float32")
        w, v = parameter("w"), parameter("v")
        optimizer = paddle.optimizer.RAdam(0.05, weight_decay=0.1)

        def body(count: Any) -> list[Any]:
            optimizer.minimize(paddle.mean(x * w * v))
            return [count + 1]

        end = paddle.full([1], 3, "int64")
        paddle.static.nn.while_loop(lambda n: n < end, body, [paddle.full([1], 0, "int64")])

    assert_goes_the_same_way(build)


@pytest.mark.skipif(IN_PIR, reason="Paddle copies only legacy programs so")
def test_a_clone_for_test_updates_nothing() -> None:
    program = SmallProgram(native())
    lower(program)
    program.start()
    test = program.main.clone(for_test=True)
    program.run(program=test, x=np.ones(3, "float32"))
    assert (program.read("w") == 0.5).all()


@pytest.mark.parametrize(
    "clip", [ClipGradByGlobalNorm(0.3), ClipGradByNorm(0.3), ClipGradByValue(0.1, -0.2)]
)
def test_ours_raised_and_lowered_again(clip: Any) -> None:
    """Clips that native optimizers fail to build, too."""

    def build() -> None:
        x = paddle.static.data("x", [3], "float32")
        loss = paddle.mean(x * parameter("w", need_clip=False) * parameter("v", learning_rate=0.5))
        rc.RAdam(0.05, weight_decay=0.1, grad_clip=clip).minimize(loss)

    program = SmallProgram(build).start()
    expected = steps_of(SmallProgram(build).start())
    found = steps_of(program, 4)
    operators = rc.raise_native(program.main, program.startup, scope=program.scope)
    assert len(operators) == 2
    assert "radam_codegen" not in program_text(program.main).replace("/radam_codegen/", "")
    assert program.read("w_rho_0").shape == (3,)
    text = operators_of(program.main)
    for step in range(4, 8):
        program.run(x=np.random.default_rng(step).standard_normal(3).astype("float32"))
        found.append([program.read("w"), program.read("v")])
    (step,) = lower(program).steps
    assert (
        step.plan.clip.kind.value
        == {
            ClipGradByGlobalNorm: "global_norm",
            ClipGradByNorm: "norm",
            ClipGradByValue: "value",
        }[type(clip)]
    )
    assert not step.notes
    for number in range(8, 12):
        program.run(x=np.random.default_rng(number).standard_normal(3).astype("float32"))
        found.append([program.read("w"), program.read("v")])
    np.testing.assert_allclose(found, expected, 2e-5, 2e-6)
    rc.raise_native(program.main, program.startup, scope=program.scope)
    assert operators_of(program.main) == text
