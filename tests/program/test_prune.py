"""Pruning on the stock Executor: what runs, what must be fed, what stays as it was."""

from __future__ import annotations

import gc
import weakref
from typing import Any

import numpy as np
import paddle
import pytest
from support.prunable import (
    IN_PIR,
    Half,
    adam,
    append_op,
    batch,
    build,
    feed_of,
    op_names,
    radam,
    read,
    text_of,
)

import radam_codegen
from radam_codegen.errors import ArgumentError, ArgumentTypeError, ProgramError
from radam_codegen.program.pruning import PruneCache, PrunedProgram

pytestmark = pytest.mark.usefixtures("cache")

STEPS = 8


def halving(name: str) -> Any:
    start = {"d": 0.1, "g": 0.05}[name]
    return paddle.optimizer.lr.ExponentialDecay(start, 0.5)


def train_alone(name: str, optimizer: Any) -> tuple[list[float], list[np.ndarray]]:
    programs = build([name], optimizer, halving).start()
    half = programs.halves[name]
    losses = []
    with paddle.static.scope_guard(programs.scope):
        for step in range(STEPS):
            feed = feed_of([name], step)
            losses.append(float(programs.executor.run(programs.main, feed, [half.loss])[0]))
            half.scheduler.step()
    return losses, half.weights(programs.scope)


@pytest.mark.parametrize("optimizer", [adam, radam])
@pytest.mark.parametrize("form", range(3))
def test_alternating_steps_match_separate_programs(form: int, optimizer: Any) -> None:
    # One learning rate for both: several schedulers are the business of test_schedulers.py.
    programs = build("dg", optimizer).start()
    expected = {}
    for name in "dg":
        alone = build([name], optimizer).start()
        half = alone.halves[name]
        losses = [float(alone.run(feed_of([name], step), [half.loss])[0]) for step in range(STEPS)]
        expected[name] = losses, half.weights(alone.scope)
    losses: dict[str, list[float]] = {"d": [], "g": []}
    for step in range(STEPS):
        for name, half in programs.halves.items():
            results = programs.run(feed_of([name], step), half.forms()[form])
            losses[name] += [float(value) for value in results]
    for name, half in programs.halves.items():
        if form < 2:
            assert losses[name] == pytest.approx(expected[name][0], rel=1e-6)
        else:
            assert losses[name] == []
        for ours, theirs in zip(half.weights(programs.scope), expected[name][1]):
            np.testing.assert_allclose(ours, theirs, rtol=1e-6)


@pytest.mark.parametrize("optimizer", [adam, radam])
def test_scheduler_goes_on_under_pruning(optimizer: Any) -> None:
    losses, weights = train_alone("d", optimizer)
    programs = build("d", optimizer, halving).start()
    half = programs.halves["d"]
    for step in range(STEPS):
        result = programs.run(feed_of("d", step), [half.loss, half.result])
        assert float(result[0]) == pytest.approx(losses[step], rel=1e-6)
        half.scheduler.step()
    for ours, theirs in zip(half.weights(programs.scope), weights):
        np.testing.assert_allclose(ours, theirs, rtol=1e-6)


@pytest.mark.parametrize("optimizer", [adam, radam])
def test_runs_only_the_listed_optimizer(optimizer: Any) -> None:
    programs = build("dg", optimizer).start()
    before = programs.halves["d"].weights(programs.scope)
    other = programs.halves["g"].weights(programs.scope)
    half = programs.halves["d"]
    programs.run(feed_of("d", 0), [half.loss, half.result])
    for now, then in zip(half.weights(programs.scope), before):
        assert not np.array_equal(now, then)
    for now, then in zip(programs.halves["g"].weights(programs.scope), other):
        np.testing.assert_array_equal(now, then)


@pytest.mark.parametrize("optimizer", [adam, radam])
def test_both_optimizers_in_one_fetch_list(optimizer: Any) -> None:
    programs = build("dg", optimizer).start()
    d, g = programs.halves.values()
    whole = build("dg", optimizer).start()
    for step in range(3):
        feed = feed_of("dg", step)
        pruned = programs.run(feed, [d.result, g.loss, g.ops])
        full = whole.run(feed, [whole.halves["g"].loss])
        np.testing.assert_allclose(pruned, full, rtol=1e-6)
    for name in "dg":
        ours = programs.halves[name].weights(programs.scope)
        for now, then in zip(ours, whole.halves[name].weights(whole.scope)):
            np.testing.assert_allclose(now, then, rtol=1e-6)


