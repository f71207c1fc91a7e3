"""Moments of several parameters in one variable: how they lie there, and what it is called.

A name has a hash of the parameters whose moments are in the variable. So nothing loads a variable
of one program by its name into another in which the same memory means something else, and what a
checkpoint holds is known without the program that it is of.
"""

from __future__ import annotations

import hashlib
import json
import re
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from typing import NamedTuple

from radam_codegen.ir.dtypes import DType
from radam_codegen.ir.moments import flat_moments
from radam_codegen.program.checkpoint_keys import MOMENTS

__all__ = [
    "FlatPlace",
    "FlatStorage",
    "FlatTensor",
    "flat_places",
    "flat_prefix_of",
    "lay_out_flat",
]

_DIGITS = 8
_NAME = re.compile(rf"(radam_(?:{'|'.join(MOMENTS)})_[0-9a-f]{{{_DIGITS}}})_\d+")


class FlatTensor(NamedTuple):
    """A parameter, as far as the layout depends on it."""

    name: str
    shape: tuple[int, ...]
    #: Type of its moments.
    dtype: str

    @property
    def numel(self) -> int:
        """Number of elements."""
        product = 1
        for extent in self.shape:
            product *= extent
        return product


@dataclass(frozen=True)
class FlatStorage:
    """Two variables of one dimension, one for either moment."""

    #: What their names begin with; a number follows.
    prefixes: tuple[str, str]
    dtype: str
    size: int


@dataclass(frozen=True)
class FlatPlace:
    """Where the moments of one parameter are."""

    storage: FlatStorage
    offset: int


def lay_out_flat(tensors: Sequence[FlatTensor]) -> list[FlatPlace]:
    """Return where the moments of a group's parameters are.

    They lie in the order of their names: programs of either IR differ in the order of parameters.

    Args:
        tensors: the parameters.
    """
    in_order = sorted(tensors)
    moments = flat_moments((DType(each.dtype), each.numel) for each in in_order)
    storages = []
    for number, size in enumerate(moments.sizes):
        members = [
            tensor for tensor, place in zip(in_order, moments.places) if place.storage == number
        ]
        text = json.dumps([[each.name, each.shape, each.dtype] for each in members])
        digest = hashlib.sha256(text.encode()).hexdigest()[:_DIGITS]
        moment1, moment2 = (f"radam_{kind}_{digest}" for kind in MOMENTS)
        storages.append(FlatStorage((moment1, moment2), members[0].dtype, size))
    placed = {
        tensor.name: FlatPlace(storages[place.storage], place.offset)
        for tensor, place in zip(in_order, moments.places)
    }
    return [placed[tensor.name] for tensor in tensors]


def flat_places(tensors: Iterable[tuple[int, FlatTensor]]) -> dict[str, FlatPlace]:
    """Return where the moments of parameters are in a program that updates them all at once.

    Args:
        tensors: of each parameter the number of its group, and the parameter.

    Returns:
        The places by the parameters' names.
    """
    groups: dict[int, list[FlatTensor]] = {}
    for group, tensor in tensors:
        groups.setdefault(group, []).append(tensor)
    return {
        member.name: place
        for members in groups.values()
        for member, place in zip(members, lay_out_flat(members))
    }


def flat_prefix_of(key: str) -> str | None:
    """Return what the name of such a variable begins with; None where it is another's."""
    match = _NAME.fullmatch(key)
    return None if match is None else match[1]
