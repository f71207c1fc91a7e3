"""Taking operators out of programs, and moving them to where they belong.

Nothing here fails half-way: what may go wrong is done before, by adding to the programs only.
"""

from __future__ import annotations

from collections.abc import Collection, Iterable, Sequence
from typing import Any

import paddle
from paddle.base import core, framework

from radam_codegen.program.variables import blocks_of

__all__ = ["declare", "drop_state", "drop_variables", "move_before", "remove", "uses"]

_BLOCK = core.AttrType.BLOCK
#: Operators of PIR without an effect, which go when nobody reads what they make.
_PURE = ("builtin.combine", "pd_op.full", "pd_op.full_int_array")
_NAMED = {"builtin.parameter": "parameter_name", "pd_op.data": "name"}
_WRITTEN = {"builtin.set_parameter": "parameter_name", "builtin.shadow_output": "output_name"}


def move_before(block: Any, places: Sequence[tuple[Any, Sequence[Any]]]) -> list[list[Any]]:
    """Move operators of a legacy block, which stand at its end, to in front of others.

    Args:
        block: the block.
        places: for each operator in front of which something is to stand, that.

    Returns:
        For each place the operators there, which are new Python objects.
    """
    moved = []
    for place, operators in places:
        index = _index(block, place)
        found = []
        for offset, operator in enumerate(operators):
            desc = block.desc._insert_op(index + offset)
            desc.copy_from(operator.desc)
            found.append(framework.Operator(block=block, desc=desc))
            block.ops.insert(index + offset, found[-1])
        moved.append(found)
        remove(block, operators)
    return moved


def remove(block: Any, operators: Iterable[Any]) -> None:
    """Remove operators of a block, and constants that nobody else reads."""
    if isinstance(block, paddle.pir.Block):
        for operator in reversed(list(operators)):
            _remove_pir(operator)
        return
    for operator in operators:
        _take_operator(block, operator)


def _take_operator(block: Any, operator: Any) -> None:
    """Remove a legacy operator; who still holds it can ask for its name, and finds it nowhere."""
    index = _index(block, operator)
    own = core.OpDesc()
    own.copy_from(operator.desc)
    block._remove_op(index, sync=False)
    operator.desc = own


def _take_variable(block: Any, name: str) -> None:
    """Remove a legacy variable; who still holds it can ask for its name, and finds it nowhere."""
    variable = block.vars[name]
    own = core.VarDesc(name)
    own.set_type(variable.desc.type())
    own.set_dtype(variable.desc.dtype())
    own.set_shape(variable.desc.shape())
    own.set_persistable(variable.desc.persistable())
    block._remove_var(name, sync=False)
    variable.desc = own


def _index(block: Any, operator: Any) -> int:
    return next(index for index, each in enumerate(block.ops) if each is operator)


def _remove_pir(operator: Any) -> None:
    sources = [value for value in operator.operands_source() if value.initialized()]
    makers = {value.id: value.get_defining_op() for value in sources}
    operator.get_parent_block().remove_op(operator)
    for maker in makers.values():
        if maker is not None and maker.name() in _PURE and _is_unread(maker):
            _remove_pir(maker)


def _is_unread(operator: Any) -> bool:
    return all(result.use_empty() for result in operator.results())


def uses(program: Any) -> set[str]:
    """Names of the variables that a legacy program's operators read or write."""
    return {
        name
        for block in program.blocks
        for op in block.ops
        for name in (*op.input_arg_names, *op.output_arg_names)
    }


def declare(block: Any, old: Collection[str], operators: Sequence[Any]) -> None:
    """Have the operators that run legacy blocks list the state that these use now.

    Args:
        block: one whose operators were replaced.
        old: names of state that they may have stopped to use.
        operators: those that came into it.
    """
    program = block.program
    everywhere = [op for each in program.blocks for op in each.ops]
    runners = [op for op in everywhere if _blocks_run_by(op)]
    used = {
        name
        for op in everywhere
        if not _blocks_run_by(op)
        for name in (*op.input_arg_names, *op.output_arg_names)
    }
    gone = set(old) - used
    known = program.global_block().vars
    reads = [name for op in operators for name in op.input_arg_names if name in known]
    writes = [name for op in operators for name in op.output_arg_names if name in known]
    around = {block.idx}
    while program.block(min(around)).parent_idx >= 0:
        around.add(program.block(min(around)).parent_idx)
    for op in runners:
        inside = not around.isdisjoint(_blocks_run_by(op))
        for slot in op.input_names:
            if not gone.isdisjoint(op.input(slot)):
                _exchange_inputs(op, slot, gone, reads if inside else [])
        for slot in op.output_names:
            if not gone.isdisjoint(op.output(slot)):
                new = writes if inside else []
                op.desc.set_output(slot, _exchanged(op.output(slot), gone, new))


def _blocks_run_by(op: Any) -> set[int]:
    return {op._block_attr_id(name) for name in op.attr_names if op.attr_type(name) == _BLOCK}


def _exchange_inputs(op: Any, slot: str, gone: Collection[str], new: Sequence[str]) -> None:
    names = op.input(slot)
    grads = f"{slot}@GRAD"
    if grads in op.output_names and len(op.output(grads)) == len(names):
        # Each input has the gradient in the same place.
        kept = [pair for pair in zip(names, op.output(grads)) if pair[0] not in gone]
        op.desc.set_input(slot, [name for name, _ in kept])
        op.desc.set_output(grads, [grad for _, grad in kept])
        return
    op.desc.set_input(slot, _exchanged(names, gone, new))


def _exchanged(names: list[str], gone: Collection[str], new: Sequence[str]) -> list[str]:
    return list(dict.fromkeys([*(name for name in names if name not in gone), *new]))


def drop_variables(program: Any, names: Collection[str]) -> None:
    """Remove variables of a main program that none of its operators uses any more."""
    if not isinstance(program, framework.Program):
        for block in list(blocks_of(program)):
            for op in block.ops:
                attribute = _NAMED.get(op.name())
                if attribute and op.attrs()[attribute] in names and _is_unread(op):
                    block.remove_op(op)
        return
    used = uses(program)
    for block in program.blocks:
        for name in [name for name in block.vars if name in names and name not in used]:
            _take_variable(block, name)
    program._sync_with_cpp()


def drop_state(main: Any, startup: Any, names: Collection[str]) -> frozenset[str]:
    """Remove state from both programs, as far as the main program does not use it any more.

    Returns:
        Names of what has gone.
    """
    drop_variables(main, names)
    gone = frozenset(names) - _names(main)
    if isinstance(startup, framework.Program):
        block = startup.global_block()
        for op in [op for op in block.ops if op.output_arg_names]:
            if gone.issuperset(op.output_arg_names):
                _take_operator(block, op)
        drop_variables(startup, gone)
        return gone
    for op in startup.global_block().ops:
        attribute = _WRITTEN.get(op.name())
        if attribute and op.attrs()[attribute] in gone:
            source = op.operand_source(0).get_defining_op()
            _remove_pir(op)
            if source.name() not in _PURE and _is_unread(source):
                _remove_pir(source)
    return gone


def _names(program: Any) -> frozenset[str]:
    if isinstance(program, framework.Program):
        return frozenset(name for block in program.blocks for name in block.vars)
    return frozenset(
        op.attrs()[_NAMED[op.name()]]
        for block in blocks_of(program)
        for op in block.ops
        if op.name() in _NAMED
    )
