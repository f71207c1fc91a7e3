"""Parameter groups as users give them: names or tensors, with options and defaults."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

from radam_codegen.errors import ArgumentError
from radam_codegen.frontend.arguments import GROUP_OPTIONS, as_list, as_number
from radam_codegen.frontend.names import name_of

__all__ = ["GroupOptions", "Groups"]


@dataclass(frozen=True)
class GroupOptions:
    """Hyperparameters of one group; Paddle's own objects for clip and decay."""

    beta1: float
    beta2: float
    epsilon: float
    grad_clip: Any
    #: A coefficient (L2), a regularizer, or None.
    weight_decay: Any
    #: Whether ``weight_decay`` is taken from the parameter instead of added to the gradient.
    decoupled: bool = False
    #: Multiplies the optimizer's learning rate.
    lr_scale: float = 1.0
    #: Options that the group sets itself; these come before a parameter's ``ParamAttr``.
    explicit: frozenset[str] = frozenset()


class Groups:
    """Which options each parameter has.

    Args:
        parameters: what the optimizer was given, checked: None, parameters, or groups.
        defaults: the optimizer's own options, which a group inherits.
    """

    def __init__(self, parameters: Sequence[Any] | None, defaults: GroupOptions) -> None:
        if parameters and isinstance(parameters[0], dict):
            self.options = tuple(_inherit(group, defaults) for group in parameters)
            members = [as_list(group["params"]) for group in parameters]
        else:
            self.options = (defaults,)
            members = [list(parameters)] if parameters is not None else []
        #: All parameters in order, as they were given; None where all of a program are meant.
        self.members = [each for group in members for each in group] if members else None
        #: Number of parameters in each group.
        self.sizes = tuple(map(len, members))
        self._places = self._find_places()

    def __getstate__(self) -> dict[str, Any]:
        return {name: value for name, value in vars(self).items() if name != "_places"}

    def __setstate__(self, state: dict[str, Any]) -> None:
        # Paddle gives copies of parameters new names.
        vars(self).update(state)
        self._places = self._find_places()

    def _find_places(self) -> dict[str, tuple[int, int]]:
        members = iter(self.members or ())
        return {
            name_of(next(members)): (group, index)
            for group, size in enumerate(self.sizes)
            for index in range(size)
        }

    def group_of(self, name: str) -> int:
        """Index of the group that a parameter belongs to; the first takes those in none."""
        return self._places.get(name, (0, 0))[0]

    def place_of(self, name: str) -> tuple[int, int]:
        """Index of a parameter's group, and its own index in there.

        Raises:
            ArgumentError: the optimizer was not given the parameter.
        """
        if name not in self._places:
            raise ArgumentError(
                f"parameter {name!r} is none of those that the optimizer was given; add it to the "
                "optimizer's parameters"
            )
        return self._places[name]


def _inherit(group: dict[str, Any], defaults: GroupOptions) -> GroupOptions:
    return GroupOptions(
        beta1=as_number("beta1", group.get("beta1", defaults.beta1)),
        beta2=as_number("beta2", group.get("beta2", defaults.beta2)),
        epsilon=as_number("epsilon", group.get("epsilon", defaults.epsilon)),
        grad_clip=group.get("grad_clip", defaults.grad_clip),
        weight_decay=group.get("weight_decay", defaults.weight_decay),
        decoupled=defaults.decoupled,
        lr_scale=as_number("learning_rate", group.get("learning_rate", 1.0)),
        explicit=frozenset(option for option in GROUP_OPTIONS if option in group),
    )
