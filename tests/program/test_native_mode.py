"""``target="native"`` and mode ``off``: Paddle's own operators, and nothing of ours."""

from __future__ import annotations

import copy
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import paddle
import pytest
from paddle.nn import ClipGradByGlobalNorm, ClipGradByNorm, ClipGradByValue
from support.eager import parameter as eager_parameter
from support.small_programs import SmallProgram, parameter
from support.static_programs import IN_PIR, FedProgram, Tensor, random_gradients

import radam_codegen as rc
from radam_codegen.errors import CheckpointError, ProgramError, UnsupportedError

TENSORS = (
    Tensor("weight", (5, 7)),
    Tensor("bias", (7,), options={"learning_rate": 0.3, "need_clip": False}),
    Tensor("scale", (), options={"regularizer": paddle.regularizer.L1Decay(0.01)}),
)
Native = paddle.optimizer.RAdam


@pytest.fixture(params=["target", "mode"])
def asked(request: pytest.FixtureRequest) -> Iterator[dict[str, Any]]:
    """Arguments with which an optimizer is native, either way."""
    if request.param == "target":
        yield {"target": "native"}
        return
    rc.config(mode="off")
    yield {"target": "c"}
    rc.config(mode=None)


def options() -> dict[str, Any]:
    # By global norm does not work natively in the legacy IR.
    clip = ClipGradByGlobalNorm(0.5) if IN_PIR else ClipGradByNorm(0.5)
    return {"weight_decay": 0.02, "grad_clip": clip, "beta2": 0.99}


def scheduler() -> Any:
    return paddle.optimizer.lr.StepDecay(0.1, 4, 0.5)


def trajectory(make: Any, *, prune: bool = False) -> list[np.ndarray[Any, Any]]:
    schedulers = []

    def optimizer(params: list[Any]) -> Any:
        schedulers.append(scheduler())
        return make(schedulers[0])

    values = []
    with paddle.utils.unique_name.guard():
        program = FedProgram(TENSORS, optimizer)
    with paddle.static.scope_guard(program.scope):  # a native scheduler's learning rate goes here
        program.start()
        for grads in random_gradients(TENSORS, 12):
            fetches = [program.loss, program.result] if prune else None
            program.step(grads, fetches)
            schedulers[0].step()
            values += program.values()
    return values


@pytest.mark.usefixtures("static_mode")
def test_a_program_goes_the_way_of_the_native_one(asked: dict[str, Any]) -> None:
    expected = trajectory(lambda lr: Native(lr, **options()))
    for prune in (False, True):
        actual = trajectory(lambda lr: rc.RAdam(lr, **options(), **asked), prune=prune)
        assert all(map(np.array_equal, actual, expected))


def step_both(make: Any, steps: int = 12) -> list[np.ndarray[Any, Any]]:
    with paddle.utils.unique_name.guard():
        params = [eager_parameter(name, np.linspace(-1, 1, 6)) for name in ("first", "second")]
        optimizer = make(params)
        values = []
        random = np.random.default_rng(4)
        for index in range(steps):
            for param in params:
                param.grad = paddle.to_tensor(random.standard_normal(6).astype("float32"))
            optimizer.step() if index % 2 else optimizer.minimize(paddle.zeros([1]))
            optimizer.clear_grad()
            values += [param.numpy() for param in params]
    return values


@pytest.mark.either_ir
def test_dynamic_graph_goes_the_way_of_the_native_one(asked: dict[str, Any]) -> None:
    common: dict[str, Any] = {"weight_decay": 0.02, "grad_clip": ClipGradByGlobalNorm(0.5)}
    expected = step_both(lambda params: Native(0.1, parameters=params, **common))
    actual = step_both(lambda params: rc.RAdam(0.1, parameters=params, **common, **asked))
    assert all(map(np.array_equal, actual, expected))


