"""``minimize``: where it may be called, what it takes and returns, and what it leaves alone."""

from __future__ import annotations

from typing import Any

import numpy as np
import paddle
import pytest
from support.static_programs import IN_PIR, FedProgram, Tensor, program_text, random_gradients
from support.twin import Twin, assert_follows, expected_tensor, initial_values

import radam_codegen as rc
from radam_codegen.errors import ProgramError
from radam_codegen.ir.plan import GroupPlan

pytestmark = pytest.mark.usefixtures("static_mode")

LR = 0.05
TENSORS = (Tensor("a", (9,)), Tensor("b", (3, 5)), Tensor("c", (4,)))


def adam(params: list[Any]) -> Any:
    return rc.RAdam(LR)


def group_of(*names: str) -> list[GroupPlan]:
    return [GroupPlan(tuple(expected_tensor(each) for each in TENSORS if each.name in names))]


def assert_updates_only(program: FedProgram, *names: str) -> None:
    """The named parameters follow the reference, and the others stay where they are."""
    assert_follows(program, group_of(*names), random_gradients(TENSORS, 7), LR)
    assert {each.name for group in program.optimizer.plan.groups for each in group.tensors} == set(
        names
    )


def test_returns_operators_and_pairs() -> None:
    program = FedProgram(TENSORS, adam)
    operations, params_grads = program.result
    kind = paddle.pir.Operation if IN_PIR else paddle.base.framework.Operator
    assert [type(each) for each in operations] == [kind]
    assert sorted(param.name for param, _ in params_grads) == ["a", "b", "c"]
    assert all(list(param.shape) == list(grad.shape) for param, grad in params_grads)


def test_the_gradients_of_the_pairs_can_be_fetched() -> None:
    program = FedProgram(TENSORS, adam).start()
    _, params_grads = program.result
    grads = random_gradients(TENSORS, 1)[0]
    fetched = program.step(grads, [grad for _, grad in params_grads])
    place = {tensor.name: index for index, tensor in enumerate(TENSORS)}
    for (param, _), value in zip(params_grads, fetched):
        np.testing.assert_array_equal(value, grads[place[param.name]])


def test_outside_of_program_guard() -> None:
    program = FedProgram(TENSORS, adam, minimize=lambda opt, loss: None)
    default = program_text(paddle.static.default_main_program())
    program.result = program.optimizer.minimize(program.loss, program.startup)
    assert program_text(paddle.static.default_main_program()) == default
    assert_updates_only(program, "a", "b", "c")


def test_the_default_startup_program_is_taken_where_none_is_given() -> None:
    program = FedProgram(TENSORS, adam, minimize=lambda opt, loss: None)
    with paddle.static.program_guard(paddle.static.Program(), program.startup):
        program.optimizer.minimize(program.loss)
    assert_updates_only(program, "a", "b", "c")


def test_inside_of_the_guard_of_other_programs() -> None:
    program = FedProgram(TENSORS, adam, minimize=lambda opt, loss: None)
    other, other_startup = paddle.static.Program(), paddle.static.Program()
    with paddle.static.program_guard(other, other_startup):
        program.optimizer.minimize(program.loss, startup_program=program.startup)
    assert not other.global_block().ops
    assert not other_startup.global_block().ops
    assert_updates_only(program, "a", "b", "c")


@pytest.mark.parametrize("as_names", [True, False], ids=["names", "tensors"])
@pytest.mark.parametrize("where", ["constructor", "minimize"])
def test_parameters(where: str, as_names: bool) -> None:
    chosen: list[Any] = ["a", "c"]

    def make(params: list[Any]) -> Any:
        nonlocal chosen
        if not as_names:
            chosen = [params[0], params[2]]
        return rc.RAdam(LR, parameters=chosen if where == "constructor" else None)

    def minimize(opt: Any, loss: Any) -> Any:
        return opt.minimize(loss, parameters=chosen if where == "minimize" else None)

    assert_updates_only(FedProgram(TENSORS, make, minimize), "a", "c")


def test_parameters_as_a_tuple_and_mixed() -> None:
    program = FedProgram(TENSORS, lambda params: rc.RAdam(LR, parameters=("a", params[1])))
    assert_updates_only(program, "a", "b")


def test_minimize_s_parameters_come_before_the_constructor_s() -> None:
    program = FedProgram(
        TENSORS,
        lambda params: rc.RAdam(LR, parameters=params[:2]),
        lambda opt, loss: opt.minimize(loss, parameters=["b"]),
    )
    assert_updates_only(program, "b")


@pytest.mark.parametrize("collection", [set, list, tuple])
@pytest.mark.parametrize("as_names", [True, False], ids=["names", "tensors"])
def test_no_grad_set(as_names: bool, collection: type) -> None:
    params: list[Any] = []

    def make(created: list[Any]) -> Any:
        params.extend(created)
        return rc.RAdam(LR)

    def minimize(opt: Any, loss: Any) -> Any:
        named = {each.name: each for each in params}
        excluded = ["b", "c"] if as_names else [named["b"], named["c"]]
        return opt.minimize(loss, no_grad_set=collection(excluded))

    program = FedProgram(TENSORS, make, minimize)
    assert [param.name for param, _ in program.result[1]] == ["a"]
    assert_updates_only(program, "a")


