"""Appending an update to the current main and startup program."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import Any

import paddle
from paddle.base import framework

from radam_codegen.errors import ArgumentTypeError, ProgramError
from radam_codegen.frontend.groups import Groups
from radam_codegen.frontend.other_clips import call_other_clips, has_other_clips
from radam_codegen.frontend.read_plan import PlannedGroup, read_plan
from radam_codegen.ir.launch import LaunchSpec
from radam_codegen.ir.plan import UpdatePlan
from radam_codegen.program import kernels
from radam_codegen.program.emit_ops import emit_build, emit_step
from radam_codegen.program.executor_hook import install_executor_hook
from radam_codegen.program.learning_rate import create_learning_rate
from radam_codegen.program.no_gradient import end_gradients_at_updates
from radam_codegen.program.state import StateMaker
from radam_codegen.program.static_state import wanted_layout
from radam_codegen.program.step_counts import GatheredSteps
from radam_codegen.program.transaction import after_backward, restored_on_failure
from radam_codegen.program.variables import ProgramVariables

__all__ = ["Update", "append_update", "emit_group"]


@dataclass(frozen=True)
class Update:
    """What was appended: the plan, and the operators that do it, one per group as a rule."""

    plan: UpdatePlan
    operations: tuple[Any, ...]


def append_update(
    optimizer: Any,
    groups: Groups,
    state: StateMaker,
    params_grads: Sequence[tuple[Any, Any]],
    target: str = "c",
) -> Update:
    """Append one fused step per group to the current programs, and state and kernels to startup.

    Args:
        optimizer: gives the learning rate, ``found_inf`` and ``multi_precision``.
        groups: the options of each parameter.
        state: makes the optimizer's state.
        params_grads: pairs of parameter and gradient; pairs without a gradient are left out.
        target: language of the kernels, ``"c"`` or ``"cuda"``.

    Raises:
        UnsupportedError: a gradient is sparse, or a type has no kernel. Both programs are as
            before then, as after any other error.
        ProgramError: something belongs to another program.
        ArgumentTypeError: ``found_inf`` is not one bool of the program.
    """
    main = paddle.static.default_main_program()
    startup = paddle.static.default_startup_program()
    found_inf = _found_inf(optimizer, main)
    memory = _memory(optimizer, state)
    with restored_on_failure(main, startup, mappings=memory), after_backward(main):
        if has_other_clips(groups):
            groups, params_grads = call_other_clips(groups, params_grads)
        plan, planned = read_plan(
            params_grads,
            groups,
            multi_precision=optimizer._multi_precision,
            skip=found_inf is not None,
        )
        _check_program(main, planned, found_inf)
        kernels.operator()  # a program can hold the operator only once Paddle knows it
        for group in planned:
            # Whatever is wrong with the IR shows here.
            kernels.source_of(group.plan.structure, target)
        learning_rate = create_learning_rate(optimizer, main, plan.lr_dtype)
        operations = tuple(
            operation
            for group in planned
            for operation in emit_group(
                main, startup, group, state, learning_rate, found_inf, target
            )
        )
    install_executor_hook()
    if not framework.in_pir_mode():
        end_gradients_at_updates()
    return Update(replace(plan, layout=wanted_layout()), operations)


def _check_program(main: Any, planned: Sequence[PlannedGroup], found_inf: Any) -> None:
    """Refuse what belongs to another program: Paddle would take it, and end the process."""
    for group in planned:
        for tensor, param, grad in zip(group.plan.tensors, group.params, group.grads):
            for what, each in (("parameter", param), ("the gradient of parameter", grad)):
                if each.block.program is not main:
                    raise ProgramError(
                        f"{what} {tensor.name!r} belongs to another program than the current main "
                        "program; put paddle.static.program_guard around the call"
                    )
    decays = [("weight_decay", group.weight_decay) for group in planned]
    for what, each in (("found_inf", found_inf), *decays):
        if each is not None and each.block.program is not main:
            raise ProgramError(
                f"{what} is a variable of another program than that of the parameters; "
                "create it in the program that is to read it"
            )


def _memory(optimizer: Any, state: StateMaker) -> tuple[dict[Any, Any], ...]:
    """What an optimizer remembers of the programs that it was appended to."""
    return (
        optimizer._accumulators,
        optimizer._learning_rate_map,
        optimizer._master_weights,
        state.static.by_name,
    )


def _found_inf(optimizer: Any, main: Any) -> Any:
    """The variable (legacy) or value (PIR) that says whether to skip the step; None for never."""
    flag = optimizer._get_auxiliary_var("found_inf")
    if flag is None:
        return None
    variables = ProgramVariables(main)
    if isinstance(flag, str) and flag in variables:
        flag = variables.get(flag)
    if not isinstance(flag, (framework.Variable, paddle.pir.Value)):
        raise ArgumentTypeError(
            "the auxiliary variable 'found_inf' must be a variable of the program or its name, got "
            f"{flag!r}"
        )
    if flag.dtype != paddle.bool or any(extent != 1 for extent in flag.shape):
        raise ArgumentTypeError(
            "the auxiliary variable 'found_inf' must hold one bool, got the type "
            f"{flag.dtype} and the shape {list(flag.shape)}"
        )
    return flag


def emit_group(
    main: Any,
    startup: Any,
    group: PlannedGroup,
    maker: StateMaker,
    learning_rate: Any,
    found_inf: Any,
    target: str,
) -> list[Any]:
    """Append one group's step to the current main program, its state and kernel to startup.

    Args:
        main: the current main program.
        startup: the current startup program.
        group: what to update.
        maker: makes the group's state, or has it.
        learning_rate: its variable (legacy) or value (PIR).
        found_inf: the flag that skips a step, or None.
        target: language of the kernel.

    Returns:
        The operators, in their order.
    """
    state = maker.static.of_group(group, wanted_layout())
    gathered = GatheredSteps(main, state.counts) if state.counts else None
    # In the legacy IR results are the very variables that are updated; gathered counts are stored
    # from the result.
    drops_results = framework.in_pir_mode() and gathered is None
    launch = LaunchSpec.from_group(group.plan, target, state.moments, drops_results)
    key, text = launch.key, launch.to_text()
    emit_build(startup, gathered.as_many_in(startup) if gathered else state.step, key, text)
    operation = emit_step(
        main,
        group.params,
        group.grads,
        state.moment1,
        state.moment2,
        state.step if gathered is None else gathered.step,
        learning_rate,
        master=state.master,
        found_inf=found_inf,
        weight_decay=group.weight_decay,
        key=key,
        launch=text,
    )
    return [operation] if gathered is None else gathered.stored(operation)
