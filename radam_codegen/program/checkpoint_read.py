"""Reading a checkpoint: all of it is checked before anything is touched."""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

import numpy as np
import paddle
from paddle.base import core

from radam_codegen.errors import ArgumentTypeError, CheckpointError
from radam_codegen.program.checkpoint_keys import (
    MASTER,
    MOMENTS,
    NATIVE_KINDS,
    Entries,
    find_entries,
    is_group_step,
)
from radam_codegen.program.checkpoint_native import recover_step
from radam_codegen.program.flat_moments import FlatPlace, flat_prefix_of

__all__ = ["MASTER_WEIGHTS", "SCHEDULER", "Expected", "Loaded", "read_checkpoint", "to_array"]

#: Where Paddle's ``state_dict`` keeps master weights (by parameter) and the scheduler's state.
MASTER_WEIGHTS = "master_weights"
SCHEDULER = "LR_Scheduler"


@dataclass(frozen=True)
class Expected:
    """The state that one parameter of the optimizer has, or will have."""

    param: str
    shape: tuple[int, ...]
    #: Type of the moments.
    dtype: str
    #: Whether it has a master weight.
    master: bool
    beta1: float
    beta2: float
    #: Whether it has state now, so that a checkpoint without any cannot be right.
    present: bool
    #: Names of the optimizer's own variables, by kind.
    variables: Mapping[str, str] = field(default_factory=dict)
    #: Where the step count stands in a program: variable, size and index.
    step: tuple[str, int, int] | None = None
    #: Where the moments are in a checkpoint that has those of several parameters in one tensor.
    flat: FlatPlace | None = None


@dataclass(frozen=True)
class Loaded:
    """State of one parameter as a checkpoint has it: tensors or arrays that fit.

    Moments and master weight are None for a parameter that never had a gradient.
    """

    step: int
    moment1: Any = None
    moment2: Any = None
    master: Any = None


def read_checkpoint(
    checkpoint: Mapping[str, Any],
    expected: Sequence[Expected],
    name: str | None,
    *,
    is_foreign: Callable[[str], bool] = lambda key: False,
    faults: Sequence[str] = (),
) -> dict[str, Loaded]:
    """Find and check the state of each parameter.

    Args:
        checkpoint: by name, tensors or arrays: made by this optimizer or by the native one, in
            dynamic graph or from the variables of a program.
        expected: the optimizer's parameters.
        name: name of the optimizer.
        is_foreign: whether a name is known to be of something else, which may be there too.
        faults: what else does not fit.

    Returns:
        The state by name of parameter. A parameter is missing that has no state now, and none in a
        checkpoint of the native optimizer.

    Raises:
        ArgumentTypeError: it is no mapping.
        CheckpointError: it does not fit; the message lists all that doesn't.
    """
    if not isinstance(checkpoint, Mapping):
        raise ArgumentTypeError(
            f"a state dict is a dict, but this is a {type(checkpoint).__name__}"
        )
    reader = _Reader(checkpoint, expected, name, is_foreign)
    loaded = {each.param: reader.read(each) for each in expected}
    found = list(dict.fromkeys([*faults, *reader.faults]))
    if found:
        lines = "".join(f"\n  - {fault}" for fault in found)
        raise CheckpointError(
            "the checkpoint does not fit this optimizer, whose state was left as it is; give one "
            f"that was saved for the same parameters. What does not fit:{lines}"
        )
    return {param: state for param, state in loaded.items() if state is not None}


