"""What a program reads as data, and arrays to run it with."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np
from paddle.base import framework
from paddle.base.data_feeder import convert_dtype

from radam_codegen.errors import ArgumentError, ArgumentTypeError, ProgramError

__all__ = ["Feed", "check_feed", "complete_feed"]

Array = np.ndarray[Any, np.dtype[Any]]

#: Kinds of NumPy that an array of numbers has; bfloat16 is uint16 here, as in Paddle.
_NUMBERS = "biufc"


@dataclass(frozen=True)
class Feed:
    """An array for all that a program reads as data.

    Attributes:
        arrays: By the names of the data.
        made_up: Which of these nobody has given.
    """

    arrays: dict[str, Array]
    made_up: tuple[str, ...]


@dataclass(frozen=True)
class _Data:
    """What ``paddle.static.data`` has declared; an extent that it leaves open is -1."""

    name: str
    shape: tuple[int, ...]
    dtype: str


def check_feed(program: Any, feed: Mapping[str, Any] | None) -> dict[str, Array]:
    """Return what is given for a program as arrays.

    Raises:
        ArgumentError: the program reads no data of that name.
        ArgumentTypeError: it is no mapping, or holds something else than numbers.
    """
    if feed is None:
        return {}
    if not isinstance(feed, Mapping):
        raise ArgumentTypeError(
            f"feed is a mapping of names to arrays or None, but this is a {type(feed).__name__}"
        )
    known = [data.name for data in _data_of(program)]
    for name in feed:
        if name not in known:
            reads = ", ".join(map(repr, known)) or "none"
            raise ArgumentError(
                f"feed names {name!r}, but that is no data of the program, which reads {reads}"
            )
    return {name: _array(name, value) for name, value in feed.items()}


def _array(name: str, value: Any) -> Array:
    try:
        array = np.asarray(value)
    except Exception as error:  # whatever the object does when it is asked for its values
        raise ArgumentTypeError(f"feed[{name!r}] cannot be read as an array: {error}") from error
    if array.dtype.kind not in _NUMBERS:
        raise ArgumentTypeError(
            f"feed[{name!r}] is not an array of numbers, but a {type(value).__name__} (dtype "
            f"{array.dtype})"
        )
    return array


def complete_feed(program: Any, given: Mapping[str, Array]) -> Feed:
    """Add what is missing to a feed: zeros for integers and booleans, else normal values.

    Equal programs get equal values. An extent that is open becomes 1.

    Args:
        program: of either IR.
        given: arrays for some of its data.

    Raises:
        ProgramError: data of a type that NumPy does not have are missing.
    """
    data = _data_of(program)
    missing = {each.name: (seed, each) for seed, each in enumerate(data) if each.name not in given}
    made = {name: _made_up(each, seed) for name, (seed, each) in missing.items()}
    return Feed({**given, **made}, tuple(made))


def _made_up(data: _Data, seed: int) -> Array:
    shape = [1 if extent < 0 else extent for extent in data.shape]
    try:
        dtype = np.dtype(data.dtype if data.dtype != "bfloat16" else "uint16")
    except TypeError as error:
        raise ProgramError(
            f"no values of type {data.dtype} can be made up for {data.name!r}; give them in feed"
        ) from error
    bfloat16 = dtype == np.uint16  # Paddle has no other data of that type
    if dtype.kind in "biu" and not bfloat16:
        return np.zeros(shape, dtype)
    values = np.random.default_rng(seed).standard_normal(shape)
    if bfloat16:
        # The upper half of a float32.
        return (values.astype(np.float32).view(np.uint32) >> 16).astype(np.uint16)
    return values.astype(dtype)


def _data_of(program: Any) -> list[_Data]:
    if isinstance(program, framework.Program):
        return [
            _Data(each.name, tuple(each.shape), str(convert_dtype(each.dtype)))
            for each in program.global_block().vars.values()
            # The first is lost when a program is saved.
            if each.is_data or each.desc.need_check_feed()
        ]
    return [
        _Data(op.attrs()["name"], tuple(value.shape), str(convert_dtype(value.dtype)))
        for op in program.global_block().ops
        if op.name() == "pd_op.data"
        for value in [op.result(0)]
        if not value.persistable
    ]
