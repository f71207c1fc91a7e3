"""Native RAdam updates in the place of fused steps, for machines without this package."""

from __future__ import annotations

import math
from collections import Counter
from collections.abc import Sequence
from typing import Any

import paddle
from paddle.base import framework

from radam_codegen.errors import ProgramError, UnsupportedError
from radam_codegen.frontend.native.fused import FusedTensor, FusedUpdate, MomentPart, read_fused
from radam_codegen.ir.dtypes import DType
from radam_codegen.ir.plan import DecayKind
from radam_codegen.program.checkpoint_native import native_state
from radam_codegen.program.lowering.arguments import check_programs, static_mode
from radam_codegen.program.lowering.edit import (
    declare,
    drop_state,
    drop_variables,
    move_before,
    remove,
)
from radam_codegen.program.lowering.native_ops import NativeWriter
from radam_codegen.program.lowering.scope_state import clear, read_array, write_array
from radam_codegen.program.native_powers import native_base
from radam_codegen.program.operator import BUILD_OP, check_operators
from radam_codegen.program.transaction import restored_on_failure
from radam_codegen.program.variables import ProgramVariables

__all__ = ["raise_native"]

_BUILD = (BUILD_OP, f"custom_op.{BUILD_OP}_")


def raise_native(program: Any, startup_program: Any = None, scope: Any = None) -> list[Any]:
    """Replace the fused steps of a static program by native RAdam updates, in place.

    The program then runs, and can be saved, where this package is not installed. Clips and decay
    become operators of their own again, as :class:`paddle.optimizer.RAdam` makes them. State goes
    to the native form: a program that was trained goes on where it is.

    Args:
        program: A main program of either IR.
        startup_program: Where its state is initialized. Without it the state must be in the scope.
        scope: Where the state is, if the startup program has run. None: the global scope.

    Returns:
        The native updates, for ``fetch_list``. None are there if the program has no fused step.

    Raises:
        UnsupportedError: Native RAdam cannot do something: master weights, 16-bit parameters,
            decoupled decay, a coefficient that is read at each step, a flag that skips steps, a
            parameter without elements, or a beta that float32 rounds to 1. The message names the
            parameter.
        ProgramError: The programs do not go together, or there is no state and no startup program.
        OperatorError: The program was loaded before :func:`radam_codegen.load_operator` was called.
        ArgumentTypeError: An argument is no program or scope.

    The programs and the scope are as before when this raises.
    """
    check_programs(program, startup_program, scope)
    check_operators(program)
    with static_mode(program):
        found = read_fused(program)
        for fused in found:
            _check(fused)
        scope = paddle.static.global_scope() if scope is None else scope
        return _raise(program, startup_program, found, scope) if found else []


def _check(fused: FusedUpdate) -> None:
    for what, there in (
        ("a flag that skips steps", fused.has_flag),
        ("a coefficient of decay that is read at each step", fused.has_coefficient),
    ):
        if there:
            raise _refusal(fused.tensors[0], what)
    numbers = fused.spec.numbers
    for name, beta in (("beta1", numbers.beta1), ("beta2", numbers.beta2)):
        if native_base(beta) == 1.0:
            raise _refusal(fused.tensors[0], f"a {name} of {beta!r}, which is 1 in float32")
    for tensor in fused.tensors:
        kind = tensor.tensor_class
        if kind.master:
            raise _refusal(tensor, "a master weight")
        if kind.param_dtype not in (DType.FLOAT32, DType.FLOAT64):
            raise _refusal(tensor, f"a parameter of type {kind.param_dtype}")
        if kind.decay is DecayKind.DECOUPLED:
            raise _refusal(tensor, "decoupled decay")
        if 0 in tensor.shape:
            raise _refusal(tensor, "a parameter without elements")


def _refusal(tensor: FusedTensor, what: str) -> UnsupportedError:
    return UnsupportedError(
        f"the step of parameter {tensor.name!r} cannot be raised: native RAdam does not have {what}"
    )


def _raise(main: Any, startup: Any, found: Sequence[FusedUpdate], scope: Any) -> list[Any]:
    values = _read_states(scope, found)
    if values is None and startup is None:
        raise ProgramError(
            "the scope holds no state of the fused steps, so the startup program has to create "
            "it: give raise_native() the startup program, or run it in this scope before"
        )
    target = paddle.static.Program() if startup is None else startup
    writer = NativeWriter(ProgramVariables(main).names(), _read_elsewhere(main, found))
    undone, building = restored_on_failure(main, target), paddle.static.program_guard(main, target)
    with undone, building, paddle.no_grad():
        written = [_write(main, writer, fused) for fused in found]
    updates = _replace(found, written)
    for part, arrays in (values or {}).items():
        for kind, array in arrays.items():
            write_array(scope, writer.states[part][kind], array)
    clear(scope, _drop(main, target, found))
    return updates


