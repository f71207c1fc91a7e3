"""Blocks of a program of the legacy IR, for lowering to look into.

There a variable is written again and again; a value is what one operator wrote. A block's values
are told apart by going through its operators in order.
"""

from __future__ import annotations

from collections.abc import Callable, Collection, Iterator, Mapping
from typing import Any

from paddle.base import core

from radam_codegen.frontend.native.graph import Block, Flow, Operator, nothing

__all__ = ["read_legacy"]

_KINDS = {
    "radam": "radam",
    "cast": "cast",
    "clip": "clip",
    "clip_by_norm": "clip_by_norm",
    "elementwise_div": "divide",
    "elementwise_max": "maximum",
    "elementwise_mul": "multiply",
    "fill_constant": "full",
    "reduce_sum": "reduce_sum",
    "scale": "scale",
    "sign": "sign",
    "sqrt": "sqrt",
    "squared_l2_norm": "squared_l2_norm",
    "stack": "stack",
    "sum": "sum",
}
#: Inputs that would take the place of a number.
_TENSORS = {
    "scale": {"ScaleTensor": "scale", "BiasTensor": "bias"},
    "clip": {"Min": "min", "Max": "max"},
    "full": {"ValueTensor": "value"},
}


def read_legacy(program: Any, kept: Collection[Any]) -> list[Block]:
    """Read every block of a legacy program that updates parameters.

    Args:
        program: a ``framework.Program``.
        kept: variables, or their names, that somebody wants to fetch.
    """
    names = {each if isinstance(each, str) else each.name for each in kept}
    return [
        _read_block(block, names)
        for block in program.blocks
        if any(_updates(op) for op in block.ops)
    ]


def _updates(op: Any) -> bool:
    names = {name.lower() for name in op.input_names}
    return "param" in names and "grad" in names


def _read_block(block: Any, kept: set[str]) -> Block:
    flows: dict[str, Flow] = {}
    operators = []

    def current(name: str) -> Flow:
        if name not in flows:
            handle = block._find_var_recursive(name)
            flows[name] = Flow(handle, name, kept="it is made outside")
        return flows[name]

    for position, op in enumerate(block.ops):
        kind = _KINDS.get(op.type, "")
        reads, writes = _touched(op)
        operator = Operator(
            operation=op,
            name=op.type,
            kind=kind,
            position=position,
            inputs={name: tuple(map(current, op.input(name))) for name in op.input_names},
            reads=frozenset(reads),
            writes=frozenset(writes),
            read_numbers=_numbers(op, kind) if kind else nothing,
            updates=_updates(op),
        )
        for name in sorted(reads):
            current(name).readers.append(operator)
        made = []
        for name in [*op.output_arg_names, *sorted(writes - set(op.output_arg_names))]:
            flows[name] = Flow(block._find_var_recursive(name), name, maker=operator)
            made.append(flows[name])
        operator.outputs = tuple(made)
        operators.append(operator)
    # The last value of a variable is what others see after the block.
    for name, flow in flows.items():
        if flow.kept:
            continue
        if name in kept:
            flow.kept = "it is to be fetched"
        elif name not in block.vars:
            flow.kept = "it can be read outside of its block"
        elif flow.handle is not None and flow.handle.persistable:
            flow.kept = "it is kept from run to run"
    return Block(block, block.idx, operators)


def _touched(op: Any) -> tuple[set[str], set[str]]:
    reads, writes = set(op.input_arg_names), set(op.output_arg_names)
    for block in _inner_blocks(op):
        for inner in block.ops:
            inner_reads, inner_writes = _touched(inner)
            # What is local to the block is touched nowhere else.
            reads |= {name for name in inner_reads if name not in block.vars}
            writes |= {name for name in inner_writes if name not in block.vars}
    empty = {core.kEmptyVarName()}
    return reads - empty, writes - empty


def _inner_blocks(op: Any) -> Iterator[Any]:
    program = op.block.program
    for name in op.attr_names:
        if op.attr_type(name) == core.AttrType.BLOCK:
            yield program.block(op._block_attr_id(name))


def _numbers(op: Any, kind: str) -> Callable[[], Mapping[str, Any]]:
    def read() -> Mapping[str, Any]:
        found = {name: op.attr(name) for name in op.attr_names}
        for slot, name in _TENSORS.get(kind, {}).items():
            if slot in op.input_names and op.input(slot):
                found[name] = None
        return found

    return read