@pytest.mark.parametrize("how", ["trainable", "stop_gradient"])
def test_frozen_parameters_stay(how: str) -> None:
    frozen = {"trainable": False} if how == "trainable" else {}
    tensors = (TENSORS[0], Tensor("b", (3, 5), options=frozen), TENSORS[2])

    def make(params: list[Any]) -> Any:
        if how == "stop_gradient":
            params[1].stop_gradient = True
        return rc.RAdam(LR, parameters=params)

    program = FedProgram(tensors, make)
    assert not any("b_moment" in name for name in program.state_names())
    assert_updates_only(program, "a", "c")


def test_a_loss_that_does_not_reach_a_parameter() -> None:
    def minimize(opt: Any, loss: Any) -> Any:
        initial = paddle.nn.initializer.Constant(0.25)
        attr = paddle.ParamAttr(name="unused", initializer=initial)
        paddle.create_parameter([3], "float32", attr=attr)
        return opt.minimize(loss)

    program = FedProgram(TENSORS, adam, minimize)
    assert "unused" in program.state_names()
    assert not any("unused_moment" in name for name in program.state_names())
    assert_updates_only(program, "a", "b", "c")
    np.testing.assert_array_equal(program.read("unused"), np.full(3, 0.25, "float32"))


def test_nothing_to_update_changes_nothing() -> None:
    tensors = [Tensor("a", (3,), options={"trainable": False}), Tensor("b", (3,))]
    program = FedProgram(tensors, adam, minimize=lambda opt, loss: None)
    before = program_text(program.main), program_text(program.startup)
    result = program.optimizer.minimize(program.loss, program.startup, no_grad_set={"b"})
    assert result == ([], [])
    assert (program_text(program.main), program_text(program.startup)) == before


def test_plan_and_sources() -> None:
    program = FedProgram(TENSORS, adam, minimize=lambda opt, loss: None)
    with pytest.raises(ProgramError, match="minimize"):
        _ = program.optimizer.plan
    with pytest.raises(ProgramError, match="minimize"):
        program.optimizer.sources()
    with paddle.static.program_guard(program.main, program.startup):
        program.optimizer.minimize(program.loss)
    plan = program.optimizer.plan
    assert {each.name: each.shape for each in plan.groups[0].tensors} == {
        each.name: each.shape for each in TENSORS
    }
    assert type(plan).from_json(plan.to_json()) == plan
    for name in ("a", "b", "c", "beta2", "0.999"):
        assert name in str(plan)
    program.start()
    (source,) = program.optimizer.sources()
    assert source.language == "c"
    assert source.path is not None
    assert source.path.read_text(encoding="utf-8") == source.text
    assert source.name in source.text


def network(optimizer: Any) -> tuple[Any, Any, Any, Any]:
    """A small network with Batch Norm and an embedding."""
    main, startup = paddle.static.Program(), paddle.static.Program()
    main.random_seed = startup.random_seed = 7
    with paddle.static.program_guard(main, startup), paddle.utils.unique_name.guard():
        paddle.seed(7)
        ids = paddle.static.data("ids", [6, 3], "int64")
        hidden = paddle.nn.Embedding(11, 4)(ids)
        hidden = paddle.flatten(hidden, 1)
        hidden = paddle.nn.functional.relu(paddle.nn.Linear(12, 8)(hidden))
        hidden = paddle.nn.BatchNorm1D(8)(hidden)
        loss = paddle.mean(paddle.square(paddle.nn.Linear(8, 1)(hidden) - 1.0))
        result = optimizer().minimize(loss)
    return main, startup, loss, result


def losses(optimizer: Any, prune: bool) -> list[float]:
    main, startup, loss, result = network(optimizer)
    executor, scope = paddle.static.Executor(paddle.CPUPlace()), paddle.static.Scope()
    executor.run(startup, scope=scope)
    ids = np.random.default_rng(0).integers(0, 11, (6, 3))
    fetches = [loss, result] if prune else [loss]
    return [
        float(executor.run(main, feed={"ids": ids}, fetch_list=fetches, scope=scope)[0])
        for _ in range(15)
    ]


@pytest.mark.parametrize("prune", [False, True])
def test_a_network_learns_as_with_native_radam(prune: bool) -> None:
    native = losses(lambda: paddle.optimizer.RAdam(LR), prune=False)
    ours = losses(lambda: rc.RAdam(LR), prune)
    assert native[-1] < native[0] / 2
    np.testing.assert_allclose(ours, native, rtol=1e-3)


def test_two_programs_of_one_process_do_not_meet() -> None:
    first = FedProgram(TENSORS, adam)
    with paddle.utils.unique_name.guard():
        second = FedProgram(TENSORS, lambda params: rc.RAdam(0.5, beta1=0.5))
    values, gradients = initial_values(TENSORS), random_gradients(TENSORS, 7)
    plans = tuple(map(expected_tensor, TENSORS))
    twins = [
        Twin(TENSORS, [GroupPlan(plans)], values),
        Twin(TENSORS, [GroupPlan(plans, beta1=0.5)], values),
    ]
    for program in (first, second):
        program.start(values)
    for grads in gradients:
        for program, twin, lr in zip((first, second), twins, (LR, 0.5)):
            program.step(grads)
            twin.step(grads, lr)
    for program, twin in zip((first, second), twins):
        for actual, expected in zip(program.values(), twin.values()):
            np.testing.assert_allclose(actual, expected, rtol=2e-5, atol=2e-6)
