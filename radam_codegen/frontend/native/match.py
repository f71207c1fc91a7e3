"""Finding native RAdam updates, and which of them one fused operator can do."""

from __future__ import annotations

import math
from collections.abc import Collection, Iterable, Iterator, Mapping
from dataclasses import replace
from typing import Any

import paddle
from paddle.base import core

from radam_codegen.errors import UnsupportedError
from radam_codegen.frontend.native.chains import read_gradient, read_rate
from radam_codegen.frontend.native.graph import Block, Flow, Operator
from radam_codegen.frontend.native.norms import GlobalNorms
from radam_codegen.frontend.native.numbers import as_written
from radam_codegen.frontend.native.order import safe_alone, split
from radam_codegen.frontend.native.read_legacy import read_legacy
from radam_codegen.frontend.native.read_pir import read_pir
from radam_codegen.frontend.native.update import ACCUMULATORS, Left, Match, Run, Update
from radam_codegen.frontend.read_plan import read_dtype
from radam_codegen.ir.dtypes import DType
from radam_codegen.ir.plan import Clip

__all__ = ["match"]

#: What native RAdam has kernels for.
_DTYPES = (DType.FLOAT32, DType.FLOAT64)


def match(program: Any, kept: Collection[Any] = (), only: Collection[Any] | None = None) -> Match:
    """Find the native RAdam updates of a program, without changing it.

    Args:
        program: a main program of either IR.
        kept: values, variables, or names of these, that are to stay as they are.
        only: operators of the program that count; None: all.
    """
    pir = isinstance(program, paddle.pir.Program)
    blocks = read_pir(program, kept) if pir else read_legacy(program, kept)
    left: list[Left] = []
    chosen = None if only is None else {_identity(op) for op in only}
    found = [(block, list(_read_block(block, chosen, left))) for block in blocks]
    owners = _owners([op for _, updates in found for op in updates])
    runs: list[Run] = []
    for block, updates in found:
        for op in updates:
            if owners[op] is None:
                left.append(
                    Left(op.name, _name_of_parameter(op), "others write a part of its state")
                )
        fit = {op: owner for op in updates for owner in [owners[op]] if owner is not None}
        runs += _runs(block, fit)
    return Match(tuple(runs), tuple(left))


class _UnfitError(Exception):
    """Why an update stays as it is."""


def _read_block(
    block: Block, chosen: Collection[int] | None, left: list[Left]
) -> Iterator[Operator]:
    """The native updates of a block that are fit for a kernel."""
    for op in block.operators:
        if not op.updates:
            continue
        try:
            if op.kind != "radam":
                raise _UnfitError("it is no RAdam update")
            if chosen is None or _identity(op.operation) in chosen:
                _check(op)
                yield op
        except (_UnfitError, UnsupportedError) as error:
            left.append(Left(op.name, _name_of_parameter(op), str(error)))


def _check(op: Operator) -> None:
    """Refuse what is no plain update of one dense parameter.

    Raises:
        _UnfitError: it is something else; the message says what.
        UnsupportedError: a type is none that there is a kernel for.
    """
    numbers = op.numbers
    if numbers.get("multi_precision") or op.inputs.get("master_param"):
        raise _UnfitError("it keeps a master weight, for which native RAdam has no kernel")
    names = ("param", "grad", "learning_rate", *ACCUMULATORS)
    missing = [name for name in names if op.one(name) is None]
    if missing:
        raise _UnfitError(f"it has no single {missing[0]!r}")
    param = _flow(op, "param")
    for what in ("param", "grad"):
        flow = _flow(op, what)
        if not _is_dense(flow.handle):
            raise _UnfitError(f"its {what} is no dense tensor")
        if read_dtype(what, flow.handle.dtype) not in _DTYPES:
            raise _UnfitError(f"its {what} has the type {flow.handle.dtype}")
    for name in ("param", *ACCUMULATORS):
        if not getattr(_flow(op, name).handle, "persistable", False):
            raise _UnfitError(f"its {name} is not kept from run to run")
    if op.writes != {_flow(op, name).storage for name in ("param", *ACCUMULATORS)}:
        raise _UnfitError("it does not write its parameter and state in place")
    if any(extent < 0 for extent in param.shape):
        raise _UnfitError(f"its parameter has the shape {list(param.shape)}")
    if math.prod(_flow(op, "learning_rate").shape) != 1:
        raise _UnfitError("its learning rate is not one number")
    for name in ACCUMULATORS:
        flow = _flow(op, name)
        if flow.shape != param.shape or flow.handle.dtype != param.handle.dtype:
            raise _UnfitError(f"its {name} is not of the parameter's shape and type")
    if not (0.0 <= numbers["beta1"] < 1.0 and 0.0 <= numbers["beta2"] < 1.0):
        raise _UnfitError(f"its betas are {numbers['beta1']} and {numbers['beta2']}")
    if not 0.0 <= numbers["epsilon"] < math.inf:
        raise _UnfitError(f"its epsilon is {numbers['epsilon']}")
    if isinstance(op.operation, paddle.pir.Operation):
        for flow in op.outputs:
            if flow.readers or flow.kept:
                reader = flow.readers[0].name if flow.readers else "somebody"
                raise _UnfitError(f"its result, rather than the parameter, is read by {reader}")


def _flow(op: Operator, name: str) -> Flow:
    flow = op.one(name)
    assert flow is not None
    return flow


