"""Fused steps in the place of the native RAdam updates of a program that exists already."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import replace
from typing import Any

import paddle
from paddle.base import framework

from radam_codegen.config import current
from radam_codegen.errors import ArgumentError, ProgramError
from radam_codegen.frontend.native.match import match
from radam_codegen.frontend.native.plan import plan_group, plans_of
from radam_codegen.frontend.native.update import Match, Run, Update
from radam_codegen.ir.plan import UpdatePlan
from radam_codegen.program import kernels
from radam_codegen.program.checkpoint_static import StaticStore
from radam_codegen.program.executor_hook import install_executor_hook
from radam_codegen.program.gpu import gpus_here, language_of
from radam_codegen.program.lowering.arguments import check_programs, static_mode
from radam_codegen.program.lowering.feeds import check_feed, complete_feed
from radam_codegen.program.lowering.holder import Holder, reserve_names
from radam_codegen.program.lowering.replacement import Replacement, emit, take_out
from radam_codegen.program.lowering.report import FusedStep, LoweringReport, Memory, counted
from radam_codegen.program.lowering.scope_state import clear, read_states
from radam_codegen.program.lowering.step_times import check_time_steps, measure
from radam_codegen.program.lowering.traffic import (
    fused_state,
    fused_traffic,
    native_state,
    native_traffic,
)
from radam_codegen.program.no_gradient import end_gradients_at_updates
from radam_codegen.program.static_state import wanted_layout
from radam_codegen.program.transaction import restored_on_failure
from radam_codegen.program.variables import ProgramVariables

__all__ = ["lower", "lower_in_place"]

_TARGETS = ("auto", "c", "cuda")


def lower(
    main_program: Any,
    startup_program: Any = None,
    *,
    inplace: bool = True,
    scope: Any = None,
    keep: Sequence[Any] = (),
    target: str = "auto",
    time_steps: int = 0,
    feed: Mapping[str, Any] | None = None,
) -> LoweringReport:
    """Replace the native RAdam updates of a static program by fused steps.

    Every ``radam_`` operator (``radam`` in the legacy IR) is looked at, in branches and loops too.
    Those that agree in betas, epsilon, learning rate and clip become one operator of this
    package. Factors of the learning rate, L1 and L2 decay, and clips (by global norm, norm or
    value) go into it where nothing else reads their results; where something does, they stay, and
    the update takes what they make. Updates by other optimizers stay.

    What is fetched by its name cannot be seen in a program: name it in ``keep``.

    A program that has been trained goes on where it is: the state that the scope holds is taken
    over, step counts included.

    With ``time_steps`` the report also says how long a run of the main program takes before and
    after. To find out, copies of both run in turns, before anything is changed: in scopes of their
    own, with copies of the values in the scope, or after a copy of the startup program where that
    has not run. So the programs, the scope and the schedulers of learning rates do not notice, and
    a run that fails leaves everything as before. Copies of parameters and state take memory while
    this goes on.

    Args:
        main_program: A program of either IR.
        startup_program: Where its state is initialized. Without it the state must be in the scope.
        inplace: Change the programs that are given; False: make copies and change those.
        scope: Where the state is, if the startup program has run. None: the global scope.
        keep: Values, variables, or names of these, that are to stay as they are, since they will be
            fetched: a gradient after clipping, or with its decay.
        target: ``"c"``, ``"cuda"`` or ``"auto"``, as for :class:`radam_codegen.RAdam`.
        time_steps: How many runs of the program to time before and after, of which the report has
            the medians; a few more are not counted. 0: none.
        feed: What these runs are fed, by the names of the program's data. What is missing is made
            up: zeros for integers and booleans, normally distributed values for the rest, with an
            extent of 1 where the program leaves one open.

    Returns:
        What was matched, fused and left, and why. A program without native updates is as before.

    Raises:
        ProgramError: The programs do not go together, the state in the scope is incomplete, or
            there is none and no startup program; or the mode is ``off``; or the program cannot be
            run with the feed, in which case the message says what of it was made up.
        ArgumentError: There is no such target, ``time_steps`` is negative, or ``feed`` names
            something that is no data of the program.
        ArgumentTypeError: An argument is no program, scope, value, number of steps or feed.
        UnsupportedError: There is no kernel for something.

    The programs and the scope are as before when this raises.

    Examples:
        >>> import paddle
        >>> import radam_codegen as rc
        >>> paddle.enable_static()
        >>> main, startup = paddle.static.Program(), paddle.static.Program()
        >>> with paddle.static.program_guard(main, startup):
        ...     x = paddle.static.data("x", [4, 8], "float32")
        ...     loss = paddle.mean(paddle.nn.Linear(8, 2)(x) ** 2)
        ...     _ = paddle.optimizer.RAdam(learning_rate=0.01, weight_decay=0.1).minimize(loss)
        >>> print(str(rc.lower(main, startup)).splitlines()[0])
        2 native RAdam updates became 1 fused operator
    """
    check_programs(main_program, startup_program, scope)
    repeats, given = check_time_steps(time_steps), check_feed(main_program, feed)
    if target not in _TARGETS:
        raise ArgumentError(f"there is no target {target!r}; there are {', '.join(_TARGETS)}")
    if current().mode == "off":
        raise ProgramError(
            "generated kernels cannot take the place of native updates in mode 'off'; unset "
            "RADAM_CODEGEN_MODE, or call radam_codegen.config(mode='auto') first"
        )
    scope = paddle.static.global_scope() if scope is None else scope
    with static_mode(main_program):
        language = language_of(target, gpus_here())
        times = None
        if repeats and match(main_program, keep).runs:
            times = measure(
                main_program,
                startup_program,
                scope=scope,
                feed=complete_feed(main_program, given),
                repeats=repeats,
                lowered_copy=lambda values: _lowered_copy(
                    main_program, startup_program, keep, values, language
                ),
            )
        if not inplace:
            main_program, startup_program, keep = _copies(main_program, startup_program, keep)
        report = lower_in_place(
            main_program,
            startup_program,
            match(main_program, keep),
            scope=scope,
            holders={},
            language=language,
            free=inplace,
        )
        return replace(report, step_seconds=times)


def _lowered_copy(
    main: Any, startup: Any, keep: Sequence[Any], scope: Any, language: str
) -> tuple[Any, Any]:
    """Lower copies of both programs, and add their state to a scope that has that of the given."""
    main, startup, keep = _copies(main, startup, keep)
    matched = match(main, keep)
    lower_in_place(main, startup, matched, scope=scope, holders={}, language=language, free=False)
    return main, startup


def _copies(main: Any, startup: Any, keep: Sequence[Any]) -> tuple[Any, Any, Sequence[Any]]:
    main, keep = _copy(main, keep)
    return main, None if startup is None else startup.clone(), keep


def _copy(program: Any, keep: Sequence[Any]) -> tuple[Any, Sequence[Any]]:
    """Copy a main program; values of a PIR program become those of the copy."""
    if isinstance(program, framework.Program):
        return program.clone(), keep
    mapping = paddle.pir.IrMapping()
    copy = program.clone(mapping)
    return copy, [each if isinstance(each, str) else mapping.look_up(each) for each in keep]


def lower_in_place(
    main: Any,
    startup: Any,
    matched: Match,
    *,
    scope: Any,
    holders: dict[int, Holder],
    language: str,
    free: bool,
) -> LoweringReport:
    """Replace what was matched.

    Args:
        main: the program that was looked into.
        startup: its startup program, or None.
        matched: what is in it.
        scope: where state may be; None: nowhere, as the startup program is yet to run.
        holders: by owner, who keeps the state; those that are missing are added.
        language: of the kernels.
        free: whether native state in the scope is freed.
    """
    emitted = [Replacement(run, plan_group(run)) for run in matched.runs]
    plans = plans_of((each.group.plan for each in emitted), wanted_layout())
    if not emitted:
        nothing = Memory(0, 0)
        return LoweringReport(main, startup, (), plans, (), matched.left, None, nothing, nothing)
    kernels.operator()
    for each in emitted:
        kernels.source_of(each.group.plan.structure, language)  # what is wrong shows here
    states = {
        owner: None if scope is None else read_states(scope, updates)
        for owner, updates in _by_owner(matched.runs).items()
    }
    _check_state(states, startup)
    target = startup if startup is not None else paddle.static.Program()
    before = dict(holders)
    try:
        with restored_on_failure(
            main, target, mappings=[h._state.static.by_name for h in holders.values()]
        ):
            reserve_names(ProgramVariables(main).names())
            for owner in states:
                holders.setdefault(owner, Holder())
            with paddle.static.program_guard(main, target), paddle.no_grad():
                for each in emitted:
                    each.operators = emit(main, target, each, holders, language)
            stores = [
                (StaticStore(holders[owner], scope), loaded)
                for owner, loaded in states.items()
                if loaded is not None
            ]
            for store, loaded in stores:
                store.write(loaded)
    except BaseException:
        holders.clear()
        holders.update(before)
        raise
    gone = take_out(main, target, emitted)
    if free and scope is not None:
        clear(scope, gone)
    install_executor_hook()
    if not framework.in_pir_mode():
        end_gradients_at_updates()
    return _report(main, startup, emitted, matched, states, plans)


def _by_owner(runs: Sequence[Run]) -> dict[int, list[Update]]:
    found: dict[int, list[Update]] = {}
    for run in runs:
        found.setdefault(run.owner, []).extend(run.updates)
    return found


def _check_state(states: Mapping[int, Any], startup: Any) -> None:
    if startup is None and any(loaded is None for loaded in states.values()):
        raise ProgramError(
            "the scope holds no state of the native updates, so the startup program has to create "
            "it: give lower() the startup program, or run it in this scope before"
        )


def _report(
    main: Any,
    startup: Any,
    emitted: Sequence[Replacement],
    matched: Match,
    states: Mapping[int, Any],
    plans: tuple[UpdatePlan, ...],
) -> LoweringReport:
    groups = [each.group.plan for each in emitted]
    tensors = {
        (each.run.owner, tensor.name): tensor
        for each in emitted
        for tensor in each.group.plan.tensors
    }
    loaded = [found for found in states.values() if found is not None]
    return LoweringReport(
        program=main,
        startup_program=startup,
        optimize_ops=tuple(op for each in emitted for op in each.operators),
        plans=plans,
        steps=tuple(
            FusedStep(
                plan=each.group.plan,
                block=each.run.block.index,
                replaced=counted([op.name for op in each.run.removed]),
                notes=tuple(
                    (update.name, note) for update in each.run.updates for note in update.notes
                ),
            )
            for each in emitted
        ),
        left=matched.left,
        converted=sum(map(len, loaded)) if loaded else None,
        state=Memory(native_state(tensors.values()), fused_state(tensors.values())),
        traffic=Memory(native_traffic(groups), fused_traffic(groups)),
    )