@pytest.mark.either_ir
def test_groups_in_dynamic_graph(asked: dict[str, Any]) -> None:
    def trained(make: Any) -> list[np.ndarray[Any, Any]]:
        with paddle.utils.unique_name.guard():
            params = [eager_parameter(name, np.linspace(-1, 1, 6)) for name in ("first", "second")]
            groups = [
                {"params": [params[0]], "beta1": 0.5},
                {"params": [params[1]], "learning_rate": 0.1, "weight_decay": 0.3},
            ]
            optimizer = make(groups)
            for _ in range(8):
                for param in params:
                    param.grad = paddle.cos(param)
                optimizer.step()
            return [param.numpy() for param in params]

    expected = trained(lambda groups: Native(0.1, parameters=groups))
    actual = trained(lambda groups: rc.RAdam(0.1, parameters=groups, **asked))
    assert all(map(np.array_equal, actual, expected))


def refused(**arguments: Any) -> Any:
    loss = paddle.mean(paddle.static.data("x", [3]) * parameter("weight"))
    return rc.RAdam(**arguments).minimize(loss)


@pytest.mark.usefixtures("static_mode")
@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ({"multi_precision": True}, "multi_precision=True is more than"),
        ({"decoupled_weight_decay": True, "weight_decay": 0.1}, "decoupled_weight_decay=True is"),
        ({"parameters": [{"params": ["weight"]}]}, "parameter group in static mode is more than"),
    ],
)
def test_what_native_cannot_do_is_refused_by_name(
    arguments: dict[str, Any], message: str, asked: dict[str, Any]
) -> None:
    who = "target='native'" if asked["target"] == "native" else r"config\(mode='off'\)"
    with pytest.raises(UnsupportedError, match=f"{message}.*{who}"):
        SmallProgram(lambda: refused(**arguments, **asked))


@pytest.mark.usefixtures("static_mode")
def test_what_native_fails_at_is_said_to_be_its_failure() -> None:
    program = paddle.static.Program()
    clip = ClipGradByValue(0.1) if IN_PIR else ClipGradByGlobalNorm(0.1)
    with paddle.static.program_guard(program, paddle.static.Program()):
        loss = paddle.mean(paddle.static.data("x", [3]) * parameter("weight"))
        before = str(program)
        with pytest.raises(UnsupportedError, match=r"own RAdam, which target='native' .* failed"):
            rc.RAdam(target="native", grad_clip=clip).minimize(loss)
        assert str(program) == before


@pytest.mark.usefixtures("static_mode")
@pytest.mark.parametrize(
    ("dtype", "shape", "message"),
    [("bfloat16", (3,), "'weight' of type"), ("float32", (0,), "'weight', which has no elements")],
)
def test_parameters_that_native_has_no_kernel_for(
    dtype: str, shape: tuple[int, ...], message: str
) -> None:
    def build() -> None:
        weight = paddle.cast(parameter("weight", shape, dtype=dtype), "float32")
        rc.RAdam(target="native").minimize(paddle.mean(paddle.concat([weight, weight])))

    with pytest.raises(UnsupportedError, match=message):
        SmallProgram(build)


@pytest.mark.either_ir
def test_a_sparse_gradient_is_refused() -> None:
    embedding = paddle.nn.Embedding(4, 2, sparse=True)
    optimizer = rc.RAdam(parameters=embedding.parameters(), target="native")
    paddle.mean(embedding(paddle.to_tensor([1]))).backward()
    with pytest.raises(UnsupportedError, match=r"embedding.* is sparse"):
        optimizer.step()


@pytest.mark.usefixtures("static_mode")
def test_names_and_minimize_outside_of_the_guard(asked: dict[str, Any]) -> None:
    main, startup = paddle.static.Program(), paddle.static.Program()
    with paddle.static.program_guard(main, startup):
        x = paddle.static.data("x", [3])
        loss = paddle.mean(x * parameter("weight") * parameter("other"))
    _, params_grads = rc.RAdam(**asked).minimize(loss, startup, parameters=["other"])
    assert [param.name for param, _ in params_grads] == ["other"]


