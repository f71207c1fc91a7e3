"""Single faults planted in IR, to see that checks find them."""

from __future__ import annotations

import math
from collections.abc import Iterator
from dataclasses import replace

from radam_codegen.ir.group import Body, Module
from radam_codegen.ir.ops import Op, OpKind
from radam_codegen.ir.printer import format_op

__all__ = ["mutants"]

_SWAPPED_KINDS = {
    OpKind.ADD: OpKind.SUB,
    OpKind.SUB: OpKind.ADD,
    OpKind.MUL: OpKind.DIV,
    OpKind.DIV: OpKind.MUL,
    OpKind.MAX: OpKind.MIN,
    OpKind.MIN: OpKind.MAX,
    OpKind.GT: OpKind.LE,
    OpKind.LE: OpKind.GT,
    OpKind.SQRT: OpKind.NEG,
    OpKind.NEG: OpKind.SQRT,
    OpKind.SIGN: OpKind.NEG,
    OpKind.ONE_MINUS_POW: OpKind.SMA_LENGTH,
    OpKind.SMA_LENGTH: OpKind.ONE_MINUS_POW,
}
_OF_STEP_COUNTS = (OpKind.ONE_MINUS_POW, OpKind.SMA_LENGTH)
_SWAPPED_ATTRS = {
    "lr": "epsilon",
    "beta1": "beta2",
    "beta2": "beta1",
    "epsilon": "lr",
    "clip_bound": "beta1",
    "clip_lower": "clip_bound",
    "lr_scale": "decay",
    "decay": "lr_scale",
    "param": "moment1",
    "grad": "moment1",
    "moment1": "moment2",
    "moment2": "moment1",
    "master": "moment1",
}
_COMMUTATIVE = (OpKind.ADD, OpKind.MUL, OpKind.MAX, OpKind.MIN)


def mutants(module: Module) -> Iterator[tuple[str, Module]]:
    """Yield a description of each fault and the module that has it, and no other.

    An operation that several bodies of a kernel share is changed in all of them.
    """
    for at, kernel in enumerate(module.kernels):
        for text, bodies in _bodies_mutants(kernel.bodies):
            changed = replace(kernel, bodies=bodies)
            kernels = (*module.kernels[:at], changed, *module.kernels[at + 1 :])
            yield text, replace(module, kernels=kernels)


def _bodies_mutants(bodies: tuple[Body, ...]) -> Iterator[tuple[str, tuple[Body, ...]]]:
    for phase in ("reduce", "scalar", "each"):
        for op in dict.fromkeys(op for body in bodies for op in getattr(body, phase)):
            for text, changed in _op_mutants(op):
                yield (
                    f"{phase} '{format_op(op)}': {text}",
                    tuple(_replaced(body, phase, op, changed) for body in bodies),
                )


def _replaced(body: Body, phase: str, op: Op, changed: tuple[Op, ...]) -> Body:
    ops: list[Op] = []
    for each in getattr(body, phase):
        ops.extend(changed if each == op else (each,))
    return replace(body, **{phase: tuple(ops)})


def _op_mutants(op: Op) -> Iterator[tuple[str, tuple[Op, ...]]]:
    if op.kind in (OpKind.STORE, OpKind.STORE_STEP):
        yield "not stored", ()
    if op.kind in _SWAPPED_KINDS:
        other = _SWAPPED_KINDS[op.kind]
        yield f"{other} instead", (replace(op, kind=other),)
    if isinstance(op.attr, str) and op.kind is not OpKind.STORE and op.attr in _SWAPPED_ATTRS:
        other_attr = _SWAPPED_ATTRS[op.attr]
        yield f"{other_attr} instead", (replace(op, attr=other_attr),)
    if op.kind is OpKind.CONST and isinstance(op.attr, (int, float)):
        less = op.attr - 1 if math.isfinite(op.attr) else 0.1
        yield f"{less!r} instead", (replace(op, attr=less),)
    if op.kind is OpKind.SELECT:
        condition, a, b = op.operands
        yield "choices swapped", (replace(op, operands=(condition, b, a)),)
    if op.kind is OpKind.FMA:
        a, b, c = op.operands
        yield "addend swapped", (replace(op, operands=(a, c, b)),)
    if len(op.operands) == 2 and op.kind not in _COMMUTATIVE:
        yield "operands swapped", (replace(op, operands=op.operands[::-1]),)
    if len(set(op.operands)) == len(op.operands) == 2 and op.kind not in _OF_STEP_COUNTS:
        yield "first operand twice", (replace(op, operands=op.operands[:1] * 2),)
