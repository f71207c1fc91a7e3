"""Pruning of a PIR program: keep what the targets need, drop the rest, in a copy.

A value is what an op returns; a *storage* is the memory behind it, which in-place ops (``adam_``,
``batch_norm_``, ``assign_out_``) write to under the name of an operand. An op is kept when it is a
target, when a result of it is needed, or when it writes in place to a storage that is needed later
on. Optimizer updates are exempt from the last rule: which of them run is what the targets say.

Two more rules:

- A batch norm in training does not read its running statistics, it only updates them. So a branch
  that shares them with a pruned-away branch doesn't keep that one alive, unless the statistics
  themselves are asked for.
- A loop or branch pushes what its gradient will pop onto a stack. Where the gradient is pruned, so
  are the pushes: nothing would ever empty the stack.
"""

from __future__ import annotations

import gc
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass, field
from typing import Any

from paddle.base import core
from paddle.pir import IrMapping, Program, Value

from radam_codegen.errors import ArgumentTypeError, ProgramError

__all__ = ["PirPruned", "feedable_names", "is_optimizer_op", "prune_pir_program"]

_FEEDS = ("pd_op.data", "pd_op.feed")
_VECTOR_VIEWS = ("builtin.split", "builtin.slice")
_STATISTICS = {
    "pd_op.batch_norm_": ("mean", "variance"),
    "pd_op.sync_batch_norm_": ("mean", "variance"),
    "pd_op.batch_norm_grad": ("mean_out", "variance_out"),
    "pd_op.sync_batch_norm_grad": ("mean_out", "variance_out"),
}
_OPTIMIZE_ROLE = 2


@dataclass(frozen=True)
class PirPruned:
    """Outcome of a pruning.

    Attributes:
        program: the pruned copy.
        fetch_list: the asked-for values, as values of ``program``.
        required: names that must be fed.
        declared: names that may be fed: ``required`` and the persistable ones.
    """

    program: Program
    fetch_list: tuple[Any, ...]
    required: tuple[str, ...]
    declared: frozenset[str]


def prune_pir_program(
    program: Program, values: Sequence[Any], optimize_ops: Sequence[Any], *, whole: bool = False
) -> PirPruned:
    """Copy a program and drop what neither the values nor the optimize ops need.

    Args:
        program: left as it is.
        values: what will be fetched: values of ``program``, and names of its data, its parameters,
            its named outputs or its fetch ops.
        optimize_ops: the optimize ops to run. If empty, every optimizer op of the program.
        whole: True makes every op a target, so that nothing is dropped.

    Raises:
        ProgramError: an op or a value is of another program, or a name is not in this one.
        ArgumentTypeError: none of ``optimize_ops`` is the op of an optimizer.
    """
    ops = program.global_block().ops
    targets = set(range(len(ops))) if whole else _target_indices(program, ops, optimize_ops)
    sources, named_fetches = _resolve_values(program, ops, values)
    liveness = _Liveness(ops)
    keep = liveness.keep(
        [
            *(v for v in sources if v is not None),
            *(ops[i].operand_source(0) for i in named_fetches),
        ],
        targets | named_fetches,
    )

    mapping = IrMapping()
    pruned = program.clone(mapping)
    block = pruned.global_block()
    copies = block.ops
    _drop_unread_pushes([copies[index] for index in sorted(keep)])
    for index in sorted(set(range(len(ops))) - keep, reverse=True):
        block.remove_op(copies[index])

    fetch_list = tuple(
        item if source is None else mapping.look_up(source) for item, source in zip(values, sources)
    )
    feeds = [(op.attrs()["name"], op.result(0)) for op in block.ops if op.name() in _FEEDS]
    return PirPruned(
        program=pruned,
        fetch_list=fetch_list,
        required=tuple(name for name, value in feeds if not value.persistable),
        declared=frozenset(name for name, _ in feeds),
    )


def feedable_names(program: Program) -> frozenset[str]:
    """Return the names that a program accepts as feeds."""
    ops = program.global_block().ops
    return frozenset(op.attrs()["name"] for op in ops if op.name() in _FEEDS)


def is_optimizer_op(op: Any) -> bool:
    """Tell whether an op, or one inside its blocks, is the update of an optimizer.

    PIR has no roles; an update is known by the parameter that it takes first and writes in place.
    """
    for inner in (op, *_inner_ops(op)):
        if inner.op_role == _OPTIMIZE_ROLE:
            return True
        names = inner.get_input_names() if core.pir.get_op_inplace_info(inner) else ()
        if names and names[0].lower().startswith("param"):
            return True
    return False


