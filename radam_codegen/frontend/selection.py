"""Which parameters of a program to update, given as tensors or as names."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from typing import Any

import paddle

from radam_codegen.errors import ArgumentTypeError, ProgramError, UnsupportedError
from radam_codegen.frontend.names import name_of

__all__ = ["Selection", "select_parameters"]


@dataclass(frozen=True)
class Selection:
    """What ``Optimizer.backward`` takes: variables and values, no names."""

    parameters: list[Any]
    no_grad_set: set[Any] | None


def select_parameters(
    loss: Any, parameters: Sequence[Any] | None, no_grad_set: Iterable[Any] | None
) -> Selection:
    """Look up what is to be updated in the program of a loss.

    Args:
        loss: a variable (legacy) or value (PIR) of a main program.
        parameters: tensors or names; None: all trainable parameters.
        no_grad_set: tensors or names that get no gradient.

    Returns:
        The trainable parameters that are neither frozen nor in ``no_grad_set``; there may be none.
        In PIR a parameter that several layers share by its name is several values: all of them.

    Raises:
        ProgramError: a name is not there, or a parameter belongs to another program.
        UnsupportedError: a parameter would get a sparse gradient.
        ArgumentTypeError: ``no_grad_set`` is no collection.
    """
    program = loss.block.program
    known: dict[str, list[Any]] = {}
    for param in _parameters(loss.block):
        known.setdefault(param.name, []).append(param)
    asked = known if parameters is None else [_look_up(known, each) for each in parameters]
    excluded = _names(no_grad_set)
    chosen = [
        param
        for name in dict.fromkeys(asked)
        for param in known[name]
        if not param.stop_gradient and name not in excluded
    ]
    _refuse_sparse(program, {each.name for each in chosen})
    if not no_grad_set:
        return Selection(chosen, None)
    if isinstance(program, paddle.pir.Program):
        return Selection(chosen, {v for each in no_grad_set for v in _values(known, each)})
    return Selection(chosen, set(excluded))


def _parameters(block: Any) -> list[Any]:
    """The parameters that a block can see; in PIR those of a branch stand in that branch."""
    outermost = block.program.global_block()
    found = list(outermost.all_parameters())
    while isinstance(block.program, paddle.pir.Program) and block != outermost:
        found += block.all_parameters()
        block = block.parent_block
    return found


def _look_up(known: dict[str, list[Any]], parameter: Any) -> str:
    name = name_of(parameter)
    if name not in known:
        raise ProgramError(
            f"{name!r} is no parameter of the program that the loss is in; it has: "
            + (", ".join(map(repr, list(known)[:20])) or "none")
        )
    return name


def _names(no_grad_set: Iterable[Any] | None) -> set[str]:
    if no_grad_set is None:
        return set()
    if isinstance(no_grad_set, str) or not isinstance(no_grad_set, (set, frozenset, list, tuple)):
        raise ArgumentTypeError(
            "no_grad_set should be a set, list or tuple of tensors or names, got "
            f"{type(no_grad_set).__name__}"
        )
    # In PIR the results of most operators have no name.
    return {
        name_of(each)
        for each in no_grad_set
        if isinstance(each, str) or getattr(each, "has_name", True)
    }


def _values(known: dict[str, list[Any]], entry: Any) -> list[Any]:
    if not isinstance(entry, str):
        return [entry]
    if entry in known:
        return known[entry]
    raise ProgramError(f"no_grad_set names {entry!r}, which is no parameter of the program")


def _refuse_sparse(program: Any, chosen: set[str]) -> None:
    """Refuse embeddings whose gradient would be SelectedRows, before anything is appended."""
    if isinstance(program, paddle.pir.Program):
        return  # gradients of embeddings are dense there
    for block in program.blocks:
        for op in block.ops:
            if not (op.has_attr("is_sparse") and op.attr("is_sparse")):
                continue
            for name in op.input_arg_names:
                if name in chosen:
                    raise UnsupportedError(
                        f"parameter {name!r} would get a sparse gradient (SelectedRows) from "
                        f"operator {op.type!r}, which RAdam does not support; build the Embedding "
                        "with sparse=False"
                    )