@pytest.mark.parametrize("wrap", [lambda feed: feed, lambda feed: [feed]], ids=["dict", "list"])
def test_feed_is_left_as_it_was_and_more_is_ignored(wrap: Any, recwarn: Any) -> None:
    programs = build("dg").start()
    half = programs.halves["d"]
    feed = feed_of("dg", 0)
    given = dict(feed)
    programs.run(wrap(feed), [half.loss, half.result])
    programs.run(wrap(feed), [half.loss], use_prune=True)
    assert list(feed) == list(given)
    assert all(feed[name] is given[name] for name in given)
    assert not [w for w in recwarn if "not found in program" in str(w.message)]


def test_a_name_that_nothing_knows_is_warned_of_as_ever() -> None:
    programs = build("d").start()
    half = programs.halves["d"]
    feed = {**feed_of("d", 0), "nonsense": batch("d", 0)}
    with pytest.warns(UserWarning, match="nonsense"):
        programs.run(feed, [half.loss, half.result])
    assert "nonsense" in feed


def test_missing_feed_is_named_and_nothing_runs() -> None:
    programs = build("dg").start()
    half = programs.halves["d"]
    before = half.weights(programs.scope)
    for feed in (None, {}, feed_of("g", 0), [{}]):
        with pytest.raises(ProgramError, match="'x_d'"):
            programs.run(feed, [half.loss, half.result])
    for now, then in zip(half.weights(programs.scope), before):
        np.testing.assert_array_equal(now, then)


def test_feed_of_a_wrong_form() -> None:
    programs = build("d").start()
    half = programs.halves["d"]
    with pytest.raises(ArgumentError, match="got 2"):
        programs.run([{}, {}], [half.result])
    with pytest.raises(ArgumentTypeError, match="int"):
        programs.run(3, [half.result])


def test_original_program_is_left_as_it_was() -> None:
    programs = build("dg", rates=halving).start()
    text = programs.text()
    held = dict(vars(programs.main)) if IN_PIR else programs.main.lr_scheduler
    half = programs.halves["d"]
    for fetch_list in half.forms():
        programs.run(feed_of("d", 0), fetch_list)
    programs.run(feed_of("dg", 0), [half.loss], use_prune=True)
    assert programs.text() == text
    assert (dict(vars(programs.main)) if IN_PIR else programs.main.lr_scheduler) == held
    # It still runs whole.
    programs.halves["g"].weights(programs.scope)
    with paddle.static.scope_guard(programs.scope):
        programs.executor.run(programs.main, feed_of("dg", 0), [half.loss])


@pytest.mark.parametrize("optimizer", [adam, radam])
def test_use_prune_makes_every_optimizer_a_target(optimizer: Any) -> None:
    programs = build("dg", optimizer).start()
    whole = build("dg", optimizer).start()
    with paddle.static.program_guard(programs.main, programs.startup):
        unneeded = paddle.static.data("x_unneeded", [None, 4], "float32")
        paddle.mean(unneeded)
    loss = programs.halves["d"].loss
    for step in range(3):
        programs.run(feed_of("dg", step), [loss], use_prune=True)
        whole.run(feed_of("dg", step), [whole.halves["d"].loss])
    for name in "dg":
        ours = programs.halves[name].weights(programs.scope)
        for now, then in zip(ours, whole.halves[name].weights(whole.scope)):
            np.testing.assert_allclose(now, then, rtol=1e-6)


def test_use_prune_without_an_optimizer_computes_the_fetches_only() -> None:
    programs = build("dg", optimizer=None).start()
    half = programs.halves["d"]
    (pruned,) = programs.run(feed_of("d", 0), [half.loss], use_prune=True)
    (whole,) = programs.run(feed_of("dg", 0), [half.loss])
    np.testing.assert_array_equal(pruned, whole)
    d_only = radam_codegen.prune(programs.main, None, [half.loss])
    assert d_only.feed_names == ("x_d",)
    assert len(op_names(d_only.program)) < len(op_names(programs.main))


