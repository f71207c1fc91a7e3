"""Parameter groups at one time: which options each parameter has."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from functools import cached_property
from typing import Any

from radam_codegen.frontend.names import name_of

__all__ = ["GroupOptions", "GroupSettings", "Groups", "ParameterAttributes"]


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


class GroupSettings:
    """The options of all groups. Immutable, and another object whenever the options are others.

    Args:
        options: one entry per group. The first is also for parameters that are in no group.
    """

    def __init__(self, options: tuple[GroupOptions, ...]) -> None:
        self.options = options
        #: Every clip, once.
        self.clips = _each_once(each.grad_clip for each in options)
        #: Every decay that may change without being another object, once.
        self.decays = _each_once(
            each.weight_decay for each in options if not isinstance(each.weight_decay, (int, float))
        )
        self._others: dict[tuple[int, ...], GroupSettings] = {}

    def __reduce__(self) -> tuple[type[GroupSettings], tuple[tuple[GroupOptions, ...]]]:
        return GroupSettings, (self.options,)  # the identities of a copy are others

    def without_clips(self, clips: Sequence[Any]) -> GroupSettings:
        """Return the same without some clips; the same object for the same clips."""
        key = tuple(map(id, clips))
        if key not in self._others:
            self._others[key] = GroupSettings(
                tuple(
                    replace(each, grad_clip=None) if id(each.grad_clip) in key else each
                    for each in self.options
                )
            )
        return self._others[key]


def _each_once(values: Iterable[Any]) -> tuple[Any, ...]:
    return tuple({id(each): each for each in values if each is not None}.values())


@dataclass(frozen=True)
class ParameterAttributes:
    """Those of a parameter's attributes that an option of its group can stand before."""

    learning_rate: Any
    #: Class and coefficient of the regularizer, or None.
    regularizer: Any

    @staticmethod
    def of(param: Any) -> ParameterAttributes:
        """Return what a parameter has now. A name has nothing."""
        attributes = getattr(param, "optimize_attr", None) or {}
        regularizer = getattr(param, "regularizer", None)
        if regularizer is not None:
            regularizer = type(regularizer), getattr(regularizer, "_coeff", None)
        return ParameterAttributes(attributes.get("learning_rate"), regularizer)


@dataclass(frozen=True, eq=False)
class Groups:
    """The groups of an optimizer at one time.

    Attributes:
        settings: the options of all groups.
        sections: the parameters of each group, tensors or names; None where all of a program are
            meant.
        homes: for parameters that are listed without their groups, the group of each, by name.
        attributes: what parameters had when the options of their group were set, by name.
    """

    settings: GroupSettings
    sections: tuple[Sequence[Any], ...] | None = None
    homes: Mapping[str, int] | None = None
    attributes: Mapping[str, ParameterAttributes] = field(default_factory=dict)

    @property
    def options(self) -> tuple[GroupOptions, ...]:
        """One entry per group."""
        return self.settings.options

    @property
    def members(self) -> Sequence[Any] | None:
        """All parameters in order; None where all of a program are meant."""
        if self.sections is None or len(self.sections) == 1:
            return self.sections and self.sections[0]
        return [each for section in self.sections for each in section]

    @property
    def sizes(self) -> tuple[int, ...]:
        """Number of parameters in each section."""
        return tuple(map(len, self.sections or ()))

    @cached_property
    def _group_by_name(self) -> Mapping[str, int]:
        if self.homes is not None:
            return self.homes
        return {
            name_of(each): group
            for group, section in enumerate(self.sections or ())
            for each in section
        }

    def group_of(self, name: str) -> int:
        """Index of the group that a parameter belongs to; the first takes those in none."""
        return self._group_by_name.get(name, 0)

    def has_own(self, param: Any, attribute: str) -> bool:
        """Whether an attribute of a parameter was changed after its group's options were set.

        Then it comes before the group's option, as in Paddle, where a group's options are written
        into such attributes. Copies of programs lose the attributes: None is no change.

        Args:
            param: a parameter.
            attribute: ``learning_rate`` or ``regularizer``.
        """
        then = self.attributes.get(name_of(param))
        now = getattr(ParameterAttributes.of(param), attribute)
        return then is not None and now is not None and now != getattr(then, attribute)
