"""Appending an update to the current main and startup program."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import paddle

from radam_codegen.frontend.groups import Groups
from radam_codegen.frontend.read_plan import PlannedGroup, read_plan
from radam_codegen.ir.launch import LaunchSpec
from radam_codegen.ir.plan import UpdatePlan
from radam_codegen.program import kernels
from radam_codegen.program.emit_ops import emit_build, emit_step
from radam_codegen.program.executor_hook import install_executor_hook
from radam_codegen.program.learning_rate import create_learning_rate
from radam_codegen.program.state import StateMaker
from radam_codegen.program.transaction import restored_on_failure

__all__ = ["Update", "append_update"]


@dataclass(frozen=True)
class Update:
    """What was appended: the plan, and one operator per group of it."""

    plan: UpdatePlan
    operations: tuple[Any, ...]


def append_update(
    optimizer: Any,
    groups: Groups,
    state: StateMaker,
    params_grads: Sequence[tuple[Any, Any]],
) -> Update:
    """Append one fused step per group to the current programs, and state and kernels to startup.

    Args:
        optimizer: gives the learning rate, ``found_inf`` and ``multi_precision``.
        groups: the options of each parameter.
        state: makes the optimizer's state.
        params_grads: pairs of parameter and gradient; pairs without a gradient are left out.

    Raises:
        UnsupportedError: a gradient is sparse, or a type has no kernel. Both programs are as
            before then, as after any other error.
    """
    main = paddle.static.default_main_program()
    startup = paddle.static.default_startup_program()
    found_inf = optimizer._get_auxiliary_var("found_inf")
    plan, planned = read_plan(
        params_grads,
        groups,
        multi_precision=optimizer._multi_precision,
        skip=found_inf is not None,
    )
    kernels.operator()  # a program can hold the operator only once Paddle knows it
    for group in planned:
        kernels.source_of(group.plan.structure)  # whatever is wrong with the IR shows here
    with restored_on_failure(main, startup):
        learning_rate = create_learning_rate(optimizer, main)
        operations = tuple(
            _emit(main, startup, group, state, learning_rate, found_inf) for group in planned
        )
    install_executor_hook()
    return Update(plan, operations)


def _emit(
    main: Any,
    startup: Any,
    group: PlannedGroup,
    maker: StateMaker,
    learning_rate: Any,
    found_inf: Any,
) -> Any:
    state = maker.of_group(group)
    launch = LaunchSpec.from_group(group.plan)
    key, text = launch.key, launch.to_text()
    emit_build(startup, state.step, key, text)
    return emit_step(
        main,
        group.params,
        group.grads,
        state.moment1,
        state.moment2,
        state.step,
        learning_rate,
        master=state.master,
        found_inf=found_inf,
        weight_decay=group.weight_decay,
        key=key,
        launch=text,
    )
