"""An optimizer's state in a scope, where its programs keep it, parameter by parameter."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import numpy as np
import paddle
from paddle.base import core, framework

from radam_codegen.errors import ArgumentTypeError, ProgramError
from radam_codegen.program.checkpoint_keys import MASTER, entry_key
from radam_codegen.program.checkpoint_native import native_state
from radam_codegen.program.checkpoint_read import MASTER_WEIGHTS, Expected, Loaded, to_array
from radam_codegen.program.state import StaticState

__all__ = ["StaticStore"]


class StaticStore:
    """Variables of a scope that belong to the optimizer's programs.

    Args:
        optimizer: a ``RAdam`` that has been minimized.
        scope: a ``paddle.static.Scope``; None: the global one.

    Raises:
        ArgumentTypeError: ``scope`` is something else.
    """

    def __init__(self, optimizer: Any, scope: Any) -> None:
        if scope is not None and not isinstance(scope, core._Scope):
            raise ArgumentTypeError(
                f"scope is a paddle.static.Scope or None, but this is a {type(scope).__name__}"
            )
        self._optimizer = optimizer
        self._scope = scope if scope is not None else paddle.static.global_scope()
        self._states: Mapping[str, StaticState] = optimizer._state.static

    def entries(self) -> dict[str, Any]:
        """The state by name: tensors on the memory of the variables, which the next run changes.

        Raises:
            ProgramError: a variable holds nothing yet.
        """
        entries: dict[str, Any] = {}
        masters = {}
        for name, state in self._states.items():
            entries[state.moment1] = self._tensor(state.moment1)
            entries[state.moment2] = self._tensor(state.moment2)
            counts = self._tensor(state.step)
            key = entry_key(name, self._optimizer._name, "step")
            entries[key] = counts._slice(state.index, state.index + 1)
            if state.master is not None:
                masters[name] = self._tensor(state.master)
        return {**entries, **({MASTER_WEIGHTS: masters} if masters else {})}

    def expected(self) -> list[Expected]:
        """What a checkpoint has to have."""
        return [
            Expected(
                param=name,
                shape=state.shape,
                dtype=state.dtype,
                master=state.master is not None,
                beta1=options.beta1,
                beta2=options.beta2,
                present=True,
                variables={
                    "moment1": state.moment1,
                    "moment2": state.moment2,
                    **({} if state.master is None else {MASTER: state.master}),
                },
                step=(state.step, state.size, state.index),
            )
            for name, state in self._states.items()
            for options in [self._options(name)]
        ]

    def is_foreign(self, key: str) -> bool:
        """Whether a name is that of a variable, of which there may be others than the optimizer's.

        A program's state dict holds all of them.
        """
        return self._scope.find_var(key) is not None

    def write(self, loaded: Mapping[str, Loaded]) -> None:
        """Take over what was loaded, which is the state of every parameter."""
        counts = {state.step: np.zeros([state.size], np.int64) for state in self._states.values()}
        for name, state in self._states.items():
            new = loaded[name]
            dtype = np.dtype(state.dtype)
            for variable, value in ((state.moment1, new.moment1), (state.moment2, new.moment2)):
                self._set(variable, np.zeros(state.shape, dtype) if value is None else value)
            if state.master is not None:
                self._set(state.master, new.master)
            counts[state.step][state.index] = new.step
        for variable, values in counts.items():
            self._set(variable, values)

    def native_entries(self) -> dict[str, Any]:
        """The state under the names, and in the form, that the native optimizer has it.

        Raises:
            ProgramError: a variable holds nothing yet.
        """
        entries = {}
        for name, state in self._states.items():
            options = self._options(name)
            arrays = native_state(
                int(np.asarray(self._tensor(state.step))[state.index]),
                options.beta1,
                options.beta2,
                np.asarray(self._tensor(state.moment1)),
                np.asarray(self._tensor(state.moment2)),
            )
            for kind, array in arrays.items():
                tensor = core.DenseTensor()
                tensor.set(array, core.CPUPlace())
                entries[entry_key(name, self._optimizer._name, kind)] = tensor
        return entries

    def _tensor(self, variable: str) -> Any:
        found = self._scope.find_var(variable)
        tensor = None if found is None else found.get_tensor()
        if tensor is None or not tensor._is_initialized():
            raise ProgramError(
                f"the optimizer's variable {variable!r} holds nothing in this scope yet; run the "
                "startup program, or load a checkpoint, first"
            )
        return tensor

    def _set(self, variable: str, value: Any) -> None:
        tensor = self._scope.var(variable).get_tensor()
        tensor.set(to_array(value), _place_of(tensor))

    def _options(self, name: str) -> Any:
        groups = self._optimizer._groups
        return groups.options[groups.group_of(name)]


def _place_of(tensor: Any) -> Any:
    """Where a tensor is, or will be, as a place of a kind that ``set`` takes."""
    if not tensor._is_initialized():
        place = framework._current_expected_place()  # of no kind before anything has run
        return place if isinstance(place, core.CUDAPlace) else core.CPUPlace()
    place = tensor._place()
    return core.CUDAPlace(place.gpu_device_id()) if place.is_gpu_place() else core.CPUPlace()
