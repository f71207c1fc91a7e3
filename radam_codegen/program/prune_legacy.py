"""Pruning of a legacy program, by Paddle's own machinery.

``Executor._prune_program`` does the work: fed variables cut the program, targets are the fetched
variables and the optimize ops. Three things it leaves out are added here: the ops between the
gradients and a native update (clip, decay, loss scaling), which have the role of optimize ops but
are not in the list that ``minimize`` returns, so they were dropped; the learning-rate schedulers;
and a check that every op belongs to the program.
"""

from __future__ import annotations

import copy
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any

from paddle.base import core
from paddle.base.framework import Block, Operator, Variable
from paddle.base.proto import framework_pb2
from paddle.static import CompiledProgram, Executor

from radam_codegen.errors import ArgumentTypeError, ProgramError

__all__ = ["PRUNED", "LegacyPruned", "prune_legacy_program", "underlying_program"]

#: Attribute of programs that were pruned here.
PRUNED = "_radam_codegen_pruned"

#: Takes what is fed, in processes whose Executor translates programs to PIR.
_INPUT_OP = "data"


@dataclass(frozen=True)
class LegacyPruned:
    """Outcome of a pruning; see :class:`~radam_codegen.program.prune_pir.PirPruned`."""

    program: Any
    fetch_list: tuple[str, ...]
    required: tuple[str, ...]
    declared: frozenset[str]


def prune_legacy_program(
    program: Any,
    feed_names: Sequence[str],
    values: Sequence[Any],
    optimize_ops: Sequence[Any],
    prune_program: Callable[..., Any] = Executor._prune_program,
) -> LegacyPruned:
    """Copy a program and drop what neither the values nor the optimize ops need.

    Args:
        program: a legacy ``Program`` or ``CompiledProgram``; left as it is.
        feed_names: what will be fed; an op that only computes a fed variable is dropped.
        values: variables, or their names, that will be fetched.
        optimize_ops: the optimize ops to run. If empty, every one of the program.
        prune_program: ``Executor._prune_program``, or the override of the executor at hand.

    Raises:
        ProgramError: an op is not in the program, or a name is not.
        ArgumentTypeError: an op is not an optimize op.
    """
    original = underlying_program(program)
    names = tuple(_name_of(value, position) for position, value in enumerate(values))
    for name in names:
        if not any(block.has_var(name) for block in original.blocks):
            raise ProgramError(
                f"fetch_list names {name!r}, which is no variable of the program; nothing was run"
            )
    for op in optimize_ops:
        _check_optimize_op(op, original)
    targets = list(optimize_ops)
    targets = [*_feeding_ops(original, targets), *targets]

    # Paddle prunes a compiled program in place.
    subject = copy.copy(program) if isinstance(program, CompiledProgram) else program
    pruned = prune_program(subject, dict.fromkeys(feed_names), list(names), targets)
    if not isinstance(program, CompiledProgram):  # whose graph is made already
        _renumber_forward_blocks(original, pruned)
    setattr(underlying_program(pruned), PRUNED, True)
    block = underlying_program(pruned).global_block()
    for name in names:
        # Gone with the ops around it; it may still be fed, or be state of what was dropped.
        if not block.has_var(name) and original.global_block().has_var(name):
            block._clone_variable(original.global_block().var(name))
    return LegacyPruned(
        program=pruned,
        fetch_list=names,
        required=tuple(_required_feeds(block)),
        declared=frozenset(block.vars),
    )


def underlying_program(program: Any) -> Any:
    """Return the ``Program`` of a ``CompiledProgram``, or the program itself."""
    if isinstance(program, CompiledProgram):
        if program._program is None:
            raise ProgramError(
                "a CompiledProgram that was made from a graph cannot be pruned; "
                "make it from a Program"
            )
        return program._program
    return program


def _name_of(value: Any, position: int) -> str:
    if isinstance(value, Variable):
        return str(value.name)
    if isinstance(value, str):
        return value
    raise ArgumentTypeError(
        f"value {position} of fetch_list is a {type(value).__name__} of PIR, "
        f"but the program is a legacy program"
    )


def _check_optimize_op(op: Any, program: Any) -> None:
    if not isinstance(op, Operator):
        raise ArgumentTypeError(
            f"fetch_list holds an op of PIR ({op.name()!r}), but the program is a legacy program"
        )
    if not op._is_optimize_op():
        raise ArgumentTypeError(
            f"fetch_list holds the op {op.type!r}, which is not an optimize op: "
            f"only what minimize returned can stand there"
        )
    if not any(op is own for block in program.blocks for own in block.ops):
        slot = next((name for name in op.input_names if name.startswith("Param")), None)
        updated = f", which updates {op.input(slot)[0]!r}," if slot and op.input(slot) else ""
        raise ProgramError(
            f"fetch_list holds the op {op.type!r}{updated} of another program; nothing was run. "
            f"Run the program whose loss was minimized, or minimize in this one"
        )


def _feeding_ops(program: Any, targets: Sequence[Any]) -> list[Any]:
    """Return the ops of role Optimize that compute temporaries which the targets read."""
    block = program.global_block()
    wanted = {id(op) for op in targets}
    needed: set[str] = set()
    found: list[Any] = []
    for op in reversed(block.ops):
        if id(op) in wanted:
            needed.update(op.input_arg_names)
            continue
        # An update writes persistable state: whether one of those runs is what the targets say.
        if op._is_optimize_op() and any(
            name in needed and _is_temporary(block, name) for name in op.output_arg_names
        ):
            needed.update(op.input_arg_names)
            found.append(op)
    return found[::-1]


def _is_temporary(block: Any, name: str) -> bool:
    return block.has_var(name) and not block.var(name).persistable


def _renumber_forward_blocks(original: Any, pruned: Any) -> None:
    """Let the blocks of gradients refer to forward blocks by their new numbers."""
    kept: dict[int, int] = {}  # number in the original: number in the pruned program
    candidates = iter(original.blocks)
    for block in pruned.blocks:
        # Pruning keeps the order of blocks, and within a block may drop variables but not add any.
        names = block.vars.keys()
        for candidate in candidates:
            if names <= candidate.vars.keys():
                kept[candidate.idx] = block.idx
                break
    proto = framework_pb2.ProgramDesc.FromString(pruned.desc.serialize_to_string())
    stale = [
        block
        for block in proto.blocks
        if kept.get(block.forward_block_idx, block.forward_block_idx) != block.forward_block_idx
    ]
    if not stale:
        return
    for block in stale:
        block.forward_block_idx = kept[block.forward_block_idx]
    # The number can be set only once in a program, so the program is made again, as Paddle made it.
    pruned.desc = core.ProgramDesc(proto.SerializeToString())
    pruned.blocks = [Block(pruned, index) for index in range(pruned.desc.num_blocks())]
    pruned._sync_with_cpp()
    pruned._copy_param_info_from(original)
    pruned._copy_data_info_from(original, {new: old for old, new in kept.items()})
    pruned._copy_dist_param_info_from(original)
    pruned._copy_operator_info_from(original)


def _required_feeds(block: Any) -> list[str]:
    """Return the data variables that Paddle would ask for and that nothing in the block makes."""
    made = {
        name
        for op in block.ops
        for name in op.output_arg_names
        if op.type not in ("feed", _INPUT_OP) and name not in op.input_arg_names
    }
    return [
        name
        for name, variable in block.vars.items()
        if variable.is_data
        and name not in made
        and not variable.persistable
        and variable.desc.type() == core.VarDesc.VarType.DENSE_TENSOR
        and variable.desc.need_check_feed()
    ]