def test_forms_of_the_fetch_list() -> None:
    programs = build("dg").start()
    d, g = programs.halves.values()
    feed = feed_of("dg", 0)
    # Values are computed before the update, so every run is compared with one of its own kind.
    frozen = build("dg", optimizer=None).start()
    loss_d, loss_g = (
        float(v) for v in frozen.run(feed, [frozen.halves["d"].loss, frozen.halves["g"].loss])
    )
    assert programs.run(feed, None, use_prune=True) == []
    programs.start()
    (single,) = programs.run(feed, d.loss, use_prune=True)
    programs.start()
    nested = programs.run(feed, [[d.loss, g.loss]], use_prune=True)
    programs.start()
    tupled = programs.run(feed, ((d.loss, g.loss), d.result))
    programs.start()
    mixed = programs.run(feed, [[d.loss, *d.ops], (g.ops, g.result[1]), g.loss])
    programs.start()
    bare = programs.run(feed, [d.loss, *d.ops])
    assert float(single) == pytest.approx(loss_d)
    for values in (nested, tupled, mixed):
        assert [float(v) for v in values] == pytest.approx([loss_d, loss_g])
    assert [float(v) for v in bare] == pytest.approx([loss_d])


def test_fetching_by_name() -> None:
    programs = build("dg").start()
    d = programs.halves["d"]
    feed = feed_of("d", 0)
    data, weight = programs.run(feed, ["x_d", "d_w", d.result])
    np.testing.assert_array_equal(data, feed["x_d"])
    np.testing.assert_array_equal(weight, read(programs.scope, "d_w"))
    with pytest.raises(ProgramError, match="'nowhere'"):
        programs.run(feed, ["nowhere", d.result])


def test_fetching_what_is_fed() -> None:
    programs = build("dg").start()
    d = programs.halves["d"]
    feed = feed_of("d", 3)
    data, loss = programs.run(feed, [d.data, d.loss, d.result])
    np.testing.assert_array_equal(data, feed["x_d"])
    assert np.isfinite(loss)
    (data,) = build("dg", optimizer=None).start().run(feed, ["x_d"], use_prune=True)
    np.testing.assert_array_equal(data, feed["x_d"])


@pytest.mark.skipif(IN_PIR, reason="in PIR an intermediate value has no name to feed it by")
def test_feeding_an_intermediate() -> None:
    programs = build("dg", optimizer=None).start()
    d = programs.halves["d"]
    hidden = np.full((5, 3), 2.0, np.float32)
    feed = {d.hidden.name: hidden}
    fetched, loss = programs.run(feed, [d.hidden.name, d.loss], use_prune=True)
    np.testing.assert_array_equal(fetched, hidden)
    assert float(loss) == 4.0
    assert programs.scope.find_var("x_d") is None
    # The same fetches of other feeds are another pruned program.
    computed = programs.run(feed_of("d", 0), [d.hidden.name, d.loss], use_prune=True)
    expected = programs.run(feed_of("dg", 0), [d.hidden.name, d.loss])
    for now, then in zip(computed, expected):
        np.testing.assert_array_equal(now, then)


@pytest.mark.skipif(IN_PIR, reason="in PIR an op cannot write to what is fed")
def test_data_that_an_op_makes_need_not_be_fed() -> None:
    programs = build("dg", optimizer=None)
    d = programs.halves["d"]
    with paddle.static.program_guard(programs.main, programs.startup):
        made = paddle.static.data("x_made", [None, 4], "float32")
        paddle.assign(d.data, output=made)
        read_back = paddle.mean(made)
    (mean,) = programs.start().run(feed_of("d", 0), [read_back], use_prune=True)
    assert float(mean) == pytest.approx(float(feed_of("d", 0)["x_d"].mean()))


@pytest.mark.skipif(IN_PIR, reason="in PIR an intermediate value has no name to feed it by")
@pytest.mark.parametrize("form", range(3))
def test_feeding_an_intermediate_after_minimize_raises(form: int) -> None:
    programs = build("dg").start()
    d = programs.halves["d"]
    feed = {d.hidden.name: np.full((5, 3), 2.0, np.float32)}
    with pytest.raises(ProgramError, match="'x_d'"):
        programs.run(feed, d.forms()[form])
    with pytest.raises(ProgramError, match="'x_d'"):
        programs.run(feed, [d.loss], use_prune=True)


def test_ten_runs_prune_once(cache: PruneCache) -> None:
    programs = build("dg", rates=halving).start()
    d, g = programs.halves.values()
    for step in range(10):
        programs.run(feed_of("d", step), [d.loss, d.result])
        d.scheduler.step()
    assert (cache.prunings, cache.hits, len(cache)) == (1, 9, 1)
    for step in range(10):
        programs.run(feed_of("dg", step), [g.loss, g.ops])
        programs.run(feed_of("d", step), [d.loss, d.result])
    assert (cache.prunings, cache.hits, len(cache)) == (2, 28, 2)


