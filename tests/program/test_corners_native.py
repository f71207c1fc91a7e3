"""What native RAdam does where ours does something else.

docs/semantics.md says so, and Paddle may change: a test here that fails means that a line there has
to. Each of these works with our class; its own tests show that.
"""

from __future__ import annotations

import subprocess
import sys
from typing import Any

import numpy as np
import paddle
import pytest
from support.small_programs import SmallProgram, parameter
from support.static_programs import IN_PIR

Native = paddle.optimizer.RAdam
LR = 0.1
X = np.array([1.0, 2.0, 3.0], "float32")


def run(build: Any, steps: int = 1, **feed: Any) -> SmallProgram:
    program = SmallProgram(build).start()
    for _ in range(steps):
        program.run(**{"x": X, **feed})
    return program


def fed(dtype: str = "float32") -> Any:
    return paddle.static.data("x", [3], dtype)


def groups() -> None:
    weight = parameter("weight")
    Native(LR, parameters=[{"params": [weight]}]).minimize(paddle.mean(fed() * weight))


def names() -> None:
    Native(LR).minimize(paddle.mean(fed() * parameter("weight")), parameters=["weight"])


def names_given_to_the_constructor() -> None:
    Native(LR, parameters=["weight"])


def outside_of_program_guard() -> None:
    main, startup = paddle.static.Program(), paddle.static.Program()
    with paddle.static.program_guard(main, startup):
        loss = paddle.mean(fed() * parameter("weight"))
    # The default programs, which are current outside of this function, are empty.
    with paddle.static.program_guard(paddle.static.Program(), paddle.static.Program()):
        Native(LR).minimize(loss, startup_program=startup)


def clipped(clip: Any) -> Any:
    def build() -> None:
        Native(LR, grad_clip=clip).minimize(paddle.mean(fed() * parameter("weight")))

    return build


def decay_from_a_variable() -> None:
    decay = paddle.full([1], 0.1)
    Native(LR, weight_decay=decay).minimize(paddle.mean(fed() * parameter("weight")))


def half_parameters() -> None:
    weight = paddle.cast(parameter("weight", dtype="bfloat16"), "float32")
    Native(LR).minimize(paddle.mean(fed() * weight))


def loss_in_float64() -> None:
    product = paddle.cast(fed() * parameter("weight"), "float64")
    Native(LR).minimize(paddle.mean(product))


REFUSED = [
    (groups, TypeError, TypeError),
    (names, TypeError, None),
    (names_given_to_the_constructor, AttributeError, AttributeError),
    (outside_of_program_guard, IndexError, None),
    (clipped(paddle.nn.ClipGradByValue(0.1)), NotImplementedError, None),
    (clipped(paddle.nn.ClipGradByGlobalNorm(0.1)), None, TypeError),
    (decay_from_a_variable, TypeError, TypeError),
    (half_parameters, TypeError, NotImplementedError),
    (loss_in_float64, ValueError, ValueError),
]


@pytest.mark.usefixtures("static_mode")
@pytest.mark.parametrize(
    ("build", "error"),
    [(build, in_pir if IN_PIR else legacy) for build, in_pir, legacy in REFUSED],
    ids=[str(index) + build.__name__ for index, (build, *_) in enumerate(REFUSED)],
)
def test_what_it_refuses_in_static_programs(build: Any, error: Any) -> None:
    if error is None:
        run(build)
        return
    with pytest.raises(error):
        run(build)


@pytest.mark.usefixtures("static_mode")
def test_it_ignores_found_inf_in_static_programs() -> None:
    def build() -> None:
        optimizer = Native(LR)
        optimizer._set_auxiliary_var("found_inf", paddle.static.data("bad", [1], "bool"))
        optimizer.minimize(paddle.mean(fed() * parameter("weight")))

    program = run(build, bad=np.array([True]))
    assert np.all(program.read("weight") < 0.5)


@pytest.mark.usefixtures("static_mode")
def test_of_two_schedulers_the_last_one_counts() -> None:
    schedulers = [paddle.optimizer.lr.StepDecay(rate, 1, 0.1) for rate in (0.1, 0.2)]

    def build() -> None:
        for name, scheduler in zip("ab", schedulers):
            weight = parameter(name)
            loss = paddle.mean(fed_once(program_data) * weight)
            Native(scheduler, parameters=[weight]).minimize(loss)

    program_data: list[Any] = []
    program = SmallProgram(build).start()
    moved = []
    for _ in range(2):
        before = program.read("a")[0]
        program.run(x=X)
        moved.append(before - program.read("a")[0])
        for scheduler in schedulers:
            scheduler.step()
    np.testing.assert_allclose(moved[1], moved[0], 1e-3)  # and not a tenth of it


