"""Scopes to run a program in that leave its own alone."""

from __future__ import annotations

from collections.abc import Iterable
from typing import Any

import paddle
from paddle.base import core, framework

from radam_codegen.errors import ProgramError, RadamCodegenError
from radam_codegen.program.lowering.scope_state import read_array, write_array
from radam_codegen.program.variables import blocks_of, initializes

__all__ = ["scratch_scope", "shared_scope"]

#: Operators of PIR that stand for a variable, and the attribute that names it.
_NAMED = {"builtin.parameter": "parameter_name", "pd_op.data": "name"}


def shared_scope(main: Any, scope: Any) -> Any:
    """Make a scope with the very memory of what a main program keeps in another one.

    What is added to it is not added to the other one.
    """
    made = paddle.static.Scope()
    for name in _kept_names(main):
        variable = scope.find_var(name)
        if variable is not None and variable.get_tensor()._is_initialized():
            made.var(name).get_tensor()._share_data_with(variable.get_tensor())
    return made


def scratch_scope(main: Any, startup: Any, scope: Any) -> Any:
    """Make a scope that holds what a main program keeps, apart from another one.

    Args:
        main: the main program.
        startup: its startup program, or None.
        scope: whose values are copied. Where some are missing that the startup program would
            initialize, a copy of that runs in the new scope first.

    Raises:
        ProgramError: the startup program cannot be run.
    """
    made = paddle.static.Scope()
    names = _kept_names(main)
    absent = _copy_values(scope, made, names)
    if startup is None or not any(initializes(startup, name) for name in absent):
        return made
    try:
        with paddle.static.scope_guard(made):
            paddle.static.Executor().run(startup.clone())
    except RadamCodegenError:
        raise
    except Exception as error:  # whatever an operator throws
        raise ProgramError(
            "the startup program cannot be run, so there are no step times: "
            f"{str(error).strip() or type(error).__name__}"
        ) from error
    _copy_values(scope, made, names)
    return made


def _kept_names(program: Any) -> list[str]:
    """Names of the tensors that a main program keeps from run to run."""
    if isinstance(program, framework.Program):
        found = [
            variable.name
            for block in program.blocks
            for variable in block.vars.values()
            if variable.persistable and variable.desc.type() == core.VarDesc.VarType.DENSE_TENSOR
        ]
    else:
        found = [
            op.attrs()[_NAMED[op.name()]]
            for block in blocks_of(program)
            for op in block.ops
            if op.name() in _NAMED and op.result(0).persistable
        ]
    return list(dict.fromkeys(found))


def _copy_values(source: Any, target: Any, names: Iterable[str]) -> list[str]:
    """Copy variables into another scope; return which of them hold nothing."""
    absent = []
    for name in names:
        array = read_array(source, name)
        if array is None:
            absent.append(name)
        else:
            write_array(target, name, array)
    return absent
