"""Several learning-rate schedulers in one program, each with its own variable."""

from __future__ import annotations

from typing import Any

import numpy as np
import paddle
import pytest
from paddle.optimizer.lr import ExponentialDecay, LRScheduler, StepDecay
from support.prunable import IN_PIR, Programs, build, feed_of, radam, read

import radam_codegen
from radam_codegen.program.schedulers import (
    SchedulerSet,
    all_schedulers,
    attach_scheduler,
    program_schedulers,
)

pytestmark = pytest.mark.usefixtures("cache")


def parameter(name: str, dtype: str) -> Any:
    # As Paddle's optimizers do it: in PIR the Executor finds the learning rate among parameters.
    return paddle.create_parameter(
        [1], dtype, name=name, default_initializer=paddle.nn.initializer.Constant(-1.0)
    )


class Rates:
    """A program that returns the learning rates it sees, one variable per name."""

    def __init__(self, *names: str) -> None:
        self.main, self.startup = paddle.static.Program(), paddle.static.Program()
        self.scope = paddle.static.Scope()
        self.executor = paddle.static.Executor(paddle.CPUPlace())
        self.variables: dict[str, Any] = {}
        self.seen: dict[str, Any] = {}
        for name in names:
            self.add(name)

    def add(self, name: str, dtype: str = "float32") -> None:
        with paddle.static.program_guard(self.main, self.startup):
            self.variables[name] = parameter(name, dtype)
            self.seen[name] = self.variables[name] * 1.0

    def attach(self, name: str, scheduler: LRScheduler) -> None:
        attach_scheduler(self.main, scheduler, self.variables[name], name)

    def start(self) -> Rates:
        self.executor.run(self.startup, scope=self.scope)
        return self

    def run(self, program: Any = None, **more: Any) -> list[float]:
        values = self.executor.run(
            program or self.main, fetch_list=list(self.seen.values()), scope=self.scope, **more
        )
        return [float(value.reshape(())) for value in values]


def test_one_scheduler() -> None:
    rates = Rates("a").start()
    scheduler = StepDecay(0.5, 1, 0.5)
    rates.attach("a", scheduler)
    assert rates.run() == [0.5]
    scheduler.step()
    assert rates.run() == [0.25]
    with paddle.static.scope_guard(rates.scope):
        scheduler.step()
        assert rates.executor.run(rates.main, fetch_list=[rates.seen["a"]])[0] == 0.125
        # Paddle itself, without the hook, knows what to do with a set of one.
        scheduler.step()
        native = paddle.static.Executor.run.__wrapped__
        assert native(rates.executor, rates.main, fetch_list=[rates.seen["a"]])[0] == 0.0625


def test_each_variable_follows_its_own_scheduler() -> None:
    rates = Rates("a", "b", "c").start()
    schedulers = [StepDecay(start, 1, 0.5) for start in (1.0, 0.5, 0.25)]
    for name, scheduler in zip("abc", schedulers):
        rates.attach(name, scheduler)
    assert rates.run() == [1.0, 0.5, 0.25]
    schedulers[1].step()
    assert rates.run() == [1.0, 0.25, 0.25]
    schedulers[0].step()
    schedulers[2].step()
    assert rates.run() == [0.5, 0.25, 0.125]


def test_one_scheduler_for_two_variables() -> None:
    rates = Rates("a", "b").start()
    scheduler = StepDecay(1.0, 1, 0.5)
    rates.attach("a", scheduler)
    rates.attach("b", scheduler)
    assert rates.run() == [1.0, 1.0]
    rates.main.lr_scheduler.step()
    assert rates.run() == [0.5, 0.5]


def test_one_scheduler_for_two_programs() -> None:
    first, second = Rates("a").start(), Rates("b").start()
    scheduler = StepDecay(1.0, 1, 0.5)
    first.attach("a", scheduler)
    second.attach("b", scheduler)
    assert first.run() == [1.0]
    scheduler.step()
    assert second.run() == [0.5]
    assert first.run() == [0.5]