def test_a_program_that_changed_is_pruned_anew(cache: PruneCache) -> None:
    programs = build("d").start()
    d = programs.halves["d"]
    programs.run(feed_of("d", 0), [d.loss, d.result])
    append_op(programs)
    programs.run(feed_of("d", 0), [d.loss, d.result])
    assert (cache.prunings, len(cache)) == (2, 1)
    with paddle.static.program_guard(programs.main, programs.startup):
        twice = d.loss * 2.0
    loss, doubled = programs.run(feed_of("d", 0), [d.loss, twice, d.result])
    assert float(doubled) == pytest.approx(2 * float(loss))


def test_cache_is_bounded() -> None:
    programs = build("dg").start()
    d, g = programs.halves.values()
    cache = PruneCache(capacity=2)
    from radam_codegen.program.fetches import split_fetch_list

    def get(*fetch_list: Any) -> PrunedProgram:
        return cache.get(programs.main, ["x_d", "x_g"], split_fetch_list(list(fetch_list)))

    first = get(d.result)
    get(g.result)
    assert get(d.result) is first
    get(d.loss, d.result)  # drops the one for g, used longest ago
    assert len(cache) == 2
    assert get(d.result) is first
    assert (cache.prunings, cache.hits) == (3, 2)
    get(g.result)
    assert cache.prunings == 4


def test_cache_keeps_no_program_alive(cache: PruneCache) -> None:
    programs = build("dg", rates=halving).start()
    d = programs.halves["d"]
    programs.run(feed_of("d", 0), [d.loss, d.result])
    program = weakref.ref(programs.main)
    assert len(cache) == 1
    del programs, d
    gc.collect()
    assert program() is None
    assert len(cache) == 0


@pytest.mark.parametrize("optimizer", [adam, radam])
def test_an_op_of_another_program_is_refused(cache: PruneCache, optimizer: Any) -> None:
    programs, other = build("dg", optimizer).start(), build("dg", optimizer).start()
    d = programs.halves["d"]
    text, before = programs.text(), d.weights(programs.scope)
    foreign = other.halves["d"].result
    name = foreign[0][-1].name() if IN_PIR else foreign[0][-1].type
    updated = "d_[bw]"
    for fetch_list in ([d.loss, foreign], [foreign[0]], [d.loss, [*d.ops, foreign[0][-1]]]):
        with pytest.raises(ProgramError, match="of another program; nothing was run"):
            programs.run(feed_of("d", 0), fetch_list)
    with pytest.raises(ProgramError, match=f"'{name}', which updates '{updated}', of"):
        programs.run(feed_of("d", 0), [d.loss, [foreign[0][-1]]])
    with pytest.raises(ProgramError, match="of another program; nothing was run"):
        radam_codegen.prune(programs.main.clone(), feed_of("d", 0), [d.result])
    assert programs.text() == text
    assert cache.prunings == 0
    for now, then in zip(d.weights(programs.scope), before):
        np.testing.assert_array_equal(now, then)


@pytest.mark.skipif(not IN_PIR, reason="a legacy op keeps its program alive")
def test_an_op_of_a_dead_program_is_refused() -> None:
    programs = build("d").start()
    ops = build("d").halves["d"].ops
    gc.collect()
    with pytest.raises(ProgramError, match="no longer exists"):
        programs.run(feed_of("d", 0), [ops])


@pytest.mark.skipif(not IN_PIR, reason="legacy variables are known by name")
def test_a_value_of_another_program_is_refused() -> None:
    programs, other = build("d").start(), build("d")
    with pytest.raises(ProgramError, match="value 1 of fetch_list does not belong"):
        programs.run(
            feed_of("d", 0),
            [programs.halves["d"].loss, other.halves["d"].loss, programs.halves["d"].result],
        )


def test_an_op_that_is_no_optimize_op_is_refused() -> None:
    programs = build("d").start()
    ops = programs.main.global_block().ops
    forward = [op for op in ops if (op.name() if IN_PIR else op.type).find("mean") >= 0][:1]
    with pytest.raises(ArgumentTypeError, match="not an optimize op"):
        programs.run(feed_of("d", 0), [programs.halves["d"].loss, forward])


@pytest.mark.parametrize(
    "make",
    [lambda half: list(half.result), lambda half: half.result, lambda half: [half.result, 3]],
    ids=["unpacked", "pair", "number"],
)
def test_a_fetch_list_of_a_wrong_form_is_refused(make: Any) -> None:
    programs = build("d").start()
    with pytest.raises(ArgumentTypeError, match="fetch_list"):
        programs.run(feed_of("d", 0), make(programs.halves["d"]))


