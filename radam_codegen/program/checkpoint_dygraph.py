"""An optimizer's state in dynamic graph, parameter by parameter."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import paddle

from radam_codegen.program.checkpoint_keys import entry_key
from radam_codegen.program.checkpoint_native import native_state
from radam_codegen.program.checkpoint_read import MASTER_WEIGHTS, Expected, Loaded, to_array
from radam_codegen.program.flat_moments import FlatTensor, flat_places

__all__ = ["DygraphStore"]


class DygraphStore:
    """Tensors of the optimizer's parameters.

    Args:
        optimizer: a ``RAdam`` that was given its parameters as tensors.
    """

    def __init__(self, optimizer: Any) -> None:
        self._optimizer = optimizer
        self._maker = optimizer._state
        self._groups = optimizer._groups
        # A parameter that is listed no more keeps its state.
        params = [*optimizer._step_places.members, *(self._groups.members or ())]
        self._params = {param.name: param for param in params}

    def entries(self) -> dict[str, Any]:
        """The state by name: the very tensors, which the next step changes."""
        held = {name: self._maker.held(param) for name, param in self._params.items()}
        if not any(held.values()):
            return {}
        moment1 = {each.moment1.name: each.moment1 for each in held.values() if each}
        moment2 = {each.moment2.name: each.moment2 for each in held.values() if each}
        counts = {}
        with paddle.no_grad():
            for name, param in self._params.items():
                step, index = self._maker.step_of(param)
                key = entry_key(name, self._optimizer._name, "step")
                counts[key] = step[index : index + 1]
                counts[key].name = key
        masters = {
            name: each.master for name, each in held.items() if each and each.master is not None
        }
        return {**moment1, **moment2, **counts, **({MASTER_WEIGHTS: masters} if masters else {})}

    def expected(self) -> list[Expected]:
        """What a checkpoint has to have."""
        places = flat_places(
            (
                self._groups.group_of(name),
                FlatTensor(name, tuple(param.shape), self._maker.moment_dtype(param)),
            )
            for name, param in self._params.items()
            if not param.stop_gradient
        )
        return [
            Expected(
                param=name,
                shape=tuple(param.shape),
                dtype=self._maker.moment_dtype(param),
                master=self._has_master(param),
                beta1=options.beta1,
                beta2=options.beta2,
                present=self._maker.held(param) is not None,
                flat=places.get(name),
            )
            for name, param in self._params.items()
            for options in [self._options(name)]
        ]

    def is_foreign(self, key: str) -> bool:
        """Whether a name is known to be something else's: never, as there is nothing else."""
        return False

    def write(self, loaded: Mapping[str, Loaded]) -> None:
        """Take over what was loaded; parameters that are missing stay as they are."""
        for name, new in loaded.items():
            param = self._params[name]
            if new.moment1 is None:
                self._maker.forget(param)
                continue
            state = self._maker.of_parameter(param, self._has_master(param))
            _set(state.moment1, new.moment1)
            _set(state.moment2, new.moment2)
            if state.master is not None:
                _set(state.master, new.master)
            state.step[state.index] = new.step
        self._maker.missing = frozenset(
            name
            for name, param in self._params.items()
            if loaded and name not in loaded and not param.stop_gradient
        )

    def native_entries(self) -> dict[str, Any]:
        """The state under the names, and in the form, that the native optimizer has it."""
        entries: dict[str, Any] = {}
        masters = {}
        for name, param in self._params.items():
            state = self._maker.held(param)
            if state is None:
                continue
            options = self._options(name)
            arrays = native_state(
                int(state.step[state.index]),
                options.beta1,
                options.beta2,
                state.moment1.numpy(),
                state.moment2.numpy(),
            )
            for kind, array in arrays.items():
                entries[entry_key(name, self._optimizer._name, kind)] = paddle.to_tensor(array)
            if state.master is not None:
                masters[name] = state.master.clone()
        return {**entries, **({MASTER_WEIGHTS: masters} if masters else {})}

    def _options(self, name: str) -> Any:
        return self._groups.options[self._groups.group_of(name)]

    def _has_master(self, param: Any) -> bool:
        halves = (paddle.bfloat16, paddle.float16)
        return self._optimizer._multi_precision and param.dtype in halves


def _set(tensor: Any, value: Any) -> None:
    tensor.set_value(value if isinstance(value, paddle.Tensor) else to_array(value))