@pytest.mark.either_ir
def test_checkpoints_are_native() -> None:
    with paddle.utils.unique_name.guard():
        weight = eager_parameter("weight", [1.0, 2.0])
        native = Native(0.1, parameters=[weight])
        weight.grad = paddle.ones([2])
        native.step()
        saved = {name: value.numpy() for name, value in native.state_dict().items()}
        with paddle.utils.unique_name.guard():
            optimizer = rc.RAdam(0.1, parameters=[weight], target="native")
            optimizer.set_state_dict(saved)
            optimizer.step()
        assert set(optimizer.state_dict()) == set(saved) == set(optimizer.native_state_dict())
        native.step()
        assert "weight_rho_0" in saved
        with paddle.utils.unique_name.guard():
            generated = rc.RAdam(0.1, parameters=[weight])
            generated.step()
        with pytest.raises(CheckpointError, match=r"'weight_step_0'.* native_state_dict\(\)"):
            optimizer.set_state_dict(generated.state_dict())


@pytest.mark.either_ir
def test_the_mode_is_read_when_an_optimizer_is_constructed() -> None:
    weight = eager_parameter("weight", [1.0, 2.0])
    weight.grad = paddle.ones([2])
    generated = rc.RAdam(0.1, parameters=[weight])
    rc.config(mode="off")
    try:
        native = rc.RAdam(0.1, parameters=[weight])
        generated.step()
    finally:
        rc.config(mode=None)
    native.step()
    assert generated.plan
    assert native.sources() == []
    with pytest.raises(ProgramError, match=r"no plan, as radam_codegen.config\(mode='off'\)"):
        native.plan.to_json()


@pytest.mark.either_ir
def test_a_copy_is_native_too() -> None:
    optimizer = rc.RAdam(0.1, parameters=[eager_parameter("weight", [1.0])], target="native")
    twin = copy.deepcopy(optimizer)
    (weight,) = twin._parameter_list
    weight.grad = paddle.ones([1])
    twin.step()
    assert weight.item() == pytest.approx(0.9)
    assert twin.sources() == []


# Everything that a process starts or writes to, seen by the interpreter itself.
_WATCHED = """
import os, sys
import numpy as np
import paddle
seen = []
def hook(event, arguments):
    started = ("subprocess.Popen", "os.exec", "os.fork", "os.posix_spawn", "os.system")
    if event in started or event in ("os.mkdir", "ctypes.dlopen"):
        seen.append((event, arguments))
    if event == "open" and (arguments[2] or 0) & (os.O_WRONLY | os.O_RDWR):
        seen.append((event, arguments))
sys.addaudithook(hook)
import radam_codegen as rc
paddle.enable_static()
weight = paddle.create_parameter([3], "float32")
loss = paddle.mean(paddle.static.data("x", [3]) * weight)
result = rc.RAdam(0.1).minimize(loss)
executor = paddle.static.Executor(paddle.CPUPlace())
executor.run(paddle.static.default_startup_program())
executor.run(feed={"x": np.ones(3, "float32")}, fetch_list=[loss, result])
paddle.disable_static()
weight = paddle.create_parameter([3], "float32")
weight.grad = paddle.ones([3])
rc.RAdam(0.1, parameters=[weight]).step()
from radam_codegen.program.operator import is_registered
assert not is_registered()
print(seen)
"""


def test_off_starts_no_process_and_writes_nothing(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("RADAM_CODEGEN_MODE", "off")
    monkeypatch.setenv("RADAM_CODEGEN_CACHE_DIR", str(tmp_path / "cache"))
    monkeypatch.setenv("CC", "/bin/false")
    monkeypatch.setenv("CXX", "/bin/false")
    done = subprocess.run(
        [sys.executable, "-B", "-c", _WATCHED], capture_output=True, text=True, timeout=300
    )
    assert done.returncode == 0, done.stderr
    assert done.stdout.splitlines()[-1] == "[]"
    assert not (tmp_path / "cache").exists()


def test_off_refuses_programs_that_hold_kernels() -> None:
    rc.config(mode="off")
    try:
        with pytest.raises(ProgramError, match="mode 'off'"):
            rc.load_operator()
    finally:
        rc.config(mode=None)