def _is_dense(handle: Any) -> bool:
    if isinstance(handle, paddle.pir.Value):
        return bool(handle.is_dense_tensor_type())
    return bool(handle.type == core.VarDesc.VarType.DENSE_TENSOR)


def _name_of_parameter(op: Operator) -> str:
    flow = op.one("param") or op.one("Param")
    if flow is not None:
        return flow.name
    # In PIR, another optimizer's update is no operator whose operands were looked at.
    source = op.operation.operand_source(0)
    return str(source.name) if source.has_name else ""


def _runs(block: Block, owners: Mapping[Operator, int]) -> list[Run]:
    """Put the updates of a block together, with all that they can take in."""
    norms = GlobalNorms()
    plain: set[Operator] = set()
    while True:
        found = [_read_update(block, op, norms, op in plain) for op in owners]
        if _refuse_partial(found, norms):
            continue
        unsafe = [each for each in found if not safe_alone(each)]
        if unsafe:
            plain |= {each.operator for each in unsafe}
            continue
        runs = [
            run
            for group in _groups(found, owners)
            for run in split(group, owners[group[0].operator])
        ]
        if not _torn(runs, norms):
            return sorted(runs, key=lambda run: run.last.position)


def _read_update(block: Block, op: Operator, norms: GlobalNorms, plain: bool) -> Update:
    numbers = op.numbers
    param, grad, rate = (_flow(op, name) for name in ("param", "grad", "learning_rate"))
    update = Update(
        operator=op,
        block=block,
        param=param,
        grad=grad,
        learning_rate=rate,
        state={name: _flow(op, name) for name in ACCUMULATORS},
        beta1=as_written(numbers["beta1"]),
        beta2=as_written(numbers["beta2"]),
        epsilon=as_written(numbers["epsilon"]),
    )
    if plain:
        note = "nothing in front of it was taken in, as what that reads is written in between"
        return replace(update, notes=(note,))
    rates = read_rate(block, op, rate)
    grads = read_gradient(block, op, param, grad, norms)
    return replace(
        update,
        grad=grads.grad,
        learning_rate=rates.rate,
        lr_scale=rates.scale,
        decay=grads.decay,
        clip=grads.clip,
        clip_set=grads.clip_set,
        absorbed=(*rates.absorbed, *grads.absorbed),
        notes=tuple(grads.notes),
    )


def _refuse_partial(updates: list[Update], norms: GlobalNorms) -> bool:
    """Leave clips by global norm of which some gradient goes elsewhere; tell whether there were."""
    sets: dict[Operator, int] = {}
    for update in updates:
        if update.clip_set is not None:
            sets[update.clip_set] = sets.get(update.clip_set, 0) + 1
    refused = False
    for factor, count in sets.items():
        found = norms.of(factor)
        if found.refused:
            refused = True
        elif count != len(found.uses):
            norms.refuse(factor, "not all the gradients that it clips are used by updates alone")
            refused = True
    return refused


def _groups(updates: list[Update], owners: Mapping[Operator, int]) -> Iterable[list[Update]]:
    """Updates that agree in all that a group has once, in the program's order."""

    def numbers(update: Update) -> tuple[Any, ...]:
        rate = update.learning_rate.storage
        return owners[update.operator], update.beta1, update.beta2, update.epsilon, rate

    clipped: dict[Any, list[Any]] = {}
    for update in updates:
        if update.clip != Clip():
            kinds = clipped.setdefault(numbers(update), [])
            kind = (update.clip, update.clip_set)
            if kind not in kinds:
                kinds.append(kind)
    groups: dict[Any, list[Update]] = {}
    for update in updates:
        kinds = clipped.get(numbers(update), [])
        # What is not clipped goes with what is, as a parameter that needs no clip.
        kind = (update.clip, update.clip_set)
        if update.clip == Clip() and len(kinds) == 1:
            kind = kinds[0]
        groups.setdefault((numbers(update), kind), []).append(update)
    return groups.values()


def _torn(runs: list[Run], norms: GlobalNorms) -> bool:
    """Leave clips by global norm whose gradients came into several runs; tell whether any did."""
    seen: dict[Operator, int] = {}
    torn = False
    for number, run in enumerate(runs):
        for update in run.updates:
            if update.clip_set is None:
                continue
            if seen.setdefault(update.clip_set, number) != number:
                reason = "its updates cannot be done at once, for what stands between them"
                norms.refuse(update.clip_set, reason)
                torn = True
    return torn


def _owners(updates: list[Operator]) -> dict[Operator, int | None]:
    """Tell apart the states that several optimizers have of one parameter.

    Returns:
        For each update which of its parameter's states it is, in their order; None where it
        shares but a part of its state with another one.
    """
    users: dict[str, set[frozenset[str]]] = {}
    states: dict[str, list[frozenset[str]]] = {}
    owners: dict[Operator, int | None] = {}
    for op in updates:
        for storage in op.writes:
            users.setdefault(storage, set()).add(op.writes)
    for op in updates:
        param = _flow(op, "param").storage
        known = states.setdefault(param, [])
        if op.writes not in known:
            known.append(op.writes)
        shared = any(len(users[storage]) > 1 for storage in op.writes - {param})
        owners[op] = None if shared else known.index(op.writes)
    return owners


def _identity(operation: Any) -> int:
    """What is the same for each Python object of one operator."""
    pir = isinstance(operation, paddle.pir.Operation)
    return int(operation.id()) if pir else id(operation)
