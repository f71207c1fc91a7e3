"""Where the step counts of parameters stand in dynamic graph: in which tensor, and where in it."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from typing import Any

__all__ = ["StepPlaces"]


class StepPlaces:
    """A tensor of step counts per group that the optimizer was given, and one per later parameter.

    Args:
        groups: the parameters of each group.
    """

    def __init__(self, groups: Iterable[Sequence[Any]]) -> None:
        #: Parameters by tensor, in the order of their counts.
        self._tensors = [list(group) for group in groups]
        self._places = self._find_places()

    def __getstate__(self) -> dict[str, Any]:
        return {"_tensors": self._tensors}

    def __setstate__(self, state: dict[str, Any]) -> None:
        # Paddle gives copies of parameters new names.
        self._tensors = state["_tensors"]
        self._places = self._find_places()

    def _find_places(self) -> dict[str, tuple[int, int]]:
        return {
            param.name: (tensor, index)
            for tensor, params in enumerate(self._tensors)
            for index, param in enumerate(params)
            if not isinstance(param, str)
        }

    @property
    def members(self) -> list[Any]:
        """All parameters that have a place."""
        return [param for params in self._tensors for param in params]

    def __contains__(self, name: str) -> bool:
        return name in self._places

    def add(self, param: Any) -> None:
        """Give a parameter a place that has none."""
        self._places[param.name] = (len(self._tensors), 0)
        self._tensors.append([param])

    def of(self, name: str) -> tuple[int, int]:
        """Return the number of the tensor that holds a parameter's count, and the place in it."""
        return self._places[name]

    def size(self, tensor: int) -> int:
        """Return how many counts a tensor holds."""
        return len(self._tensors[tensor])
