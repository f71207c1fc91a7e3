"""How far two runs of one step may differ when only roundings have moved.

The bounds are those of an error analysis of one step, per element, from the state before it and the
result: a moment is as exact as its terms, cancellation included, and the parameter as exact as its
update. They hold for the documented formula and for everything that the passes make of it.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np

from radam_codegen.ir.arithmetic import bfloat16_values
from radam_codegen.ir.dtypes import DType
from radam_codegen.ir.interpret import GroupArrays
from radam_codegen.ir.plan import DecayKind, GroupPlan, TensorPlan, UpdatePlan
from support.reference import reference_clip

__all__ = ["UNIT", "assert_bitwise", "assert_close", "wide"]

Array = np.ndarray[Any, np.dtype[Any]]

#: Half the distance from 1 to the next number.
UNIT = {
    DType.FLOAT64: 2.0**-53,
    DType.FLOAT32: 2.0**-24,
    DType.FLOAT16: 2.0**-11,
    DType.BFLOAT16: 2.0**-8,
}

#: Roundings on the way to a result, generously counted.
_ROUNDINGS = 8


def wide(array: Array) -> Array:
    """Return an array of a slot as float64; uint16 arrays hold bfloat16 bits."""
    return (bfloat16_values(array) if array.dtype == np.uint16 else array).astype(np.float64)


def assert_bitwise(
    plan: UpdatePlan, actual: list[GroupArrays], expected: list[GroupArrays]
) -> None:
    """Demand equal bits of every array; one NaN is as good as another."""
    for index, group in enumerate(plan.groups):
        one, other = actual[index], expected[index]
        assert np.array_equal(one.step, other.step), f"group {index}: step counts differ"
        for slot in ("param", "moment1", "moment2", "master"):
            for tensor, a, b in zip(group.tensors, getattr(one, slot), getattr(other, slot)):
                at = f"group {index}, {tensor.name!r}, {slot}"
                if b is None:
                    assert a is None, at
                    continue
                assert a.dtype == b.dtype, at
                assert a.shape == b.shape, at
                bits = f"u{a.dtype.itemsize}"
                same = (a.view(bits) == b.view(bits)) | (np.isnan(wide(a)) & np.isnan(wide(b)))
                assert np.all(same), f"{at}: {a.ravel()[~same.ravel()]} {b.ravel()[~same.ravel()]}"


@dataclass(frozen=True)
class _Step:
    """One tensor's step in float64: state before, state after, and the gradient used."""

    param: Array
    moment1: Array
    moment2: Array
    param_out: Array
    moment1_out: Array
    moment2_out: Array
    #: Magnitude of the terms of the gradient after clip and decay.
    grad: Array


def assert_close(
    plan: UpdatePlan,
    before: list[GroupArrays],
    actual: list[GroupArrays],
    exact: list[GroupArrays],
    typed: bool,
) -> None:
    """Demand that ``actual`` is ``exact`` up to rounding.

    Args:
        plan: What was run.
        before: The arrays that the step started from, finite.
        actual: The result to judge.
        exact: A result in float64.
        typed: Whether ``actual`` was computed in the plan's types, or in float64 too.
    """
    for index, group in enumerate(plan.groups):
        assert np.array_equal(actual[index].step, exact[index].step), f"group {index}: steps"
        grads = reference_clip(group, [wide(grad) for grad in before[index].grad])
        for place, tensor in enumerate(group.tensors):
            step = _step(tensor, before[index], exact[index], place, grads[place])
            _assert_tensor_close(
                f"group {index}, {tensor.name!r}", group, tensor, step, actual[index], place, typed
            )


def _step(
    tensor: TensorPlan, before: GroupArrays, exact: GroupArrays, place: int, grad: Array
) -> _Step:
    # The master weight, where there is one, is what decays and moves.
    slot = "master" if tensor.master else "param"
    param = wide(getattr(before, slot)[place])
    size = np.abs(grad)
    if tensor.decay.kind is DecayKind.L2:
        size = size + tensor.decay.coefficient * np.abs(param)
    elif tensor.decay.kind is DecayKind.L1:
        size = size + tensor.decay.coefficient
    return _Step(
        param=param,
        moment1=wide(before.moment1[place]),
        moment2=wide(before.moment2[place]),
        param_out=wide(getattr(exact, slot)[place]),
        moment1_out=exact.moment1[place],
        moment2_out=exact.moment2[place],
        grad=size,
    )


def _assert_tensor_close(
    at: str,
    group: GroupPlan,
    tensor: TensorPlan,
    step: _Step,
    actual: GroupArrays,
    place: int,
    typed: bool,
) -> None:
    unit = UNIT[tensor.moment_dtype if typed else DType.FLOAT64] * _ROUNDINGS
    moment1_error = unit * (
        np.abs(step.moment1_out)
        + np.abs(step.moment1)
        + (1 - group.beta1) * np.maximum(np.abs(step.moment1), step.grad)
    )
    moment2_error = unit * (
        step.moment2_out + (1 - group.beta2) * np.maximum(step.moment2, step.grad**2)
    )
    update = np.abs(step.param_out - step.param)
    with np.errstate(divide="ignore", invalid="ignore"):
        amplified = moment1_error / np.abs(step.moment1_out) + moment2_error / step.moment2_out
        param_error = unit * (np.abs(step.param_out) + np.abs(step.param) + update)
        param_error = param_error + update * np.where(update == 0, 0, amplified)
    _assert_within(f"{at}, moment1", actual.moment1[place], step.moment1_out, moment1_error)
    _assert_within(f"{at}, moment2", actual.moment2[place], step.moment2_out, moment2_error)
    if tensor.master:
        master = actual.master[place]
        assert master is not None, at
        _assert_within(f"{at}, master", master, step.param_out, param_error)
    if typed:
        stored = UNIT[tensor.param_dtype]
        smallest = 2.0**-24 if tensor.param_dtype is DType.FLOAT16 else 0.0
        param_error = param_error + 2 * stored * np.abs(step.param_out) + smallest
    _assert_within(f"{at}, param", actual.param[place], step.param_out, param_error)


def _assert_within(at: str, actual: Array, exact: Array, error: Array) -> None:
    given = wide(actual)
    with np.errstate(invalid="ignore"):
        near = np.abs(given - exact) <= error
    # A NaN in the bound says that the formula is 0 / 0 here. Infinities of float16 parameters are
    # as good as numbers beyond its range.
    near |= np.isnan(exact) & np.isnan(given)
    near |= np.isnan(error)
    if actual.dtype == np.float16:
        near |= (np.abs(exact) > 65000) & (np.sign(given) == np.sign(exact))
    if not np.all(near):
        first = int(np.flatnonzero(~near.ravel())[0])
        values = [
            array.ravel()[first] for array in (given, exact, np.broadcast_to(error, given.shape))
        ]
        raise AssertionError(
            f"{at}, element {first}: {values[0]!r} instead of {values[1]!r}, "
            f"farther than {values[2]!r}"
        )
