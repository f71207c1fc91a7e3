"""Pruning of programs with branches, loops, and ops that write in place."""

from __future__ import annotations

from typing import Any

import numpy as np
import paddle
import pytest
from support.prunable import IN_PIR, Half, Programs, dense, feed_of, op_names, read, state

import radam_codegen

pytestmark = pytest.mark.usefixtures("cache")


def two_optimizers(make: Any, names: str = "dg") -> Programs:
    """Halves as ``make(name, x)`` gives them: a value to square, and its parameters."""
    main, startup = paddle.static.Program(), paddle.static.Program()
    halves = {}
    with paddle.static.program_guard(main, startup), paddle.utils.unique_name.guard():
        for name in names:
            data = paddle.static.data(f"x_{name}", [5, 4], "float32")
            out, parameters = make(name, data)
            loss = paddle.mean(paddle.square(out))
            halves[name] = Half(name, data, out, loss, parameters=parameters)
        for half in halves.values():
            with paddle.utils.unique_name.guard(f"{half.name}_"):
                optimizer = paddle.optimizer.Adam(0.1, parameters=half.parameters)
                half.result = optimizer.minimize(half.loss)
    return Programs(main, startup, halves).start()


def check_against_alone(make: Any, steps: int = 4, state: tuple[str, ...] = ()) -> Programs:
    programs = two_optimizers(make)
    alone = {name: two_optimizers(make, name) for name in "dg"}
    for step in range(steps):
        for name, half in programs.halves.items():
            feed = feed_of([name], step)
            (loss,) = programs.run(feed, [half.loss, half.result])
            (expected,) = alone[name].run(feed, [alone[name].halves[name].loss])
            np.testing.assert_allclose(loss, expected, rtol=1e-6)
    for name, half in programs.halves.items():
        other = alone[name]
        for now, then in zip(half.weights(programs.scope), half.weights(other.scope)):
            np.testing.assert_allclose(now, then, rtol=1e-6)
        for suffix in state:
            np.testing.assert_allclose(
                read(programs.scope, f"{name}_{suffix}"), read(other.scope, f"{name}_{suffix}")
            )
    return programs


def normed(name: str, x: Any, shared: str | None = None) -> tuple[Any, list[Any]]:
    """A layer, then a batch norm that names its statistics after ``shared`` or the half."""
    hidden, parameters = dense(x, name)
    owner = shared or name
    weight, bias = (
        paddle.create_parameter(
            [3],
            "float32",
            name=f"{owner}_{kind}",
            default_initializer=paddle.nn.initializer.Constant(value),
        )
        for kind, value in (("scale", 1.0), ("shift", 0.0))
    )
    mean, variance = (
        paddle.create_parameter(
            [3],
            "float32",
            name=f"{owner}_{kind}",
            attr=paddle.ParamAttr(name=f"{owner}_{kind}", trainable=False),
            default_initializer=paddle.nn.initializer.Constant(value),
        )
        for kind, value in (("mean", 0.0), ("variance", 1.0))
    )
    out = paddle.nn.functional.batch_norm(
        hidden, mean, variance, weight=weight, bias=bias, training=True
    )
    return out * 2.0, parameters


def test_batch_norm_updates_its_own_statistics_only() -> None:
    programs = check_against_alone(normed, state=("mean", "variance"))
    before = read(programs.scope, "g_mean")
    half = programs.halves["d"]
    programs.run(feed_of("d", 9), [half.loss, half.result])
    np.testing.assert_array_equal(read(programs.scope, "g_mean"), before)


class SharedNorm:
    """A batch norm that both halves go through, in the order of the names."""

    def __init__(self) -> None:
        self.layer: Any = None

    def __call__(self, name: str, x: Any) -> tuple[Any, list[Any]]:
        hidden, parameters = dense(x, name)
        if self.layer is None:
            self.layer = paddle.nn.BatchNorm1D(3)
        return self.layer(hidden) * 2.0, parameters


@pytest.mark.skipif(not IN_PIR, reason="legacy pruning goes by name and keeps both halves")
def test_shared_batch_norm_does_not_keep_the_other_half() -> None:
    programs = two_optimizers(SharedNorm())
    mean = programs.main.global_block().all_parameters()
    mean_name = next(p.name for p in mean if p.name.endswith(".w_1"))
    for name, half in programs.halves.items():
        alone = two_optimizers(SharedNorm(), name)
        alone_name = next(
            p.name for p in alone.main.global_block().all_parameters() if p.name.endswith(".w_1")
        )
        programs.start()
        feed = feed_of([name], 1)
        assert radam_codegen.prune(programs.main, feed, [half.result]).feed_names == (
            half.feed_name,
        )
        programs.run(feed, [half.result])
        alone.run(feed, [alone.halves[name].loss])
        np.testing.assert_allclose(
            read(programs.scope, mean_name), read(alone.scope, alone_name), rtol=1e-6
        )


