"""Mixed precision: steps that are skipped whole when a gradient was not finite."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from typing import Any

import numpy as np
import paddle
import pytest
from support.small_programs import SmallProgram, parameter
from support.static_programs import IN_PIR, persistable_names, program_text

import radam_codegen as rc

LR = 0.05
X = np.array([1.0, 2.0, 3.0], "float32")
#: Which steps are skipped.
SKIPPED = [False, True, False, False, True, True, False, False, False, True, False]


@pytest.fixture
def own_names() -> Iterator[None]:
    with paddle.utils.unique_name.guard():
        yield


def flagged(flag: Callable[[Any], Any], half: bool = False) -> Callable[[], Any]:
    """Build a program whose steps ``flag`` decides about, from a variable that is fed."""

    def build() -> Any:
        x = paddle.static.data("x", [3], "float32")
        weight = parameter("weight")
        product = x * weight * weight
        if half:
            product = product * paddle.cast(parameter("half", dtype="bfloat16"), "float32")
        optimizer = rc.RAdam(LR, weight_decay=0.1, multi_precision=half)
        optimizer._set_auxiliary_var("found_inf", flag(paddle.static.data("bad", [1], "int32")))
        optimizer.minimize(paddle.mean(product))
        return optimizer

    return build


def never(half: bool = False) -> Callable[[], Any]:
    return flagged(lambda bad: paddle.full([1], False, "bool"), half)


def is_one(bad: Any) -> Any:
    return paddle.equal(bad, paddle.full([1], 1, "int32"))


def state_of(program: SmallProgram) -> dict[str, Any]:
    names = {
        name for name in persistable_names(program.main) if not name.startswith("learning_rate")
    }
    assert any(name.startswith("radam_moment2") for name in names)
    assert not program.has("half") or "half_fp32_master_0" in names
    return {name: program.read(name) for name in names}


def assert_same(one: dict[str, Any], other: dict[str, Any]) -> None:
    assert one.keys() == other.keys()
    for name, value in one.items():
        assert value.tobytes() == other[name].tobytes(), name


@pytest.mark.usefixtures("static_mode")
@pytest.mark.parametrize("half", [False, True], ids=["float32", "master weights"])
def test_a_skipped_step_never_was(half: bool) -> None:
    program = SmallProgram(flagged(is_one, half)).start()
    twin = SmallProgram(never(half)).start()
    for skipped in SKIPPED:
        x = X * (np.inf if skipped else 1.0)
        program.run(x=x, bad=np.array([int(skipped)], "int32"))
        if not skipped:
            twin.run(x=x, bad=np.zeros(1, "int32"))
        assert_same(state_of(program), state_of(twin))
    assert np.isfinite(program.read("weight")).all()
    assert set(program.read("radam_step_0")) == {SKIPPED.count(False)}


@pytest.mark.usefixtures("static_mode")
def test_a_pruned_step_is_skipped_too() -> None:
    def build() -> Any:
        x = paddle.static.data("x", [3], "float32")
        optimizer = rc.RAdam(LR)
        optimizer._set_auxiliary_var("found_inf", is_one(paddle.static.data("bad", [1], "int32")))
        return optimizer.minimize(paddle.mean(x * parameter("weight")))

    program = SmallProgram(build).start()
    for bad, moved in ((1, False), (0, True)):
        program.run(fetch_list=[program.result], x=X, bad=np.array([bad], "int32"))
        assert (program.read("weight")[0] != 0.5) == moved


@pytest.mark.usefixtures("static_mode")
def test_the_flag_by_its_name() -> None:
    def build() -> None:
        x = paddle.static.data("x", [3], "float32")
        paddle.static.data("flag", [1], "bool")
        optimizer = rc.RAdam(LR)
        optimizer._set_auxiliary_var("found_inf", "flag")
        optimizer.minimize(paddle.mean(x * parameter("weight")))

    program = SmallProgram(build).start()
    for flag, moved in ((True, False), (False, True)):
        program.run(x=X, flag=np.array([flag]))
        assert (program.read("weight")[0] != 0.5) == moved


@pytest.mark.usefixtures("static_mode")
@pytest.mark.parametrize(
    ("flag", "message"),
    [
        (lambda bad: bad, "must hold one bool"),
        (lambda bad: paddle.full([2], False, "bool"), "must hold one bool"),
        (lambda bad: True, "must be a variable of the program"),
        (lambda bad: "nowhere", "must be a variable of the program"),
    ],
    ids=["int", "two", "constant", "unknown name"],
)
def test_what_is_no_flag_is_refused(flag: Any, message: str) -> None:
    def build() -> None:
        x = paddle.static.data("x", [3], "float32")
        loss = paddle.mean(x * parameter("weight"))
        optimizer = rc.RAdam(LR)
        given = flag(paddle.static.data("bad", [1], "int32"))
        optimizer._set_auxiliary_var("found_inf", given)
        before = program_text(loss.block.program)
        with pytest.raises(TypeError, match=message):
            optimizer.minimize(loss)
        assert program_text(loss.block.program) == before

    SmallProgram(build)


def network(inner: Callable[[], Any], wrap: Callable[[Any, Any], Any]) -> Callable[[], Any]:
    """Build a linear layer; ``wrap`` takes optimizer and loss, and minimizes."""

    def build() -> None:
        attr = paddle.ParamAttr(name="weight", initializer=paddle.nn.initializer.Constant(0.3))
        x = paddle.static.data("x", [2, 3], "float32")
        loss = paddle.mean(paddle.nn.Linear(3, 3, weight_attr=attr, bias_attr=False)(x) ** 2)
        wrap(inner(), loss)

    return build


def follow_without_overflow(wrap: Callable[[Any, Any], Any]) -> None:
    """Steps with an infinite input are as if they had not been."""
    program = SmallProgram(network(lambda: rc.RAdam(LR), wrap)).start()
    twin = SmallProgram(network(lambda: rc.RAdam(LR), wrap)).start()
    for skipped in SKIPPED:
        x = np.stack([X, X + 1]) * (np.inf if skipped else 1.0)
        program.run(x=x)
        if not skipped:
            twin.run(x=x)
        np.testing.assert_array_equal(program.read("weight"), twin.read("weight"))
        np.testing.assert_array_equal(program.read("radam_step_0"), twin.read("radam_step_0"))
    assert np.isfinite(program.read("weight")).all()
    assert program.read("weight")[0, 0] != np.float32(0.3)


@pytest.mark.usefixtures("static_mode")
@pytest.mark.skipif(IN_PIR, reason="in PIR decorate().minimize() works with no optimizer")
@pytest.mark.parametrize(
    "options",
    [
        {"init_loss_scaling": 8.0, "use_dynamic_loss_scaling": False},
        {"level": "O1", "dtype": "bfloat16", "use_dynamic_loss_scaling": False},
        {"level": "O2", "dtype": "bfloat16", "use_dynamic_loss_scaling": False},
    ],
    ids=["loss scale", "bfloat16 O1", "bfloat16 O2"],
)
def test_static_amp_decorate(options: dict[str, Any]) -> None:
    follow_without_overflow(
        lambda inner, loss: paddle.static.amp.decorate(inner, **options).minimize(loss)
    )


@pytest.mark.usefixtures("static_mode")
@pytest.mark.skipif(IN_PIR, reason="in PIR decorate().minimize() works with no optimizer")
def test_static_amp_decorate_with_a_dynamic_loss_scale() -> None:
    # The scale follows the overflows, so it is compared with unscaled training, and roughly.
    options = {"init_loss_scaling": 8.0, "use_dynamic_loss_scaling": True}
    scaled = SmallProgram(
        network(
            lambda: rc.RAdam(LR),
            lambda inner, loss: paddle.static.amp.decorate(inner, **options).minimize(loss),
        )
    ).start()
    plain = SmallProgram(
        network(lambda: rc.RAdam(LR), lambda inner, loss: inner.minimize(loss))
    ).start()
    for skipped in SKIPPED:
        x = np.stack([X, X + 1]) * (np.inf if skipped else 1.0)
        scaled.run(x=x)
        if not skipped:
            plain.run(x=x)
    np.testing.assert_array_equal(scaled.read("radam_step_0"), plain.read("radam_step_0"))
    np.testing.assert_allclose(scaled.read("weight"), plain.read("weight"), 0.1, 0.01)


@pytest.mark.usefixtures("static_mode")
@pytest.mark.skipif(not IN_PIR, reason="GradScaler.minimize builds PIR programs only")
def test_grad_scaler_in_a_pir_program() -> None:
    def wrap(inner: Any, loss: Any) -> None:
        options = {"init_loss_scaling": 8.0, "use_dynamic_loss_scaling": False}
        scaler = paddle.amp.GradScaler(**options)
        decorated = paddle.static.amp.decorate(inner, **options)
        startup = paddle.static.default_startup_program()
        scaler.minimize(decorated, scaler.scale(loss), startup_program=startup)

    follow_without_overflow(wrap)


def dynamic_state(optimizer: Any, weight: Any) -> dict[str, Any]:
    state = optimizer.state_dict()
    tensors = {**state.pop("master_weights", {}), **state, "weight": weight}
    return {name: tensor.numpy() for name, tensor in tensors.items() if name != "LR_Scheduler"}


@pytest.mark.usefixtures("own_names")
@pytest.mark.parametrize("tensor", [True, False], ids=["tensor", "bool"])
@pytest.mark.parametrize("dtype", ["float32", "bfloat16"])
def test_a_skipped_step_in_dynamic_graph(tensor: bool, dtype: str) -> None:
    weight = parameter("weight", dtype=dtype)
    optimizer = rc.RAdam(LR, parameters=[weight], weight_decay=0.1, multi_precision=True)
    steps = 0
    for skipped in SKIPPED:
        flag = paddle.to_tensor([skipped]) if tensor else skipped
        optimizer._set_auxiliary_var("found_inf", flag)
        factor = float("inf") if skipped else 1.0
        paddle.sum(weight * weight * factor).backward()
        before = dynamic_state(optimizer, weight)
        version = weight.inplace_version
        optimizer.step()
        optimizer.clear_grad()
        after = dynamic_state(optimizer, weight)
        steps += not skipped
        assert after["weight_step_0"] == steps
        if skipped:
            assert_same(before, after)
            assert weight.inplace_version == version
        else:
            changed = [name for name in after if not np.array_equal(after[name], before.get(name))]
            # A small step may be too small for bfloat16, but not for its master weight.
            assert set(changed) | {"weight"} == set(after)


def enabled_scaler(monkeypatch: pytest.MonkeyPatch) -> Any:
    """A gradient scaler; Paddle makes only disabled ones on a CPU, where nobody needs them."""
    with monkeypatch.context() as patched:
        patched.setattr(paddle.amp.grad_scaler, "in_dynamic_mode", lambda: False)
        scaler = paddle.amp.GradScaler(init_loss_scaling=8.0, use_dynamic_loss_scaling=False)
    assert scaler.is_enable()
    return scaler


@pytest.mark.usefixtures("own_names")
@pytest.mark.parametrize("call", ["step", "minimize", "unscale_"])
def test_grad_scaler_in_dynamic_graph(call: str, monkeypatch: pytest.MonkeyPatch) -> None:
    # Native RAdam skips these steps too.
    def train(optimizer_class: Any, name: str) -> list[Any]:
        weight = parameter(name)
        optimizer = optimizer_class(LR, parameters=[weight])
        scaler = enabled_scaler(monkeypatch)
        values = []
        for skipped in SKIPPED:
            loss = paddle.mean(weight * weight * paddle.to_tensor(X))
            scaled = scaler.scale(loss * (float("inf") if skipped else 1.0))
            scaled.backward()
            if call == "minimize":
                scaler.minimize(optimizer, scaled)
            else:
                if call == "unscale_":
                    scaler.unscale_(optimizer)
                scaler.step(optimizer)
                scaler.update()
            optimizer.clear_grad()
            values.append(weight.numpy())
        return values

    ours, native = train(rc.RAdam, "ours"), train(paddle.optimizer.RAdam, "native")
    np.testing.assert_allclose(ours, native, 2e-5, 2e-6)
    assert np.isfinite(ours).all()
    for before, after, skipped in zip(ours, ours[1:], SKIPPED[1:]):
        assert np.array_equal(before, after) is skipped


@pytest.mark.usefixtures("own_names")
def test_a_disabled_scaler_steps_as_ever() -> None:
    with pytest.warns(UserWarning, match="AmpScaler can only be enabled"):
        scaler = paddle.amp.GradScaler()
    weight = parameter("weight")
    optimizer = rc.RAdam(LR, parameters=[weight])
    scaler.scale(paddle.mean(weight * weight)).backward()
    scaler.step(optimizer)
    scaler.update()
    assert weight.numpy()[0] < 0.5