def _read_states(
    scope: Any, found: Sequence[FusedUpdate]
) -> dict[MomentPart, dict[str, Any]] | None:
    """Read the state of every parameter in its native form; None where there is none yet."""
    states: dict[MomentPart, dict[str, Any] | None] = {}
    for fused in found:
        for tensor in fused.tensors:
            if tensor.moments not in states:
                states[tensor.moments] = _read_state(scope, fused, tensor)
    present = {part: arrays for part, arrays in states.items() if arrays is not None}
    if present and len(present) < len(states):
        raise ProgramError(
            "the scope holds only a part of the optimizer's state; run the startup program, or "
            "load a checkpoint, first"
        )
    return present or None


def _read_state(scope: Any, fused: FusedUpdate, tensor: FusedTensor) -> dict[str, Any] | None:
    part = tensor.moments
    variable, index = tensor.step
    arrays = [read_array(scope, name) for name in (part.moment1, part.moment2, variable)]
    if any(array is None for array in arrays):
        return None
    begin = part.offset or 0
    end = begin + math.prod(tensor.shape)
    moments = [array.reshape(-1)[begin:end].reshape(tensor.shape) for array in arrays[:2]]
    numbers = fused.spec.numbers
    return native_state(int(arrays[2][index]), numbers.beta1, numbers.beta2, *moments)


def _read_elsewhere(main: Any, found: Sequence[FusedUpdate]) -> frozenset[str]:
    """Names of gradients that more than one operator reads once they are made (legacy)."""
    if not isinstance(main, framework.Program):
        return frozenset()
    ours = [fused.operation for fused in found]
    grads = [tensor.grad.name for fused in found for tensor in fused.tensors]
    others = {
        name
        for block in main.blocks
        for op in block.ops
        if not any(op is each for each in ours)
        for name in op.input_arg_names
    }
    twice = {name for name, count in Counter(grads).items() if count > 1}
    return frozenset(twice | others.intersection(grads))


def _write(main: Any, writer: NativeWriter, fused: FusedUpdate) -> list[Any]:
    """Add native operators: in PIR in their place, in the legacy IR at the end of the block."""
    if framework.in_pir_mode():
        known = {op.id() for op in fused.block.ops}
        paddle.pir.set_insertion_point(fused.operation)
        writer.write(fused, fused.block)
        return [op for op in fused.block.ops if op.id() not in known]
    previous = main.current_block_idx
    main.current_block_idx = fused.block.idx
    start = len(fused.block.ops)
    try:
        writer.write(fused, fused.block)
    finally:
        main.current_block_idx = previous
    return list(fused.block.ops[start:])


def _replace(found: Sequence[FusedUpdate], written: Sequence[list[Any]]) -> list[Any]:
    """Remove the fused steps; return the native updates."""
    operators = list(written)
    if not framework.in_pir_mode():
        operators = [
            move_before(fused.block, [(fused.operation, new)])[0]
            for fused, new in zip(found, written)
        ]
    legacy = not framework.in_pir_mode()
    for fused, new in zip(found, operators):
        first = fused.helpers[: _place_of_step(fused)]
        # Asked for now, as operators are gone for good once they are removed.
        made = {name for op in fused.helpers for name in op.output_arg_names} if legacy else set()
        remove(fused.block, [*first, fused.operation, *fused.helpers[len(first) :]])
        if legacy:
            state = _state_of([fused])
            drop_variables(fused.block.program, made - state)
            declare(fused.block, state, new)
    names = ("pd_op.radam_", "radam")
    return [op for new in operators for op in new if _kind(op) in names]


def _place_of_step(fused: FusedUpdate) -> int:
    """How many of its helpers stand in front of a step."""
    order = {_identity(op): place for place, op in enumerate(fused.block.ops)}
    own = order[_identity(fused.operation)]
    return sum(order[_identity(op)] < own for op in fused.helpers)


def _identity(op: Any) -> int:
    return int(op.id()) if isinstance(op, paddle.pir.Operation) else id(op)


def _kind(op: Any) -> str:
    return str(op.name() if isinstance(op, paddle.pir.Operation) else op.type)


def _drop(main: Any, startup: Any, found: Sequence[FusedUpdate]) -> frozenset[str]:
    """Remove state and the building of kernels; return the names of state that has gone."""
    keys = {fused.key for fused in found}
    block = startup.global_block()
    builds = [op for op in block.ops if _kind(op) in _BUILD and _key(op) in keys]
    counts = set() if framework.in_pir_mode() else _made_for(startup, builds)
    remove(block, builds)
    if counts:
        remove(block, [op for op in block.ops if not counts.isdisjoint(op.output_arg_names)])
        drop_variables(startup, counts)
    return drop_state(main, startup, _state_of(found))


def _made_for(startup: Any, builds: Sequence[Any]) -> set[str]:
    """Step counts that a legacy startup program has for the building of kernels alone."""
    variables = startup.global_block().vars
    read = {name for op in builds for name in op.input_arg_names}
    return {name for name in read if name in variables and not variables[name].persistable}


def _state_of(found: Sequence[FusedUpdate]) -> set[str]:
    return {
        name
        for fused in found
        for tensor in fused.tensors
        for name in (tensor.moments.moment1, tensor.moments.moment2, tensor.step[0])
    }


def _key(op: Any) -> int:
    return int(op.attrs()["key"] if isinstance(op, paddle.pir.Operation) else op.attr("key"))
