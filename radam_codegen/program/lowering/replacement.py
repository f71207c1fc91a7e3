"""Fused steps beside the native updates that they stand for, and these taken out."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

import paddle
from paddle.base import framework

from radam_codegen.frontend.native.graph import Operator
from radam_codegen.frontend.native.update import Run
from radam_codegen.frontend.read_plan import PlannedGroup
from radam_codegen.program.append_update import emit_group
from radam_codegen.program.lowering.edit import (
    declare,
    drop_state,
    drop_variables,
    move_before,
    remove,
)
from radam_codegen.program.lowering.holder import Holder

__all__ = ["Replacement", "emit", "take_out"]


@dataclass
class Replacement:
    """A run, and the operators that do it."""

    run: Run
    group: PlannedGroup
    operators: list[Any] = field(default_factory=list)


def emit(
    main: Any, startup: Any, each: Replacement, holders: Mapping[int, Holder], language: str
) -> list[Any]:
    """Add a run's operators: in PIR in their place, in the legacy IR at the end of the block."""
    rate = each.run.updates[0].learning_rate.handle
    maker = holders[each.run.owner]._state
    if framework.in_pir_mode():
        paddle.pir.set_insertion_point(each.run.last.operation)
        return emit_group(main, startup, each.group, maker, rate, None, language)
    previous = main.current_block_idx
    main.current_block_idx = each.run.block.index
    try:
        start = len(main.current_block().ops)
        emit_group(main, startup, each.group, maker, rate, None, language)
        return list(main.current_block().ops[start:])
    finally:
        main.current_block_idx = previous


def take_out(main: Any, startup: Any, emitted: Sequence[Replacement]) -> frozenset[str]:
    """Remove what was replaced; return the names of state that no program has any more."""
    blocks = {each.run.block.index: each.run.block for each in emitted}
    for index, block in blocks.items():
        here = [each for each in emitted if each.run.block.index == index]
        if not framework.in_pir_mode():
            places = [(each.run.last.operation, each.operators) for each in here]
            for each, moved in zip(here, move_before(block.handle, places)):
                each.operators = moved
        gone = {op for each in here for op in each.run.removed}
        if not framework.in_pir_mode():
            gone |= _constants_of(gone)
        ordered = sorted(gone, key=lambda op: op.position)
        made = {
            flow.name
            for op in ordered
            for flow in op.outputs
            if op.kind != "radam" and not flow.kept
        }
        remove(block.handle, [op.operation for op in ordered])
        drop_variables(main, made)
        if not framework.in_pir_mode():
            new = [op for each in here for op in each.operators]
            declare(block.handle, _state_of(here), new)
    return drop_state(main, startup, _state_of(emitted))


def _constants_of(gone: set[Operator]) -> set[Operator]:
    """Constants that only operators read that are removed; in PIR they go with those."""
    read = {flow for op in gone for flows in op.inputs.values() for flow in flows}
    return {
        flow.maker
        for flow in read
        if flow.maker is not None and flow.maker.kind == "full" and not flow.kept
        if gone.issuperset(flow.readers)
    }


def _state_of(emitted: Sequence[Replacement]) -> set[str]:
    """Names of the native state of runs."""
    return {
        flow.name
        for each in emitted
        for update in each.run.updates
        for flow in update.state.values()
    }
