"""The float64 twin of a program: the same tensors and gradients through the reference."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import replace
from typing import Any

import numpy as np

from radam_codegen.ir.dtypes import DType
from radam_codegen.ir.plan import GroupPlan, TensorPlan
from support.reference import ReferenceState, reference_step
from support.static_programs import FedProgram, Tensor

__all__ = ["Twin", "assert_follows", "expected_tensor", "initial_values"]

Array = np.ndarray[Any, np.dtype[Any]]


def expected_tensor(tensor: Tensor, **special: Any) -> TensorPlan:
    """What a parameter is to the reference; ``special`` says what its options should come to."""
    dtype = DType(tensor.dtype)
    return replace(TensorPlan(tensor.name, tensor.shape, dtype, dtype, dtype), **special)


def initial_values(tensors: Sequence[Tensor], seed: int = 1) -> list[Array]:
    """Values to start from: about 1 in magnitude, with some zeros, for L1 decay to meet."""
    random = np.random.default_rng(seed)
    values = []
    for tensor in tensors:
        value = np.asarray(random.standard_normal(tensor.shape))
        value[random.random(tensor.shape) < 0.05] = 0.0
        values.append(value.astype(tensor.dtype))
    return values


class Twin:
    """Groups of reference tensors; entry and group of a tensor are found by its name."""

    def __init__(
        self, tensors: Sequence[Tensor], groups: Sequence[GroupPlan], values: Sequence[Array]
    ) -> None:
        self._place = {tensor.name: index for index, tensor in enumerate(tensors)}
        self._groups = groups
        self.states = [
            ReferenceState(
                np.asarray(value, np.float64),
                np.zeros(value.shape),
                np.zeros(value.shape),
            )
            for value in values
        ]

    def step(self, grads: Sequence[Array], lr: float) -> None:
        """Advance every group by one step; ``grads`` are in the order of the tensors."""
        for group in self._groups:
            places = [self._place[tensor.name] for tensor in group.tensors]
            states = [self.states[place] for place in places]
            reference_step(group, states, [grads[place] for place in places], lr)

    def values(self) -> list[Array]:
        """The parameters as they are, float64."""
        return [state.param for state in self.states]


def assert_follows(
    program: FedProgram,
    groups: Sequence[GroupPlan],
    gradients: Sequence[Sequence[Array]],
    lr: float | Sequence[float],
    rtol: float = 2e-5,
    atol: float = 2e-6,
) -> Twin:
    """Run a program that has not started yet, and its twin, and compare after every step."""
    values = initial_values(program.tensors)
    program.start(values)
    twin = Twin(program.tensors, groups, values)
    rates = [lr] * len(gradients) if isinstance(lr, float) else lr
    for number, (grads, rate) in enumerate(zip(gradients, rates), 1):
        program.step(grads)
        twin.step(grads, rate)
        for tensor, actual, expected in _aligned(program, twin):
            assert actual.dtype == tensor.dtype
            np.testing.assert_allclose(
                actual, expected, rtol, atol, err_msg=f"step {number}, {tensor.name!r}"
            )
    return twin


def _aligned(program: FedProgram, twin: Twin) -> Iterator[tuple[Tensor, Array, Array]]:
    return zip(program.tensors, program.values(), twin.values())
