"""An optimizer's state in a scope, where its programs keep it, parameter by parameter."""

from __future__ import annotations

import math
from collections.abc import Mapping
from typing import Any

import numpy as np
import paddle
from paddle.base import core, framework

from radam_codegen.errors import ArgumentTypeError, ProgramError
from radam_codegen.program.checkpoint_keys import MASTER, MOMENTS, entry_key
from radam_codegen.program.checkpoint_native import native_state
from radam_codegen.program.checkpoint_read import MASTER_WEIGHTS, Expected, Loaded, to_array
from radam_codegen.program.flat_moments import (
    FlatPlace,
    FlatStorage,
    FlatTensor,
    flat_places,
    flat_prefix_of,
)
from radam_codegen.program.static_state import StaticState

__all__ = ["StaticStore", "place_of"]


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
        self._states: Mapping[str, StaticState] = optimizer._state.static.by_name

    def entries(self) -> dict[str, Any]:
        """The state by name: tensors on the memory of the variables, which the next run changes.

        Raises:
            ProgramError: a variable holds nothing yet.
        """
        entries: dict[str, Any] = {}
        masters = {}
        for name, state in self._states.items():
            for kind, moment in zip(MOMENTS, self._moments(state)):
                entries[self._key(name, state, kind)] = moment
            counts = self._tensor(state.step)
            entries[self._key(name, state, "step")] = counts._slice(state.index, state.index + 1)
            if state.master is not None:
                masters[name] = self._tensor(state.master)
        return {**entries, **({MASTER_WEIGHTS: masters} if masters else {})}

    def expected(self) -> list[Expected]:
        """What a checkpoint has to have."""
        places = self._flat_places()
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
                    **dict(zip(MOMENTS, state.moments.names)),
                    **({} if state.master is None else {MASTER: state.master}),
                },
                step=(state.step, state.size, state.index),
                flat=places[name],
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
        arrays: dict[str, Any] = {}  # of variables that belong to several parameters
        for name, state in self._states.items():
            new, place = loaded[name], state.moments
            for variable, moment in zip(place.names, (new.moment1, new.moment2)):
                if place.offset is None:
                    zeros = np.zeros(state.shape, state.dtype)
                    self._set(variable, zeros if moment is None else moment)
                    continue
                whole = arrays.setdefault(variable, np.zeros([place.size], state.dtype))
                if moment is not None:
                    own = to_array(moment).ravel()
                    whole[place.offset : place.offset + own.size] = own
            if state.master is not None:
                self._set(state.master, new.master)
            counts = arrays.setdefault(state.step, np.zeros([state.size], np.int64))
            counts[state.index] = new.step
        for variable, values in arrays.items():
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
                *map(np.asarray, self._moments(state)),
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

    def _moments(self, state: StaticState) -> list[Any]:
        """Tensors of a parameter's shape on the memory of its moments."""
        return [_part(self._tensor(variable), state, variable) for variable in state.moments.names]

    def _flat_places(self) -> dict[str, FlatPlace]:
        """Where moments are, or would be, that lie in one variable with those of others."""
        places = flat_places(
            (self._group(name), FlatTensor(name, state.shape, state.dtype))
            for name, state in self._states.items()
        )
        for name, state in self._states.items():
            moments = state.moments
            if moments.offset is not None:
                prefixes = tuple(str(flat_prefix_of(each)) for each in moments.names)
                storage = FlatStorage((prefixes[0], prefixes[1]), state.dtype, moments.size)
                places[name] = FlatPlace(storage, moments.offset)
        return places

    def _key(self, name: str, state: StaticState, kind: str) -> str:
        if kind in MOMENTS and state.moments.offset is None:
            return state.moments.names[MOMENTS.index(kind)]
        return entry_key(name, self._optimizer._name, kind)

    def _set(self, variable: str, value: Any) -> None:
        tensor = self._scope.var(variable).get_tensor()
        tensor.set(to_array(value), place_of(tensor))

    def _options(self, name: str) -> Any:
        return self._optimizer._groups.options[self._group(name)]

    def _group(self, name: str) -> int:
        return int(self._optimizer._groups.group_of(name))


def _part(tensor: Any, state: StaticState, variable: str) -> Any:
    """The part of a tensor that belongs to a parameter, on the same memory."""
    place = state.moments
    if place.offset is None:
        return tensor
    if tuple(tensor.shape()) != (place.size,):
        raise ProgramError(
            f"the optimizer's variable {variable!r} has the shape {tensor.shape()} in this scope, "
            f"not [{place.size}]; run the startup program, or load a checkpoint of this program"
        )
    part = core.DenseTensor()
    numel = math.prod(state.shape)
    if numel == 0:
        part.set(np.zeros(state.shape, state.dtype), core.CPUPlace())
        return part
    part = tensor._slice(place.offset, place.offset + numel)
    part._set_dims(list(state.shape))
    return part


def place_of(tensor: Any) -> Any:
    """Where a tensor is, or will be, as a place of a kind that ``set`` takes."""
    if not tensor._is_initialized():
        place = framework._current_expected_place()  # of no kind before anything has run
        return place if isinstance(place, core.CUDAPlace) else core.CPUPlace()
    place = tensor._place()
    return core.CUDAPlace(place.gpu_device_id()) if place.is_gpu_place() else core.CPUPlace()
