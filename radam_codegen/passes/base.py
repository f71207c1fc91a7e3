"""What a pass is, and what passes share."""

from __future__ import annotations

import functools
import sys
from collections.abc import Iterable, Mapping
from dataclasses import replace
from typing import Callable

from radam_codegen.ir.group import Body, GroupIR, Module
from radam_codegen.ir.ops import Op, Value

__all__ = [
    "Pass",
    "define",
    "definitions",
    "each_body",
    "each_kernel",
    "fresh_name",
    "rename_operands",
    "use_counts",
]


class Pass:
    """A named step of the lowering: a module in, an equivalent module out.

    ``exact`` says whether every result keeps every bit. A pass that is not exact only moves
    roundings; with real numbers it changes nothing.
    """

    def __init__(self, name: str, run: Callable[[Module], Module], *, exact: bool) -> None:
        self.name = name
        self.exact = exact
        self._run = run

    def __call__(self, module: Module) -> Module:
        """Apply the pass."""
        return self._run(module)

    @property
    def summary(self) -> str:
        """What the pass does, in one line: how the documentation of its file begins."""
        text = sys.modules[self._run.__module__].__doc__
        return "" if text is None else text.partition("\n")[0]  # none under python -OO

    def __repr__(self) -> str:
        return f"Pass({self.name!r}, exact={self.exact})"


def each_body(rewrite: Callable[[Body], Body]) -> Callable[[Module], Module]:
    """Make a pass over modules from a rewrite of one body that is not yet split."""

    @functools.wraps(rewrite)
    def run(module: Module) -> Module:
        kernels = []
        for kernel in module.kernels:
            assert not kernel.split, "this rewrite comes before the phases are split"
            kernels.append(replace(kernel, bodies=tuple(map(rewrite, kernel.bodies))))
        return replace(module, kernels=tuple(kernels))

    return run


def each_kernel(rewrite: Callable[[GroupIR], GroupIR]) -> Callable[[Module], Module]:
    """Make a pass over modules from a rewrite of one kernel."""

    @functools.wraps(rewrite)
    def run(module: Module) -> Module:
        return replace(module, kernels=tuple(map(rewrite, module.kernels)))

    return run


def define(op: Op) -> Value:
    """The value that ``op`` defines, where it must define one."""
    assert op.result is not None, f"{op.kind} defines nothing"
    return op.result


def definitions(ops: Iterable[Op]) -> dict[str, Op]:
    """Map every value's name to the operation that defines it."""
    return {op.result.name: op for op in ops if op.result is not None}


def use_counts(ops: Iterable[Op]) -> dict[str, int]:
    """Count how often every value is an operand."""
    counts: dict[str, int] = {}
    for op in ops:
        for operand in op.operands:
            counts[operand] = counts.get(operand, 0) + 1
    return counts


def rename_operands(op: Op, names: Mapping[str, str]) -> Op:
    """Replace the operands of ``op`` that ``names`` knows, through any number of renamings."""
    if not any(operand in names for operand in op.operands):
        return op

    def final(name: str) -> str:
        while name in names:
            name = names[name]
        return name

    return replace(op, operands=tuple(map(final, op.operands)))


def fresh_name(wanted: str, taken: Iterable[str]) -> str:
    """``wanted``, or the first of ``wanted_2``, ``wanted_3``, ... that is not taken."""
    name, number, used = wanted, 1, set(taken)
    while name in used:
        number += 1
        name = f"{wanted}_{number}"
    return name