@pytest.mark.skipif(not IN_PIR, reason="legacy pruning goes by name and keeps both halves")
def test_statistics_that_are_fetched_are_those_of_all_branches() -> None:
    programs = two_optimizers(SharedNorm())
    mean = next(p for p in programs.main.global_block().all_parameters() if p.name.endswith(".w_1"))
    half = programs.halves["g"]
    pruned = radam_codegen.prune(programs.main, None, [half.loss, mean, half.result])
    assert sorted(pruned.feed_names) == ["x_d", "x_g"]


def test_dropout_scales_like_alone() -> None:
    def dropped(name: str, x: Any) -> tuple[Any, list[Any]]:
        hidden, parameters = dense(x, name)
        # All or nothing, so that it doesn't hang on the random state.
        kept = paddle.nn.functional.dropout(hidden, 0.0)
        return kept + paddle.nn.functional.dropout(hidden, 1.0), parameters

    check_against_alone(dropped)


def branching(name: str, x: Any) -> tuple[Any, list[Any]]:
    hidden, parameters = dense(x, name)
    out = paddle.static.nn.cond(
        paddle.mean(x) > 0.0,
        lambda: paddle.square(hidden) * 2.0,
        lambda: hidden - 1.0,
    )
    return out, parameters


def looping(name: str, x: Any) -> tuple[Any, list[Any]]:
    hidden, parameters = dense(x, name)
    count = paddle.full([1], 0, "int64")

    def body(i: Any, value: Any) -> list[Any]:
        return [i + 1, paddle.square(value) * 0.5 + hidden]

    _, out = paddle.static.nn.while_loop(lambda i, value: i < 3, body, [count, hidden])
    return out, parameters


def nested(name: str, x: Any) -> tuple[Any, list[Any]]:
    hidden, parameters = dense(x, name)
    count = paddle.full([1], 0, "int64")

    def body(i: Any, value: Any) -> list[Any]:
        grown = paddle.static.nn.cond(
            paddle.mean(value) > 0.0, lambda: paddle.square(value) * 0.3, lambda: value - hidden
        )
        return [i + 1, grown]

    _, out = paddle.static.nn.while_loop(lambda i, value: i < 3, body, [count, hidden])
    return out, parameters


NO_LEGACY_BRANCH = pytest.mark.skipif(
    not IN_PIR, reason="paddle.static.nn.cond itself raises a TypeError in legacy programs"
)


@pytest.mark.parametrize(
    "make",
    [
        pytest.param(branching, marks=NO_LEGACY_BRANCH),
        looping,
        pytest.param(nested, marks=NO_LEGACY_BRANCH),
    ],
)
def test_branches_and_loops(make: Any) -> None:
    programs = check_against_alone(make)
    half = programs.halves["d"]
    pruned = radam_codegen.prune(programs.main, feed_of("d", 0), [half.loss, half.result])
    assert pruned.feed_names == ("x_d",)


def all_op_names(program: Any) -> list[str]:
    def walk(block: Any) -> Any:
        for op in block.ops:
            yield op.name()
            for inner in op.blocks():
                yield from walk(inner)

    return list(walk(program.global_block()))


@pytest.mark.skipif(not IN_PIR, reason="legacy has no stacks")
@pytest.mark.parametrize("make", [branching, looping, nested])
def test_stacks_go_with_the_gradients_that_would_empty_them(make: Any) -> None:
    def onto_a_shared_trunk() -> Programs:
        main, startup = paddle.static.Program(), paddle.static.Program()
        with paddle.static.program_guard(main, startup), paddle.utils.unique_name.guard():
            data = paddle.static.data("x_d", [5, 4], "float32")
            trunk, trunk_parameters = make("d", data)
            loss = paddle.mean(paddle.square(trunk))
            head, head_parameters = dense(paddle.concat([trunk, trunk[:, :1]], 1), "g")
            head_loss = paddle.mean(paddle.square(head))
            halves = {
                "d": Half("d", data, trunk, loss, parameters=trunk_parameters),
                "g": Half("g", data, head, head_loss, parameters=head_parameters),
            }
            for half in halves.values():
                optimizer = paddle.optimizer.SGD(0.01, parameters=half.parameters)
                half.result = optimizer.minimize(half.loss)
        return Programs(main, startup, halves).start()

    programs, whole = onto_a_shared_trunk(), onto_a_shared_trunk()
    assert "cf.tuple_push" in all_op_names(programs.main)
    head = programs.halves["g"]
    pruned = radam_codegen.prune(programs.main, ["x_d"], [head.loss, head.result])
    assert not {"cf.tuple_push", "cf.tuple_pop", "cf.stack_create"} & set(
        all_op_names(pruned.program)
    )
    trunk = programs.halves["d"]
    pruned = radam_codegen.prune(programs.main, ["x_d"], [trunk.result])
    assert {"cf.tuple_push", "cf.tuple_pop", "cf.stack_create"} <= set(all_op_names(pruned.program))
    # Both optimizers, one after the other, do what they do together in one run.
    for step in range(3):
        feed = feed_of("d", step)
        (expected,) = whole.run(feed, [whole.halves["g"].loss])
        (loss,) = programs.run(feed, [head.loss, head.result])
        programs.run(feed, [trunk.result])
        np.testing.assert_allclose(loss, expected, rtol=1e-5)
    for name in "dg":
        ours = programs.halves[name].weights(programs.scope)
        for now, then in zip(ours, whole.halves[name].weights(whole.scope)):
            np.testing.assert_allclose(now, then, rtol=1e-5)