class _Reader:
    def __init__(
        self,
        checkpoint: Mapping[str, Any],
        expected: Sequence[Expected],
        name: str | None,
        is_foreign: Callable[[str], bool],
    ) -> None:
        own = {
            (each.param, kind): variable
            for each in expected
            for kind, variable in each.variables.items()
        }
        keys = [key for key in checkpoint if key not in (MASTER_WEIGHTS, SCHEDULER)]
        flat_keys = [key for key in keys if flat_prefix_of(key) is not None]
        self.checkpoint = checkpoint
        self.entries: Entries = find_entries(
            [key for key in keys if key not in flat_keys],
            {each.param for each in expected},
            name,
            own,
            is_foreign,
        )
        self.flat: dict[str, list[str]] = {}
        for key in flat_keys:
            self.flat.setdefault(str(flat_prefix_of(key)), []).append(key)
        self.group_steps = {key: checkpoint[key] for key in keys if is_group_step(key)}
        masters = checkpoint.get(MASTER_WEIGHTS) or {}
        self.masters: Mapping[str, Any] = masters if isinstance(masters, Mapping) else {}
        # Ours names the count of every parameter, 0 included; so one that is missing was lost.
        self.names_all = any("step" in kinds for kinds in self.entries.found.values())
        self.is_empty = not (self.entries.found or self.masters or self.group_steps or self.flat)
        self.faults = [f"{key!r}: no such state is known" for key in self.entries.unknown]
        for param, kind, candidates in self.entries.twice:
            listed = " and ".join(map(repr, candidates))
            self.faults.append(f"{listed}: both could be {kind} of {param!r}")

    def read(self, expected: Expected) -> Loaded | None:
        kinds = self.entries.found.get(expected.param, {})
        master = self.masters.get(expected.param)
        if master is None and MASTER in kinds:
            master = self.checkpoint[kinds[MASTER]]
        if not kinds and master is None and not self._is_flat(expected):
            if self.flat:
                self.faults.append(self._other_layout())
            elif not self._may_lack(expected):
                self.faults.append(f"{expected.param!r}: nothing of it is there")
            return None
        before = len(self.faults)
        step = self._step(expected, kinds)
        if step == 0 and master is None and not self._has_moments(expected, kinds):
            return Loaded(0) if len(self.faults) == before else None
        moments = [self._moment(expected, kinds, kind) for kind in MOMENTS]
        self._check_master(expected, master)
        if step is None or len(self.faults) > before:
            return None
        return Loaded(step, moments[0], moments[1], master)

    def _has_moments(self, expected: Expected, kinds: Mapping[str, str]) -> bool:
        return self._is_flat(expected) or any(kind in kinds for kind in MOMENTS)

    def _is_flat(self, expected: Expected) -> bool:
        """Whether the parameter's moments are in one tensor with those of others."""
        place = expected.flat
        return place is not None and any(each in self.flat for each in place.storage.prefixes)

    def _moment(self, expected: Expected, kinds: Mapping[str, str], kind: str) -> Any:
        if self._is_flat(expected):
            return self._part(expected, kind)
        if kind not in kinds and self.flat:
            self.faults.append(self._other_layout())
            return None
        return self._fitting(expected, kinds, kind)

    def _part(self, expected: Expected, kind: str) -> Any:
        assert expected.flat is not None
        storage, offset = expected.flat.storage, expected.flat.offset
        prefix = storage.prefixes[MOMENTS.index(kind)]
        keys = self.flat.get(prefix, [])
        own = expected.variables.get(kind, "")
        if not keys:
            self.faults.append(f"{prefix}_0: missing")
            return None
        if len(keys) > 1 and own not in keys:
            listed = " and ".join(map(repr, keys))
            self.faults.append(f"{listed}: both could be {kind} of {expected.param!r}")
            return None
        key = own if own in keys else keys[0]
        value = self.checkpoint[key]
        if not self._check_fit(repr(key), value, (storage.size,), expected.dtype):
            return None
        numel = math.prod(expected.shape)
        return to_array(value)[offset : offset + numel].reshape(expected.shape)

    def _other_layout(self) -> str:
        names = ", ".join(repr(key) for keys in self.flat.values() for key in keys)
        return (
            f"{names}: moments of several parameters in one tensor, and these are no group of this "
            "optimizer; load it into the program that it was saved from, and give the state_dict() "
            "of the optimizer there"
        )

    def _may_lack(self, expected: Expected) -> bool:
        """Whether a parameter may be missing altogether."""
        if expected.present or self.names_all:
            return False
        # There is something, but nothing of ours: another model's.
        foreign = self.is_empty and len(self.checkpoint) > (SCHEDULER in self.checkpoint)
        return not foreign

    def _step(self, expected: Expected, kinds: Mapping[str, str]) -> int | None:
        if "step" in kinds:
            return self._count(kinds["step"])
        if any(kind in kinds for kind in NATIVE_KINDS):
            return self._native_count(expected, kinds)
        if self.group_steps:
            return self._group_count(expected)
        self.faults.append(f"{expected.param!r}: no step count")
        return None

    def _count(self, key: str) -> int | None:
        counts = self._integers(key)
        if counts is None:
            return None
        if counts.size != 1:
            self.faults.append(f"{key!r}: has the shape {list(counts.shape)}, not [1]")
            return None
        return int(counts.ravel()[0])

    def _group_count(self, expected: Expected) -> int | None:
        if expected.step is not None:
            name, size, index = expected.step
            if name in self.group_steps and _shape(self.group_steps[name]) == (size,):
                counts = self._integers(name)
                return None if counts is None else int(counts[index])
        every = [self._integers(key) for key in self.group_steps]
        known = {int(count) for each in every if each is not None for count in each.ravel()}
        if len(known) == 1:
            return known.pop()
        names = ", ".join(map(repr, self.group_steps))
        self.faults.append(
            f"{names}: the counts differ, and do not say which parameters they are of; save the "
            "state_dict() of the optimizer instead of the program's"
        )
        return None

    def _integers(self, key: str) -> Any:
        value = self.checkpoint[key]
        if _dtype(value) != "int64":
            self.faults.append(f"{key!r}: is {_describe(value)}, not int64")
            return None
        counts = to_array(value)
        if counts.size and counts.min() < 0:
            self.faults.append(f"{key!r}: holds the negative count {int(counts.min())}")
            return None
        return counts

    def _native_count(self, expected: Expected, kinds: Mapping[str, str]) -> int | None:
        values = [self._uniform(expected, kinds, kind) for kind in NATIVE_KINDS]
        if None in values:
            return None
        if 0 in expected.shape:
            return 0  # nothing depends on it
        beta1_pow, beta2_pow, rho = map(float, values)
        try:
            return recover_step(
                beta1_pow, beta2_pow, rho, expected.beta1, expected.beta2, expected.dtype
            )
        except ValueError as error:
            self.faults.append(
                f"{expected.param!r}: there is no telling its step count, as {error}"
            )
            return None

    def _uniform(self, expected: Expected, kinds: Mapping[str, str], kind: str) -> Any:
        """The one value that all elements have, as native's powers do; None where they don't."""
        value = self._fitting(expected, kinds, kind)
        if value is None:
            return None
        elements = np.unique(to_array(value))
        if elements.size > 1:
            self.faults.append(f"{kinds[kind]!r}: its elements differ")
            return None
        return elements[0] if elements.size else np.nan

    def _check_master(self, expected: Expected, master: Any) -> None:
        at = f"master weight of {expected.param!r}"
        if not expected.master:
            if master is not None:
                self.faults.append(f"{at}: this optimizer keeps none (see multi_precision)")
        elif master is None:
            self.faults.append(f"{at}: missing")
        else:
            self._check_fit(at, master, expected.shape, "float32")

    def _fitting(self, expected: Expected, kinds: Mapping[str, str], kind: str) -> Any:
        if kind not in kinds:
            self.faults.append(f"{expected.param!r}: no {kind}")
            return None
        value = self.checkpoint[kinds[kind]]
        fits = self._check_fit(repr(kinds[kind]), value, expected.shape, expected.dtype)
        return value if fits else None

    def _check_fit(self, at: str, value: Any, shape: tuple[int, ...], dtype: str) -> bool:
        fits = _dtype(value) == dtype and _shape(value) == shape
        if not fits:
            self.faults.append(f"{at}: is {_describe(value)}, not {dtype} {list(shape)}")
        return fits


def to_array(value: Any) -> Any:
    """Return a tensor or array of a checkpoint as an array; where possible, on the same memory."""
    return value.numpy() if isinstance(value, paddle.Tensor) else np.asarray(value)


def _dtype(value: Any) -> str | None:
    if isinstance(value, core.DenseTensor):
        return str(value._dtype()).rsplit(".", 1)[-1].lower()
    if isinstance(value, (paddle.Tensor, np.ndarray)):
        return str(value.dtype).rsplit(".", 1)[-1]
    return None


def _shape(value: Any) -> tuple[int, ...]:
    return tuple(value.shape() if isinstance(value, core.DenseTensor) else value.shape)


def _describe(value: Any) -> str:
    dtype = _dtype(value)
    return f"a {type(value).__name__}" if dtype is None else f"{dtype} {list(_shape(value))}"
