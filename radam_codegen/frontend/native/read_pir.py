"""Blocks of a PIR program, for lowering to look into."""

from __future__ import annotations

from collections.abc import Callable, Collection, Iterator, Mapping
from typing import Any

from paddle.base import core

from radam_codegen.frontend.native.graph import Block, Flow, Operator, nothing

__all__ = ["read_pir"]

_KINDS = {
    "pd_op.radam_": "radam",
    "pd_op.add_n": "sum",
    "pd_op.cast": "cast",
    "pd_op.clip": "clip",
    "pd_op.clip_by_norm": "clip_by_norm",
    "pd_op.divide": "divide",
    "pd_op.full": "full",
    "pd_op.maximum": "maximum",
    "pd_op.multiply": "multiply",
    "pd_op.scale": "scale",
    "pd_op.sign": "sign",
    "pd_op.sqrt": "sqrt",
    "pd_op.squared_l2_norm": "squared_l2_norm",
    "pd_op.stack": "stack",
    "pd_op.sum": "reduce_sum",
}
#: Names of operands, in their order. Others of the kinds above have X, then Y.
_OPERANDS = {
    "radam": (
        *("param", "grad", "learning_rate", "beta1_pow", "beta2_pow", "rho", "moment1"),
        *("moment2", "master_param"),
    ),
    "scale": ("X", "scale"),
    "clip": ("X", "min", "max"),
}
#: Operands that are numbers when they come from a constant.
_NUMBERS = {"scale": ("scale",), "clip": ("min", "max")}
_NAMED = {"builtin.parameter": "parameter_name", "pd_op.data": "name", "pd_op.feed": "name"}
_COMBINE = "builtin.combine"


def read_pir(program: Any, kept: Collection[Any]) -> list[Block]:
    """Read every block of a PIR program that updates parameters.

    Args:
        program: a ``paddle.pir.Program``.
        kept: values, and names of variables, that somebody wants to fetch.
    """
    names = {each for each in kept if isinstance(each, str)}
    values = {each.id for each in kept if not isinstance(each, str)}
    reader = _Reader(names, values)
    return [
        reader.read(block, index)
        for index, block in enumerate(_blocks(program.global_block()))
        if any(_updates(op) for op in block.ops)
    ]


def _blocks(block: Any) -> Iterator[Any]:
    yield block
    for op in block.ops:
        for inner in op.blocks():
            yield from _blocks(inner)


def _updates(op: Any) -> bool:
    # Names of operands are there for operators of Paddle's own only.
    if not op.name().startswith("pd_op.") or not op.name().endswith("_"):
        return False
    names = op.get_input_names()
    return len(names) > 2 and names[0] == "param" and "grad" in names