def test_prune_without_the_hook() -> None:
    programs, hooked = build("dg", rates=halving).start(), build("dg", rates=halving).start()
    run_natively = paddle.static.Executor.run.__wrapped__
    g = programs.halves["g"]  # its scheduler is the one that Paddle knows: it came last
    feed = feed_of("dg", 0)
    pruned = radam_codegen.prune(programs.main, feed, [g.loss, g.result])
    assert radam_codegen.prune(programs.main, list(feed), [g.loss, g.ops]) is pruned
    assert pruned.feed_names == ("x_g",)
    assert pruned.program is not programs.main
    assert type(pruned.program) is type(programs.main)
    assert list(pruned.select_feed(feed)) == ["x_g"]
    assert list(pruned.select_feed([feed])) == ["x_g"]
    with pytest.raises(ProgramError, match="'x_g'"):
        pruned.select_feed({})
    with paddle.static.scope_guard(programs.scope):
        for step in range(STEPS):
            feed = feed_of("dg", step)
            (loss,) = run_natively(
                programs.executor,
                pruned.program,
                feed=pruned.select_feed(feed),
                fetch_list=list(pruned.fetch_list),
            )
            expected = hooked.run(feed, [hooked.halves["g"].loss, hooked.halves["g"].result])
            np.testing.assert_array_equal(loss, expected[0])
            g.scheduler.step()
            hooked.halves["g"].scheduler.step()
    for name in "dg":
        ours = programs.halves[name].weights(programs.scope)
        for now, then in zip(ours, hooked.halves[name].weights(hooked.scope)):
            np.testing.assert_array_equal(now, then)


def test_prune_takes_the_default_program_and_no_feed() -> None:
    programs = build("dg")
    d = programs.halves["d"]
    with paddle.static.program_guard(programs.main, programs.startup):
        pruned = radam_codegen.prune(fetch_list=[d.loss, d.result])
    assert pruned.feed_names == ("x_d",)
    assert len(pruned.fetch_list) == 1


def sgd(rate: float, parameters: Any) -> Any:
    return paddle.optimizer.SGD(0.3, parameters=parameters)


@pytest.mark.parametrize("listed", ["d", "second"])
def test_another_optimizer_over_the_same_parameters_is_dropped(listed: str) -> None:
    programs = build("d")
    half = programs.halves["d"]
    with paddle.static.program_guard(programs.main, programs.startup):
        result = sgd(0.3, half.parameters).minimize(half.loss)
    programs.halves["second"] = Half("d", half.data, half.hidden, half.loss, result=result)
    programs.start()
    alone = build("d", adam if listed == "d" else sgd).start()
    for step in range(3):
        programs.run(feed_of("d", step), programs.halves[listed].forms()[0])
        alone.run(feed_of("d", step), [alone.halves["d"].loss])
    for now, then in zip(half.weights(programs.scope), alone.halves["d"].weights(alone.scope)):
        np.testing.assert_allclose(now, then, rtol=1e-6)


def test_startup_program_with_use_prune_still_initializes() -> None:
    if not IN_PIR:
        pytest.skip("Paddle's own pruning empties a legacy startup program")
    programs = build("d")
    programs.executor.run(programs.startup, scope=programs.scope, use_prune=True)
    assert read(programs.scope, "d_w").shape == (4, 3)


@pytest.mark.skipif(IN_PIR, reason="CompiledProgram works in the legacy IR only")
def test_compiled_program(cache: PruneCache) -> None:
    programs, alone = build("dg", rates=halving).start(), build("g", rates=halving).start()
    g = programs.halves["g"]
    text = programs.text()
    compiled = paddle.static.CompiledProgram(programs.main)
    for step in range(3):
        programs.executor.run(
            compiled, feed_of("g", step), [g.loss, g.result], scope=programs.scope
        )
        alone.run(feed_of("g", step), [alone.halves["g"].loss])
        g.scheduler.step()
        alone.halves["g"].scheduler.step()
    assert cache.prunings == 1
    assert programs.text() == text
    for now, then in zip(g.weights(programs.scope), alone.halves["g"].weights(alone.scope)):
        np.testing.assert_allclose(now, then, rtol=1e-6)


def test_text_of_both_irs_shows_changes() -> None:
    # Guards the comparison that other tests rest on.
    programs = build("d")
    text = text_of(programs.main)
    append_op(programs)
    assert text_of(programs.main) != text
