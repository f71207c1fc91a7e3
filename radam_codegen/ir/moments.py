"""Where in memory the moments of a group's parameters lie."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass
from typing import NamedTuple

from radam_codegen.ir.dtypes import DType

__all__ = ["MomentPlace", "Moments", "flat_moments"]

#: Bytes on which a parameter's moments begin: a line of the cache, which then no two parameters
#: share, and more than any vector register wants.
_ALIGNMENT = 64


class MomentPlace(NamedTuple):
    """Where both moments of one parameter begin."""

    #: Which of the storages they are in, counted from 0.
    storage: int
    #: Number of elements before them.
    offset: int


@dataclass(frozen=True)
class Moments:
    """Which part of which storage belongs to each parameter of a group.

    A storage is a pair of tensors, one for either moment, in which these lie alike.
    """

    #: Elements of either tensor, by storage.
    sizes: tuple[int, ...]
    #: Where each parameter's moments are, in the group's order.
    places: tuple[MomentPlace, ...]


def flat_moments(tensors: Iterable[tuple[DType, int]]) -> Moments:
    """Lay out moments in one storage per type, the parameters one after the other.

    Args:
        tensors: of each parameter the type of its moments, and its number of elements.

    Returns:
        The layout. Its storages have the moments' types, in the order in which these come first.
    """
    number: dict[DType, int] = {}
    ends: list[int] = []
    places = []
    for dtype, numel in tensors:
        at = number.setdefault(dtype, len(ends))
        if at == len(ends):
            ends.append(0)
        begin = _aligned(ends[at], dtype)
        places.append(MomentPlace(at, begin))
        ends[at] = begin + numel
    return Moments(tuple(ends), tuple(places))


def _aligned(offset: int, dtype: DType) -> int:
    step = _ALIGNMENT // dtype.size
    return -(-offset // step) * step