class _Reader:
    def __init__(self, kept_names: set[str], kept_values: set[str]) -> None:
        self._kept_names = kept_names
        self._kept_values = kept_values
        self._flows: dict[str, Flow] = {}
        self._storages: dict[str, frozenset[str]] = {}

    def read(self, block: Any, index: int) -> Block:
        self._flows = {}
        operators = [self._operator(op, place) for place, op in enumerate(block.ops)]
        by_id = {op.operation.id(): op for op in operators}
        for op in operators:
            for value in _results(op.operation):
                if value.id in self._flows:
                    flow = self._flows[value.id]
                    flow.maker = op
                    flow.readers, flow.kept = self._readers(value, by_id)
        return Block(block, index, operators)

    def _operator(self, op: Any, position: int) -> Operator:
        name = op.name()
        kind = _KINDS.get(name, "")
        inputs = self._inputs(op, kind) if kind else {}
        reads, writes = self._touched(op)
        return Operator(
            operation=op,
            name=name.removeprefix("pd_op."),
            kind=kind,
            position=position,
            inputs=inputs,
            outputs=tuple(self._flow(value) for value in _results(op)) if kind else (),
            reads=reads,
            writes=writes,
            read_numbers=_numbers(op, kind) if kind else nothing,
            updates=_updates(op),
        )

    def _inputs(self, op: Any, kind: str) -> dict[str, tuple[Flow, ...]]:
        names = _OPERANDS.get(kind, ("X", "Y"))
        return {
            name: tuple(self._flow(part) for part in _parts(value))
            for name, value in zip(names, op.operands_source())
            if value.initialized()
        }

    def _flow(self, value: Any) -> Flow:
        flow = self._flows.get(value.id)
        if flow is None:
            # A vector, or what has several memories, is never a value that lowering looks into.
            storage = min(self._storage(value))
            flow = self._flows[value.id] = Flow(value, storage, kept="it is made outside")
        return flow

    def _readers(self, value: Any, by_id: Mapping[int, Operator]) -> tuple[list[Operator], str]:
        readers, kept = [], ""
        for op in _users(value):
            if op.id() in by_id:
                readers.append(by_id[op.id()])
            else:
                kept = f"{op.name()} in another block reads it"
        storage = min(self._storage(value))
        if value.id in self._kept_values or storage in self._kept_names:
            kept = "it is to be fetched"
        return readers, kept

    def _touched(self, op: Any) -> tuple[frozenset[str], frozenset[str]]:
        reads: set[str] = set()
        writes: set[str] = set()
        for member in (op, *_inner(op)):
            for value in member.operands_source():
                if value.initialized():
                    reads |= self._storage(value)
            for source in core.pir.get_op_inplace_info(member).values():
                value = member.operand_source(source)
                if value.initialized():
                    writes |= self._storage(value)
        return frozenset(reads), frozenset(writes)

    def _storage(self, value: Any) -> frozenset[str]:
        """Names of the memory behind a value; of a vector, that of all its elements."""
        known = self._storages.get(value.id)
        if known is None:
            known = self._storages[value.id] = self._find_storage(value)
        return known

    def _find_storage(self, value: Any) -> frozenset[str]:
        op = value.get_defining_op()
        own = frozenset([f"value {value.id}"])
        if op is None:
            return own
        attribute = _NAMED.get(op.name())
        if attribute is not None:
            return frozenset([str(op.attrs()[attribute])])
        if op.name() == _COMBINE:
            parts = (self._storage(part) for part in op.operands_source())
            return frozenset().union(*parts) or own
        if op.name() in ("builtin.split", "builtin.slice"):
            return self._storage(op.operand_source(0))
        for result, source in core.pir.get_op_inplace_info(op).items():
            if op.result(result).id == value.id and op.operand_source(source).initialized():
                return self._storage(op.operand_source(source))
        return own


def _results(op: Any) -> list[Any]:
    return [value for value in op.results() if value.initialized()]


def _inner(op: Any) -> Iterator[Any]:
    for block in op.blocks():
        for inner in block.ops:
            yield inner
            yield from _inner(inner)


def _parts(value: Any) -> list[Any]:
    """The elements of a vector that is put together in the program; else the value itself."""
    op = value.get_defining_op()
    if op is not None and op.name() == _COMBINE:
        return list(op.operands_source())
    return [value]


def _users(value: Any) -> Iterator[Any]:
    """Who reads a value, also as an element of a vector."""
    for op in value.all_used_ops():
        if op.name() == _COMBINE:
            yield from _users(op.result(0))
        else:
            yield op


def _numbers(op: Any, kind: str) -> Callable[[], Mapping[str, Any]]:
    def read() -> Mapping[str, Any]:
        found = dict(op.attrs())
        for name in _NUMBERS.get(kind, ()):
            place = _OPERANDS[kind].index(name)
            found[name] = _constant(op.operand_source(place))
        return found

    return read


def _constant(value: Any) -> float | None:
    op = value.get_defining_op()
    if op is None or op.name() != "pd_op.full":
        return None
    return float(op.attrs()["value"])
