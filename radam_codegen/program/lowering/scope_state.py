"""State of native RAdam in a scope, and what it is for the fused step."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from typing import Any

import numpy as np

from radam_codegen.errors import ProgramError
from radam_codegen.frontend.native.update import ACCUMULATORS, Update
from radam_codegen.program.checkpoint_native import recover_step
from radam_codegen.program.checkpoint_read import Loaded
from radam_codegen.program.checkpoint_static import place_of

__all__ = ["clear", "read_array", "read_states", "write_array"]


def read_states(scope: Any, updates: Sequence[Update]) -> dict[str, Loaded] | None:
    """Read the state of parameters that native updates have in a scope, by parameter.

    Args:
        scope: a ``paddle.static.Scope``.
        updates: updates that have one state per parameter.

    Returns:
        None where the startup program has not run in the scope.

    Raises:
        ProgramError: some of the state is there, or it is that of no number of steps.
    """
    missing, found = [], {}
    for update in updates:
        if update.name in found:
            continue
        arrays = {kind: read_array(scope, update.state[kind].name) for kind in ACCUMULATORS}
        absent = [update.state[kind].name for kind, array in arrays.items() if array is None]
        missing += absent
        if not absent:
            found[update.name] = _loaded(update, arrays)
    if not found:
        return None
    if missing:
        raise ProgramError(
            f"the scope holds state of {next(iter(found))!r} but nothing in {missing[0]!r}; run "
            "the startup program, or load a checkpoint, before lowering, or lower before both"
        )
    return found


def _loaded(update: Update, arrays: dict[str, Any]) -> Loaded:
    for kind, array in arrays.items():
        if array.shape != update.param.shape:
            raise ProgramError(
                f"{update.state[kind].name!r} has the shape {list(array.shape)} in the scope, but "
                f"{list(update.param.shape)} in the program"
            )
    step = 0
    if arrays["rho"].size:
        first = {kind: float(array.flat[0]) for kind, array in arrays.items()}
        dtype = arrays["rho"].dtype.name
        try:
            step = recover_step(
                first["beta1_pow"],
                first["beta2_pow"],
                first["rho"],
                update.beta1,
                update.beta2,
                dtype,
            )
        except ValueError as error:
            raise ProgramError(
                f"how many steps parameter {update.name!r} has taken cannot be told from its "
                f"state: {error}"
            ) from error
    return Loaded(step=step, moment1=arrays["moment1"], moment2=arrays["moment2"])


def read_array(scope: Any, name: str) -> Any:
    """Return a copy of a variable in a scope, None where it holds nothing."""
    variable = scope.find_var(name)
    tensor = None if variable is None else variable.get_tensor()
    if tensor is None or not tensor._is_initialized():
        return None
    return np.array(tensor)


def write_array(scope: Any, name: str, array: Any) -> None:
    """Set a variable of a scope, which is made where it is missing."""
    tensor = scope.var(name).get_tensor()
    tensor.set(array, place_of(tensor))


def clear(scope: Any, names: Iterable[str]) -> None:
    """Free the memory of variables that no program uses any more."""
    for name in names:
        variable = scope.find_var(name)
        if variable is not None:
            variable.get_tensor()._clear()