def test_an_assignment_in_place_stays_where_its_target_is_read() -> None:
    def counted(name: str, x: Any) -> tuple[Any, list[Any]]:
        hidden, parameters = dense(x, name)
        counter = state(f"{name}_n", 0.0)
        paddle.assign(counter + 1.0, output=counter)
        return hidden * counter, parameters

    programs = check_against_alone(counted, steps=3, state=("n",))
    assert read(programs.scope, "d_n")[0] == 3.0


@pytest.mark.skipif(not IN_PIR, reason="legacy pruning goes by name and keeps it")
def test_an_assignment_in_place_goes_where_nothing_reads_its_target() -> None:
    def counted(name: str, x: Any) -> tuple[Any, list[Any]]:
        hidden, parameters = dense(x, name)
        counter = state(f"{name}_n", 0.0)
        out = hidden * paddle.exp(counter)
        paddle.assign(counter + 1.0, output=counter)  # after the only use
        return out, parameters

    programs = two_optimizers(counted)
    half = programs.halves["d"]
    programs.run(feed_of("d", 0), [half.loss, half.result])
    assert read(programs.scope, "d_n")[0] == 0.0


@pytest.mark.skipif(not IN_PIR, reason="such ops are made through the PIR interface")
def test_a_write_through_a_vector_stays_where_an_element_is_read() -> None:
    def scaled(name: str, x: Any) -> tuple[Any, list[Any]]:
        hidden, parameters = dense(x, name)
        buffer, scale = state(f"{name}_n", 8.0), state(f"{name}_scale", 2.0)
        # Divides its operands by the scale, in place; they come as one vector.
        paddle._C_ops.check_finite_and_unscale_([buffer], scale)
        return hidden * buffer, parameters

    programs = check_against_alone(scaled, steps=2, state=("n",))
    assert read(programs.scope, "d_n")[0] == 2.0


@pytest.mark.skipif(not IN_PIR, reason="in legacy a variable is one object")
def test_a_write_through_another_handle_of_the_same_parameter_stays() -> None:
    def counted(name: str, x: Any) -> tuple[Any, list[Any]]:
        hidden, parameters = dense(x, name)
        counter = paddle.create_parameter(
            [1],
            "float32",
            name=f"{name}_n",
            attr=paddle.ParamAttr(name=f"{name}_n", trainable=False),
            default_initializer=paddle.nn.initializer.Constant(0.0),
        )
        handle = paddle._pir_ops.parameter(f"{name}_n")
        paddle.assign(counter + 1.0, output=handle)
        return hidden * counter, parameters

    programs = check_against_alone(counted, steps=3, state=("n",))
    assert read(programs.scope, "d_n")[0] == 3.0


def test_ops_of_the_optimize_role_are_optimizers() -> None:
    def averaged(name: str, x: Any) -> tuple[Any, list[Any]]:
        hidden, parameters = dense(x, name)
        average = state(f"{name}_n", 0.0)
        if IN_PIR:
            with paddle.base.framework.pir_op_role_guard(2):
                paddle.assign(average + 1.0, output=average)
        else:
            with paddle.static.default_main_program()._optimized_guard([]):
                paddle.assign(average + 1.0, output=average)
        return hidden, parameters

    programs = two_optimizers(averaged)
    half = programs.halves["d"]
    programs.run(feed_of("dg", 0), [half.loss, half.result])
    assert read(programs.scope, "d_n")[0] == 0.0
    programs.run(feed_of("dg", 0), [half.loss], use_prune=True)
    assert read(programs.scope, "d_n")[0] == 1.0


@NO_LEGACY_BRANCH
def test_an_assignment_inside_a_branch_stays() -> None:
    def counted(name: str, x: Any) -> tuple[Any, list[Any]]:
        hidden, parameters = dense(x, name)
        counter = state(f"{name}_n", 1.0)

        def count() -> Any:
            paddle.assign(counter + 1.0, output=counter)
            return counter * 1.0

        paddle.static.nn.cond(paddle.mean(x) > -1000.0, count, lambda: counter * 1.0)
        return hidden * counter, parameters

    programs = check_against_alone(counted, steps=3, state=("n",))
    assert read(programs.scope, "d_n")[0] == 4.0


def test_unneeded_optimizer_state_is_not_in_the_pruned_program() -> None:
    programs = two_optimizers(looping)
    half = programs.halves["d"]
    pruned = radam_codegen.prune(programs.main, ["x_d"], [half.loss, half.result])
    names = pruned.declared if IN_PIR else set(pruned.program.global_block().vars)
    assert any(name.startswith("d_") and "moment1" in name for name in names)
    assert not any(name.startswith("g_") for name in names)
    assert len(op_names(pruned.program)) < 0.6 * len(op_names(programs.main))
