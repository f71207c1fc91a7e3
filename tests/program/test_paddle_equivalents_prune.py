"""What Paddle's own tests of the Executor's pruning show with native optimizers, shown with ours.

The situations are those of ``test_prune.py`` in Paddle. It has them in the legacy IR; here they are
in both, except for what PIR has no words for: names of values, and ``CompiledProgram``.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Any

import numpy as np
import paddle
import pytest
from paddle.nn.functional import cross_entropy, softmax
from support.static_programs import IN_PIR

import radam_codegen as rc
from radam_codegen.program.pruning import PruneCache

pytestmark = pytest.mark.usefixtures("cache")

legacy_only = pytest.mark.skipif(IN_PIR, reason="names a value, or compiles a program")

X = np.random.default_rng(0).random((10, 2)).astype("float32")
LABEL = np.zeros((10, 1), "int64")


@dataclass
class Net:
    """Two losses in one program: of one prediction, or of one each."""

    main: Any = field(default_factory=paddle.static.Program)
    startup: Any = field(default_factory=paddle.static.Program)
    predictions: list[Any] = field(default_factory=list)
    losses: list[Any] = field(default_factory=list)
    trains: list[Any] = field(default_factory=list)
    executor: Any = field(default_factory=lambda: paddle.static.Executor(paddle.CPUPlace()))

    def minimize(self, optimizer: Any, which: int) -> Any:
        with paddle.static.program_guard(self.main, self.startup):
            self.trains.append(optimizer.minimize(self.losses[which]))
        return self.trains[-1]

    def scope(self) -> Any:
        """A new scope in which the startup program has run."""
        scope = paddle.static.Scope()
        self.executor.run(self.startup, scope=scope)
        return scope

    def run(
        self, scope: Any, fetch: Any, program: Any = None, feed: Any = None, **more: Any
    ) -> Any:
        feed = {"x": X, "label": LABEL} if feed is None else feed
        return self.executor.run(
            program or self.main, feed=feed, fetch_list=fetch, scope=scope, **more
        )

    def has_run(self, scope: Any, which: int) -> bool:
        """Whether a loss was computed; in legacy it lies in the scope, as it is persistable."""
        return scope.find_var(self.losses[which].name) is not None


def fetch(value: Any) -> Any:
    return value if IN_PIR else value.name


def weight(scope: Any, name: str = "fc_weight") -> Any:
    return np.array(scope.find_var(name).get_tensor())


def build(inputs: dict[str, str]) -> Net:
    """A net with a prediction from each input through a weight of that name."""
    net = Net()
    with paddle.static.program_guard(net.main, net.startup), paddle.utils.unique_name.guard():
        data = [paddle.static.data(name, [None, 2], "float32") for name in inputs]
        label = paddle.static.data("label", [None, 1], "int64")
        for x, name in zip(data, inputs.values()):
            attr = paddle.ParamAttr(
                name=name, learning_rate=0.5, initializer=paddle.nn.initializer.Constant(1.0)
            )
            net.predictions.append(softmax(paddle.nn.Linear(2, 2, weight_attr=attr)(x)))
        for prediction in net.predictions * (2 // len(data)):
            each = cross_entropy(prediction, label, reduction="none", use_softmax=False)
            net.losses.append(paddle.mean(each))
            if not IN_PIR:
                net.losses[-1].persistable = True
    return net


def one_prediction() -> Net:
    return build({"x": "fc_weight"})


def two_predictions() -> Net:
    return build({"x1": "fc_weight1", "x2": "fc_weight2"})


def radam() -> Any:
    return rc.RAdam(learning_rate=0.5)


def test_without_pruning_everything_runs() -> None:
    net = one_prediction()
    net.minimize(radam(), 0)
    scope = net.scope()
    (loss,) = net.run(scope, [fetch(net.losses[0])], use_prune=False)
    assert np.isfinite(loss)
    assert not np.array_equal(weight(scope), np.ones((2, 2)))
    if not IN_PIR:
        assert net.has_run(scope, 0)
        assert net.has_run(scope, 1)


def test_fetches_without_an_optimizer() -> None:
    net = one_prediction()
    scope = net.scope()
    net.run(scope, [fetch(net.losses[0])], use_prune=True)
    np.testing.assert_array_equal(weight(scope), np.ones((2, 2)))
    if not IN_PIR:
        assert net.has_run(scope, 0)
        assert not net.has_run(scope, 1)


def test_fetches_with_an_optimizer() -> None:
    net = one_prediction()
    net.minimize(radam(), 0)
    scope = net.scope()
    net.run(scope, [fetch(net.losses[0])], use_prune=True)
    assert not np.array_equal(weight(scope), np.ones((2, 2)))
    if not IN_PIR:
        assert net.has_run(scope, 0)
        assert not net.has_run(scope, 1)
    pruned = rc.prune(net.main, {"x": X, "label": LABEL}, [fetch(net.losses[0])]).program
    assert count_losses(pruned) == 1
    assert count_losses(net.main) == 2


def count_losses(program: Any) -> int:
    names = [op.name() if IN_PIR else op.type for op in program.global_block().ops]
    return sum(
        name.removeprefix("pd_op.") in ("cross_entropy_with_softmax", "softmax_with_cross_entropy")
        for name in names
    )


@legacy_only
def test_a_compiled_program() -> None:
    net = one_prediction()
    net.minimize(radam(), 0)
    scope = net.scope()
    compiled = paddle.static.CompiledProgram(net.main)
    net.run(scope, [fetch(net.losses[0])], compiled, use_prune=True)
    assert not np.array_equal(weight(scope), np.ones((2, 2)))
    assert net.has_run(scope, 0)
    assert not net.has_run(scope, 1)


@legacy_only
def test_feeding_a_prediction_without_an_optimizer() -> None:
    net = one_prediction()
    scope = net.scope()
    feed = {net.predictions[0].name: X, "label": LABEL}
    net.run(scope, [fetch(net.losses[0])], feed=feed, use_prune=True)
    np.testing.assert_array_equal(weight(scope), np.ones((2, 2)))
    assert net.has_run(scope, 0)
    assert not net.has_run(scope, 1)


@legacy_only
def test_feeding_a_prediction_with_an_optimizer() -> None:
    net = one_prediction()
    net.minimize(radam(), 0)
    scope = net.scope()
    feed = {net.predictions[0].name: X, "label": LABEL}
    with pytest.raises(ValueError, match="'x'"):
        net.run(scope, [fetch(net.losses[0])], feed=feed, use_prune=True)
    np.testing.assert_array_equal(weight(scope), np.ones((2, 2)))
    assert not net.has_run(scope, 0)
    assert not net.has_run(scope, 1)


def test_a_pruned_program_is_cached(cache: PruneCache) -> None:
    net = one_prediction()
    net.minimize(radam(), 0)
    scope = net.scope()
    for _ in range(10):
        net.run(scope, [fetch(net.losses[0])], use_prune=True)
        assert cache.prunings == 1


def test_optimize_ops_are_part_of_what_is_cached_for(cache: PruneCache) -> None:
    net = two_predictions()
    for which in range(2):
        net.minimize(radam(), which)
    scope = net.scope()
    feed = {"x1": X, "x2": X, "label": LABEL}
    for turn in range(10):
        net.run(scope, [*net.losses, net.trains[turn % 2]], feed=feed, use_prune=True)
        assert cache.prunings == min(turn + 1, 2)


@legacy_only
def test_a_pruned_compiled_program_is_cached(cache: PruneCache) -> None:
    net = one_prediction()
    net.minimize(radam(), 0)
    scope = net.scope()
    compiled = paddle.static.CompiledProgram(net.main)
    for _ in range(10):
        net.run(scope, [fetch(net.losses[0])], compiled, use_prune=True)
        assert cache.prunings == 1


@pytest.mark.parametrize("as_pair", [False, True], ids=["ops", "pair"])
@pytest.mark.parametrize("options", [{"use_prune": True}, {}], ids=str)
def test_one_of_two_minimizations(as_pair: bool, options: dict[str, bool]) -> None:
    net = one_prediction()
    optimizer = radam()
    first = net.minimize(optimizer, 0)
    only_first, its_startup = net.main.clone(), net.startup.clone()
    net.minimize(optimizer, 1)
    wanted = first if as_pair else first[0]

    whole, pruned, expected = net.scope(), net.scope(), paddle.static.Scope()
    net.executor.run(its_startup, scope=expected)
    # A clone has values of its own in PIR, and nothing of it needs to be fetched.
    for _ in range(8):
        net.run(whole, [fetch(net.losses[0])], use_prune=False)
        net.run(pruned, [fetch(net.losses[0]), wanted], **options)
        net.run(expected, [], only_first)
    np.testing.assert_array_equal(weight(pruned), weight(expected))
    assert not np.array_equal(weight(whole), weight(expected))
    assert not np.array_equal(weight(expected), np.ones((2, 2)))


def test_only_some_parameters_are_updated() -> None:
    net = two_predictions()
    for which in range(2):
        net.minimize(radam(), which)
    scope = net.scope()
    before = weight(scope, "fc_weight2")
    for _ in range(8):
        net.run(
            scope,
            [fetch(net.losses[0]), net.trains[0]],
            feed={"x1": X, "label": LABEL},
            use_prune=True,
        )
    assert not np.array_equal(weight(scope, "fc_weight1"), np.ones((2, 2)))
    np.testing.assert_array_equal(weight(scope, "fc_weight2"), before)
    if not IN_PIR:
        assert net.has_run(scope, 0)
        assert not net.has_run(scope, 1)


@legacy_only
def test_fetching_a_prediction_that_is_fed() -> None:
    net = one_prediction()
    scope = net.scope()
    feed = {net.predictions[0].name: X, "label": LABEL}
    fetches = [net.predictions[0].name, net.losses[0].name]
    prediction, _ = net.run(scope, fetches, feed=feed, use_prune=True)
    np.testing.assert_array_equal(prediction, X)
    assert net.has_run(scope, 0)
    assert not net.has_run(scope, 1)
    assert scope.find_var("x") is None
    np.testing.assert_array_equal(weight(scope), np.ones((2, 2)))


@pytest.mark.parametrize("trained", [False, True])
def test_fetching_data_that_are_fed(trained: bool) -> None:
    net = one_prediction()
    train = [net.minimize(radam(), 0)] if trained else []
    scope = net.scope()
    data, _ = net.run(scope, ["x", fetch(net.losses[0]), *train], use_prune=True)
    np.testing.assert_array_equal(data, X)
    assert np.array_equal(weight(scope), np.ones((2, 2))) != trained
    if not IN_PIR:
        assert net.has_run(scope, 0)
        assert not net.has_run(scope, 1)


@pytest.mark.parametrize("compiled", [False, pytest.param(True, marks=legacy_only)])
def test_a_feed_that_lacks_what_is_needed(compiled: bool) -> None:
    net = one_prediction()
    net.minimize(rc.RAdam(learning_rate=0.0), 0)
    scope = net.scope()
    program = paddle.static.CompiledProgram(net.main) if compiled else net.main
    with pytest.raises(ValueError, match="label"):
        net.run(
            scope,
            [fetch(net.losses[0])],
            program,
            feed={"x": [[1.0, 2.0]], "lr": 0},
            return_numpy=False,
            use_prune=True,
        )