def fed_once(cache: list[Any]) -> Any:
    if not cache:
        cache.append(fed())
    return cache[0]


@pytest.mark.usefixtures("static_mode")
@pytest.mark.skipif(not IN_PIR, reason="only PIR has several values of one parameter")
def test_it_updates_a_shared_parameter_twice_in_pir() -> None:
    def build() -> Any:
        attr = paddle.ParamAttr(name="weight", initializer=paddle.nn.initializer.Constant(0.1))
        layers = [paddle.nn.Linear(3, 3, weight_attr=attr, bias_attr=False) for _ in range(2)]
        x = paddle.static.data("x", [2, 3], "float32")
        return Native(LR).minimize(paddle.mean(layers[1](layers[0](x))))

    _, params_grads = SmallProgram(build).result
    assert [param.name for param, _ in params_grads] == ["weight", "weight"]


@pytest.mark.usefixtures("static_mode")
@pytest.mark.skipif(not IN_PIR, reason="the legacy IR keeps all parameters in the global block")
def test_it_does_not_train_the_parameters_of_a_branch_in_pir() -> None:
    def build() -> None:
        x = fed()

        def train() -> Any:
            loss = paddle.mean(x * parameter("weight"))
            assert Native(LR).minimize(loss) == ([], [])
            return loss

        paddle.static.nn.cond(paddle.mean(x) > 0, train, lambda: paddle.mean(x))

    assert np.all(run(build).read("weight") == 0.5)


def test_weight_decay_as_a_tensor_is_no_function() -> None:
    with paddle.utils.unique_name.guard():
        weight = parameter("weight")
        optimizer = Native(LR, parameters=[weight], weight_decay=paddle.to_tensor(0.1))
        paddle.sum(weight).backward()
        with pytest.raises(TypeError, match="not callable"):
            optimizer.step()


@pytest.mark.parametrize("decay", [-1.0, float("nan")])
def test_it_takes_any_number_as_weight_decay(decay: float) -> None:
    with paddle.utils.unique_name.guard():
        weight = parameter("weight")
        optimizer = Native(LR, parameters=[weight], weight_decay=decay)
        paddle.sum(weight).backward()
        optimizer.step()
        assert not weight.numpy()[0] < 0.5 - LR


def test_a_parameter_listed_twice_steps_twice() -> None:
    with paddle.utils.unique_name.guard():
        weight = parameter("weight")
        optimizer = Native(LR, parameters=[weight, weight])
        paddle.sum(weight).backward()
        optimizer.step()
        np.testing.assert_allclose(weight.numpy(), 0.5 - 2 * LR, 1e-6)


def test_a_gradient_whose_square_overflows_stops_its_element_for_good() -> None:
    with paddle.utils.unique_name.guard():
        weight = parameter("weight")
        optimizer = Native(LR, parameters=[weight], beta2=0.9)
        values = []
        for step in range(12):
            large = 1e25 if step == 7 else 1.0
            weight.grad = paddle.to_tensor([1.0, large, 1.0])
            optimizer.step()
            values.append(weight.numpy())
    assert values[-1][1] == values[6][1]
    assert values[-1][0] < values[6][0]


_EMPTY = """
import numpy as np, paddle
paddle.enable_static()
x = paddle.static.data("x", [2, 3])
empty = paddle.create_parameter([0, 3], "float32")
loss = paddle.mean(paddle.concat([empty, x * paddle.create_parameter([2, 3], "float32")]))
paddle.optimizer.RAdam(0.1).minimize(loss)
executor = paddle.static.Executor(paddle.CPUPlace())
executor.run(paddle.static.default_startup_program())
executor.run(feed={"x": np.ones([2, 3], "float32")})
"""

_SPARSE = """
import numpy as np, paddle
paddle.enable_static()
ids = paddle.static.data("ids", [4], "int64")
loss = paddle.mean(paddle.static.nn.embedding(ids, [10, 3], is_sparse=True))
paddle.optimizer.RAdam(0.1).minimize(loss)
executor = paddle.static.Executor(paddle.CPUPlace())
executor.run(paddle.static.default_startup_program())
executor.run(feed={"ids": np.arange(4)})
"""


def process_of(source: str) -> int:
    return subprocess.run(
        [sys.executable, "-c", source], capture_output=True, timeout=120
    ).returncode


def test_a_parameter_without_elements_ends_its_process() -> None:
    assert process_of(_EMPTY) != 0


@pytest.mark.skipif(IN_PIR, reason="in PIR gradients of embeddings are dense")
def test_a_sparse_gradient_ends_its_process_or_fails_oddly() -> None:
    assert process_of(_SPARSE) != 0