def test_a_later_scheduler_of_the_same_variable_replaces_the_first() -> None:
    rates = Rates("a", "b").start()
    for name, start in (("a", 1.0), ("b", 0.5), ("a", 0.25)):
        rates.attach(name, StepDecay(start, 1))
    assert rates.run() == [0.25, 0.5]
    assert len(rates.main.lr_scheduler.bound) == 2


@pytest.mark.parametrize("attached_before_clone", [1, 2])
def test_clone_keeps_them(attached_before_clone: int) -> None:
    rates = Rates("a", "b").start()
    first, second = StepDecay(1.0, 1, 0.5), StepDecay(0.5, 1, 0.5)
    rates.attach("a", first)
    if attached_before_clone == 2:
        rates.attach("b", second)
    if IN_PIR:
        mapping = paddle.pir.IrMapping()
        clone = rates.main.clone(mapping)
        fetches = [mapping.look_up(value) for value in rates.seen.values()]
    else:
        clone, fetches = rates.main.clone(), list(rates.seen.values())
    rates.attach("b", second)
    first.step()
    values = rates.executor.run(clone, fetch_list=fetches, scope=rates.scope)
    expected = [0.5, 0.5] if attached_before_clone == 2 else [0.5, -1.0]
    assert [float(v.reshape(())) for v in values] == expected
    assert rates.run() == [0.5, 0.5]


def test_dtype_of_the_variable_is_kept() -> None:
    rates = Rates()
    rates.add("wide", "float64")
    rates.add("a")
    rates.start()
    rates.attach("a", StepDecay(0.5, 1))
    rates.attach("wide", ExponentialDecay(0.1, 0.9))
    values = rates.executor.run(rates.main, fetch_list=[rates.seen["wide"]], scope=rates.scope)
    assert values[0].dtype == np.float64
    assert float(values[0].reshape(())) == 0.1


def test_the_set_speaks_for_its_primary() -> None:
    rates = Rates("a", "b")
    first, second = StepDecay(1.0, 1, 0.5), ExponentialDecay(0.5, 0.5)
    rates.attach("a", first)
    rates.attach("b", second)
    held = rates.main.lr_scheduler
    assert isinstance(held, SchedulerSet)
    assert isinstance(held, LRScheduler)
    assert (held(), held.last_lr, held.base_lr, held.get_lr()) == (1.0, 1.0, 1.0, 1.0)
    assert (held.last_epoch, held.verbose, held._var_name) == (0, False, "a")
    saved = held.state_dict()
    held.step()
    assert (held(), first(), second(), held.last_epoch) == (0.5, 0.5, 0.25, 1)
    held.set_state_dict(saved)
    assert (first(), second()) == (1.0, 0.5)
    assert repr(held) == "SchedulerSet(a: StepDecay, b: ExponentialDecay; primary=a)"


def halving(name: str) -> Any:
    return ExponentialDecay({"d": 0.1, "g": 0.05}[name], 0.5)


def sgd(scheduler: Any, parameters: Any) -> Any:
    return paddle.optimizer.SGD(scheduler, parameters=parameters)


def mixed(first: Any, second: Any) -> Any:
    """Build one optimizer per half, of two kinds."""
    kinds = iter((first, second))
    return lambda scheduler, parameters: next(kinds)(scheduler, parameters)


def weights_alone(name: str, optimizer: Any, steps: int) -> list[np.ndarray]:
    programs = build([name], optimizer, halving).start()
    half = programs.halves[name]
    with paddle.static.scope_guard(programs.scope):
        for step in range(steps):
            programs.executor.run(programs.main, feed_of([name], step), [half.loss])
            half.scheduler.step()
    return half.weights(programs.scope)


