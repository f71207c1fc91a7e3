"""Which parameters of a program to update, given as tensors or as names."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import paddle

from radam_codegen.errors import ArgumentTypeError, ProgramError, UnsupportedError
from radam_codegen.frontend.arguments import is_variable
from radam_codegen.frontend.names import name_of

__all__ = [
    "Selection",
    "check_tensors",
    "checked_no_grad_set",
    "checked_parameters",
    "select_parameters",
]


def checked_parameters(parameters: Any) -> list[Any] | None:
    """What ``minimize`` is given as ``parameters``, as a list: it may be an iterator.

    Raises:
        ArgumentTypeError: it is no iterable, or holds something else than tensors and names.
    """
    if parameters is None:
        return None
    if _is_tensor(parameters) or isinstance(parameters, (str, bytes, Mapping)):
        raise _no_collection("parameters", "list or tuple", parameters)
    try:
        entries = list(parameters)
    except TypeError:
        raise _no_collection("parameters", "list or tuple", parameters) from None
    return _checked_entries("parameters", entries)


def checked_no_grad_set(no_grad_set: Any) -> list[Any] | None:
    """What ``minimize`` is given as ``no_grad_set``, as a list.

    Raises:
        ArgumentTypeError: it is no set, list or tuple, or holds something else than tensors and
            names.
    """
    if no_grad_set is None:
        return None
    if not isinstance(no_grad_set, (set, frozenset, list, tuple)):
        raise _no_collection("no_grad_set", "set, list or tuple", no_grad_set)
    return _checked_entries("no_grad_set", list(no_grad_set))


def check_tensors(parameters: Sequence[Any] | None) -> None:
    """Refuse what only a program can have, in dynamic graph.

    Raises:
        ArgumentTypeError: a parameter is no tensor of dynamic graph.
    """
    for each in parameters or ():
        if not isinstance(each, paddle.Tensor):
            raise ArgumentTypeError(
                f"parameters holds {each!r} of type {type(each).__name__}; in dynamic graph it "
                "should hold tensors"
            )


def _no_collection(argument: str, wanted: str, given: Any) -> ArgumentTypeError:
    return ArgumentTypeError(
        f"{argument} should be a {wanted} of tensors or names, got {type(given).__name__}"
    )


def _checked_entries(argument: str, entries: list[Any]) -> list[Any]:
    for each in entries:
        if not isinstance(each, str) and not _is_tensor(each):
            shown = repr(each)
            raise ArgumentTypeError(
                f"{argument} holds {shown if len(shown) < 60 else shown[:57] + '...'} of type "
                f"{type(each).__name__}; it should hold tensors or names"
            )
    return entries


def _is_tensor(value: Any) -> bool:
    return isinstance(value, paddle.Tensor) or is_variable(value)


@dataclass(frozen=True)
class Selection:
    """What ``Optimizer.backward`` takes: variables and values, no names."""

    parameters: list[Any]
    no_grad_set: set[Any] | None


def select_parameters(
    loss: Any, parameters: Sequence[Any] | None, no_grad_set: Sequence[Any] | None
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
        ProgramError: a name is not there, or a tensor belongs to another program.
        UnsupportedError: a parameter would get a sparse gradient.
    """
    program = loss.block.program
    _refuse_foreign(program, "no_grad_set", no_grad_set or ())
    known: dict[str, list[Any]] = {}
    for param in _parameters(loss.block):
        known.setdefault(param.name, []).append(param)
    asked = known if parameters is None else [_look_up(known, each) for each in parameters]
    excluded = _names(no_grad_set or ())
    _refuse_unknown(program, known, no_grad_set or ())
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


def _names(no_grad_set: Sequence[Any]) -> set[str]:
    # In PIR the results of most operators have no name.
    return {
        name_of(each)
        for each in no_grad_set
        if isinstance(each, str) or getattr(each, "has_name", True)
    }


def _values(known: dict[str, list[Any]], entry: Any) -> list[Any]:
    return known[entry] if isinstance(entry, str) else [entry]


def _refuse_foreign(program: Any, argument: str, given: Sequence[Any]) -> None:
    for each in given:
        if isinstance(each, str):
            continue
        block = getattr(each, "block", None)  # tensors of dynamic graph are in none
        if block is None or block.program is not program:
            named = f"{each.name!r}, " if getattr(each, "has_name", True) else ""
            raise ProgramError(
                f"{argument} holds {named}a tensor of another program than the loss is in"
            )


def _refuse_unknown(program: Any, known: dict[str, list[Any]], no_grad_set: Sequence[Any]) -> None:
    """Refuse names of nothing; in PIR only parameters have names to be found by."""
    names = set(known)
    what = "parameter"
    if not isinstance(program, paddle.pir.Program):
        names = {name for block in program.blocks for name in block.vars}
        what = "variable"
    for each in no_grad_set:
        if isinstance(each, str) and each not in names:
            raise ProgramError(
                f"no_grad_set names {each!r}, which is no {what} of the program that the loss is "
                "in; its parameters are: " + (", ".join(map(repr, list(known)[:20])) or "none")
            )


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