def _target_indices(program: Program, ops: Sequence[Any], targets: Sequence[Any]) -> set[int]:
    if not targets:
        return {index for index, op in enumerate(ops) if is_optimizer_op(op)}
    # Looked up by identity: an op whose program is gone must not be touched in any other way.
    index_of = {op: index for index, op in enumerate(ops)}
    if any(op not in index_of for op in targets):
        for index, op in enumerate(ops):
            for inner in _inner_ops(op):
                index_of[inner] = index
    for op in targets:
        if op not in index_of:
            raise ProgramError(
                f"fetch_list holds {_describe_foreign(op, program)}; nothing was run. Run the "
                f"program whose loss was minimized, or minimize in this one"
            )
    found = {index_of[op] for op in targets}
    if not any(is_optimizer_op(ops[index]) for index in found):
        raise ArgumentTypeError(
            f"fetch_list holds the op {targets[0].name()!r}, which is not an optimize op: "
            f"only what minimize returned can stand there"
        )
    return found


def _describe_foreign(op: Any, program: Program) -> str:
    for candidate in gc.get_objects():
        if isinstance(candidate, Program) and candidate is not program:
            for outer in candidate.global_block().ops:
                if outer is op or any(inner is op for inner in _inner_ops(outer)):
                    return f"the op {op.name()!r}{_updated_by(op)} of another program"
    return "an op of a program that no longer exists"


def _updated_by(op: Any) -> str:
    first = op.operand_source(0) if op.num_operands() else None
    maker = first.get_defining_op() if first is not None and _exists(first) else None
    if maker is not None and maker.name() == "builtin.combine":
        maker = maker.operand_source(0).get_defining_op()
    if maker is None or maker.name() != "builtin.parameter":
        return ""
    return f", which updates {maker.attrs()['parameter_name']!r},"


def _resolve_values(
    program: Program, ops: Sequence[Any], values: Sequence[Any]
) -> tuple[list[Any], set[int]]:
    """Return the value behind each item (None for the name of a fetch op), and those fetch ops."""
    results = {value.id for op in ops for value in op.results()}
    names: dict[str, Any] = {}
    fetch_ops: dict[str, int] = {}
    for index, op in enumerate(ops):
        kind = op.name()
        if kind in _FEEDS:
            names[op.attrs()["name"]] = op.result(0)
        elif kind == "builtin.parameter":
            names[op.attrs()["parameter_name"]] = op.result(0)
        elif kind == "builtin.shadow_output":
            names[op.attrs()["output_name"]] = op.operand_source(0)
        elif kind == "pd_op.fetch":
            fetch_ops[op.attrs()["name"]] = index
    sources: list[Any] = []
    used: set[int] = set()
    for position, item in enumerate(values):
        if isinstance(item, str):
            if item in fetch_ops:
                sources.append(None)
                used.add(fetch_ops[item])
                continue
            if item not in names:
                raise ProgramError(
                    f"fetch_list names {item!r}, which is no data, parameter or named output of "
                    f"the program; in PIR other values have no name: fetch the value itself"
                )
            item = names[item]
        elif not isinstance(item, Value):
            raise ArgumentTypeError(
                f"value {position} of fetch_list is a {type(item).__name__} of the legacy IR, "
                f"but the program is a PIR program"
            )
        elif item.id not in results:
            raise ProgramError(
                f"value {position} of fetch_list does not belong to the program, or lies inside "
                f"one of its branches or loops; nothing was run"
            )
        sources.append(item)
    return sources, used


def _inner_ops(op: Any) -> Iterator[Any]:
    for block in op.blocks():
        for inner in block.ops:
            yield inner
            yield from _inner_ops(inner)


@dataclass
class _Effects:
    """What running an op touches, seen from outside of it."""

    reads: list[Any] = field(default_factory=list)
    #: Read as addresses only: the values must exist, but what they hold plays no part.
    addresses: list[Any] = field(default_factory=list)
    writes: set[str] = field(default_factory=set)
    #: What it pushes, per stack: read only if that stack is.
    pushes: dict[str, list[Any]] = field(default_factory=dict)