def step_both(programs: Programs, steps: int, *, prune: bool, guard: bool) -> None:
    for step in range(steps):
        feed = feed_of("dg", step)
        halves = programs.halves.values()
        runs = [[half.result] for half in halves] if prune else [[half.loss for half in halves]]
        for fetch_list in runs:
            if guard:
                with paddle.static.scope_guard(programs.scope):
                    programs.executor.run(programs.main, feed, fetch_list)
            else:
                programs.run(feed, fetch_list)
        for half in halves:
            half.scheduler.step()


@pytest.mark.parametrize("guard", [True, False], ids=["global-scope", "scope-argument"])
@pytest.mark.parametrize("prune", [True, False], ids=["pruned", "whole"])
@pytest.mark.parametrize(
    ("first", "second"),
    [(radam, radam), (sgd, radam), (radam, sgd)],
    ids=["ours-ours", "native-ours", "ours-native"],
)
def test_two_optimizers_each_follow_their_own(
    first: Any, second: Any, prune: bool, guard: bool
) -> None:
    steps = 4
    programs = build("dg", mixed(first, second), halving).start()
    step_both(programs, steps, prune=prune, guard=guard)
    for name, optimizer in (("d", first), ("g", second)):
        expected = weights_alone(name, optimizer, steps)
        for now, then in zip(programs.halves[name].weights(programs.scope), expected):
            np.testing.assert_allclose(now, then, rtol=1e-6)


def test_one_optimizer_of_ours_with_a_scope_argument() -> None:
    programs = build("d", radam, halving).start()
    half = programs.halves["d"]
    for step in range(3):
        programs.run(feed_of("d", step), [half.loss])
        half.scheduler.step()
    for now, then in zip(half.weights(programs.scope), weights_alone("d", radam, 3)):
        np.testing.assert_allclose(now, then, rtol=1e-6)


def test_one_native_scheduler_is_not_touched() -> None:
    programs = build("d", sgd, halving)
    assert program_schedulers(programs.main) is None
    held = all_schedulers(programs.main)
    assert held is not None
    assert [entry.scheduler for entry in held.bound] == [programs.halves["d"].scheduler]
    assert programs.main.lr_scheduler is programs.halves["d"].scheduler
    assert all_schedulers(paddle.static.Program()) is None


def test_a_native_scheduler_of_two_programs_drives_the_pruned_one() -> None:
    shared = halving("d")
    # The scheduler remembers the variable of the second program only.
    first = build("d", sgd, lambda name: shared).start()
    build("g", sgd, lambda name: shared)
    half = first.halves["d"]
    for step in range(3):
        first.run(feed_of("d", step), [half.loss, half.result])
        shared.step()
    for now, then in zip(half.weights(first.scope), weights_alone("d", sgd, 3)):
        np.testing.assert_allclose(now, then, rtol=1e-6)


def test_pruned_program_has_only_the_schedulers_it_uses() -> None:
    programs = build("dg", radam, halving).start()
    for half in programs.halves.values():
        pruned = radam_codegen.prune(programs.main, None, [half.loss, half.result])
        (entry,) = pruned.program.lr_scheduler.bound
        assert entry.scheduler is half.scheduler
        variable = pruned.program.lr_var
        assert (variable.name, variable.block.program) == (entry.lr_name, pruned.program)
    forward = build("dg", None)
    pruned = radam_codegen.prune(forward.main, None, [forward.halves["d"].loss])
    assert not hasattr(pruned.program, "lr_scheduler")
    both = [half.result for half in programs.halves.values()]
    pruned = radam_codegen.prune(programs.main, None, both)
    assert len(pruned.program.lr_scheduler.bound) == 2


def test_values_land_in_the_scope_of_the_run() -> None:
    rates = Rates("a", "b").start()
    rates.attach("a", StepDecay(1.0, 1))
    rates.attach("b", StepDecay(0.5, 1))
    other = paddle.static.Scope()
    rates.executor.run(rates.startup, scope=other)
    rates.run()
    assert read(rates.scope, "a")[0] == 1.0
    assert read(other, "a")[0] == -1.0
    assert paddle.static.global_scope().find_var("a") is None