class _Liveness:
    """Backward walk over the top-level ops of a program."""

    def __init__(self, ops: Sequence[Any]) -> None:
        self._ops = ops
        self._storages: dict[str, frozenset[str]] = {}

    def keep(self, values: Iterable[Any], targets: set[int]) -> set[int]:
        """Return the indices of the ops to keep."""
        needed: set[str] = set()
        storages: set[str] = set()

        def need(value: Any) -> None:
            needed.add(value.id)
            storages.update(self._storage(value))

        for value in values:
            need(value)
        kept: set[int] = set()
        for index in range(len(self._ops) - 1, -1, -1):
            op = self._ops[index]
            effects = self._effects(op)
            wanted = index in targets or op.name() == "builtin.set_parameter"
            wanted = wanted or any(result.id in needed for result in op.results())
            if not wanted and not effects.writes.isdisjoint(storages):
                wanted = not is_optimizer_op(op)
            if not wanted:
                continue
            kept.add(index)
            for value in effects.reads:
                need(value)
            needed.update(value.id for value in effects.addresses)
            for stack, pushed in effects.pushes.items():
                if stack in storages:
                    for value in pushed:
                        need(value)
        return kept

    def _effects(self, op: Any) -> _Effects:
        effects = _Effects()
        inside: set[str] = set()
        members = [op, *_inner_ops(op)]
        for member in members:
            for block in member.blocks():
                arguments = [*block.args(), *block.kwargs().values()]
                inside.update(argument.id for argument in arguments)
                self._alias_loop_arguments(member, block)
        for member in members[1:]:
            inside.update(result.id for result in member.results())
        for member in members:
            operands = [value for value in member.operands_source() if _exists(value)]
            outer = [value for value in operands if value.id not in inside]
            if member.name() == "cf.tuple_push":
                stack = operands[0]
                for storage in self._storage(stack):
                    effects.pushes.setdefault(storage, []).extend(outer)
                    effects.writes.add(storage)
                continue
            if member.name() == "cf.tuple_pop":
                effects.writes.update(self._storage(operands[0]))
            addresses = _statistics_of(member)
            for value in outer:
                (effects.addresses if value.id in addresses else effects.reads).append(value)
            for source in core.pir.get_op_inplace_info(member).values():
                written = member.operand_source(source)
                if _exists(written):
                    effects.writes.update(self._storage(written))
        return effects

    def _alias_loop_arguments(self, op: Any, block: Any) -> None:
        if op.name() != "pd_op.while":
            return
        # The loop's first operand is its condition; the arguments of its body start as the others.
        for position, argument in enumerate(block.args()):
            self._storages[argument.id] = self._storage(op.operand_source(position + 1))

    def _storage(self, value: Any) -> frozenset[str]:
        """Return the memory behind a value; of a vector, that of all its elements."""
        known = self._storages.get(value.id)
        if known is None:
            known = self._storages[value.id] = frozenset(self._find_storage(value))
        return known

    def _find_storage(self, value: Any) -> Iterable[str]:
        op = value.get_defining_op()
        if op is None:
            return (value.id,)
        kind = op.name()
        # Two ops may stand for the same variable of the scope.
        if kind == "builtin.parameter":
            return (f"variable {op.attrs()['parameter_name']}",)
        if kind in _FEEDS:
            return (f"variable {op.attrs()['name']}",)
        if kind == "cf.stack_create":
            return (f"stack {op.result(0).id}",)
        if kind == "builtin.combine":
            return {s for part in op.operands_source() for s in self._storage(part)}
        if kind in _VECTOR_VIEWS:
            return self._storage(op.operand_source(0))
        for result, source in core.pir.get_op_inplace_info(op).items():
            if op.result(result).id == value.id and _exists(op.operand_source(source)):
                return self._storage(op.operand_source(source))
        return (value.id,)


def _exists(value: Any) -> bool:
    """Tell a value from the null that stands for an absent optional operand."""
    return bool(value.initialized())


def _statistics_of(op: Any) -> set[str]:
    """Return the running statistics among an op's operands, if it does not compute with them."""
    statistics = _STATISTICS.get(op.name(), ())
    attrs = op.attrs() if statistics else {}
    if attrs.get("is_test") or attrs.get("use_global_stats"):
        return set()
    names = op.get_input_names() if statistics else []
    operands = [op.operand_source(names.index(name)) for name in statistics if name in names]
    return {value.id for value in operands if _exists(value)}


def _drop_unread_pushes(ops: Sequence[Any]) -> None:
    """Remove, inside branches and loops, the pushes onto stacks that nothing reads any more."""
    while True:
        pushes: dict[str, list[Any]] = {}
        read: set[str] = set()
        for op in ops:
            for member in (op, *_inner_ops(op)):
                for position, value in enumerate(member.operands_source()):
                    if not _exists(value):
                        continue
                    maker = value.get_defining_op()
                    if maker is None or maker.name() != "cf.stack_create":
                        continue
                    stack = maker.result(0).id
                    if member.name() == "cf.tuple_push" and position == 0:
                        pushes.setdefault(stack, []).append(member)
                    else:
                        read.add(stack)
        unread = [push for stack, found in pushes.items() if stack not in read for push in found]
        if not unread:
            return
        for push in unread:
            push.get_parent_block().remove_op(push)
