"""An optimizer's groups as its attributes say them now.

Paddle's own optimizers read their hyperparameters, clip, decay and parameters from attributes at
every step, and Fleet, sharding and users replace these after construction. They are read here in
the same way: at every step in dynamic graph, and whenever an update is appended to a program.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, fields, replace
from itertools import chain
from operator import attrgetter, is_
from typing import Any

from radam_codegen.frontend.arguments import (
    GROUP_OPTIONS,
    as_list,
    as_number,
    check_any_clip,
    check_beta,
    check_decay,
    check_decoupled,
    check_epsilon,
    check_group,
)
from radam_codegen.frontend.groups import GroupOptions, Groups, GroupSettings, ParameterAttributes
from radam_codegen.frontend.names import name_of

__all__ = ["CurrentGroups"]

#: What Paddle's own optimizers read at every step, and what groups inherit.
_OWN = attrgetter("_beta1", "_beta2", "_epsilon", "_grad_clip", "regularization", "_default_dict")
_CHECKS = {"beta1": check_beta, "beta2": check_beta, "epsilon": check_epsilon}


@dataclass(frozen=True, eq=False)
class _GivenGroup:
    """A group that the optimizer was constructed with."""

    #: The very dict that stands in ``_param_groups``.
    group: dict[str, Any]
    #: What was written there beside the user's own options, as Paddle does.
    inherited: Mapping[str, Any]


class CurrentGroups:
    """Reads the groups of one optimizer.

    Args:
        listed: what the optimizer was given, checked: None, parameters, or groups.
        defaults: the options that it was constructed with.
    """

    def __init__(self, listed: Sequence[Any] | None, defaults: GroupOptions) -> None:
        self._defaults = defaults
        self._grouped = bool(listed) and isinstance(listed[0], dict)  # type: ignore[index]
        self._listed = listed
        self._given: tuple[_GivenGroup, ...] = ()
        #: What parameters of groups had when the options of their group were set, by name.
        self._attributes: dict[str, ParameterAttributes] = {}
        #: What groups last set themselves of what parameters can have too.
        self._said: list[tuple[dict[str, Any], tuple[Any, Any]]] = []
        #: The regularizer that Paddle's constructor made of the decay.
        self._first_decay: Any = None
        self._raw: list[Any] = []
        self._settings = GroupSettings((defaults,))

    @property
    def grouped(self) -> bool:
        """Whether the optimizer was given groups."""
        return self._grouped

    def members(self) -> list[Any] | None:
        """Return all parameters that the optimizer was given; None for all of a program."""
        if self._listed is None:
            return None
        if not self._grouped:
            return list(self._listed)
        return [each for group in self._listed for each in as_list(group["params"])]

    def given_options(self) -> tuple[GroupOptions, ...]:
        """Return the options of each group as the arguments of the optimizer say them."""
        if not self._grouped:
            return (self._defaults,)
        return tuple(
            _inherit(group, self._defaults, frozenset(group)) for group in self._listed or ()
        )

    def attach(self, optimizer: Any) -> None:
        """Give an optimizer the attributes that :meth:`read` reads.

        Args:
            optimizer: constructed by Paddle's base class, with ``_parameter_list`` in place.
        """
        defaults = self._defaults
        for name in _CHECKS:
            setattr(optimizer, f"_{name}", getattr(defaults, name))
        self._first_decay = optimizer.regularization
        inherited = {"weight_decay": optimizer.regularization, "grad_clip": optimizer._grad_clip}
        hyperparameters = {name: getattr(defaults, name) for name in _CHECKS}
        optimizer._default_dict = {**inherited, **hyperparameters}
        optimizer._param_groups = optimizer._parameter_list
        if self._grouped:
            given = []
            for group in self._listed or ():
                lacks = {name: value for name, value in inherited.items() if name not in group}
                entry = {**group, "params": list(as_list(group["params"])), **lacks}
                given.append(_GivenGroup(entry, lacks))
            self._given = tuple(given)
            optimizer._param_groups = [each.group for each in given]
            self._note(optimizer._param_groups)
        self._listed = None

    def read(self, optimizer: Any) -> Groups:
        """Return the groups as the optimizer's attributes say them now.

        Raises:
            ArgumentError: a value there is out of range, or a group lacks ``params``.
            ArgumentTypeError: a value there has the wrong type.
        """
        listed = optimizer._param_groups
        in_groups = bool(listed) and isinstance(listed[0], Mapping)
        groups = listed if in_groups else [each.group for each in self._given]
        raw = [*_OWN(optimizer), *optimizer._default_dict.values()]
        raw.extend(chain.from_iterable(map(dict.values, groups)))
        # By identity: a comparison of tensors would compute.
        if len(raw) != len(self._raw) or not all(map(is_, raw, self._raw)):
            self._renew(optimizer, groups)
            self._raw = raw
        sections: tuple[Sequence[Any], ...] | None
        if in_groups:
            sections = tuple(group["params"] for group in groups)
        else:
            sections = None if listed is None else (listed,)
        homes = self._homes() if self._given and not in_groups else None
        return Groups(self._settings, sections, homes, self._attributes)

    def _renew(self, optimizer: Any, groups: Sequence[dict[str, Any]]) -> None:
        defaults = self._defaults_now(optimizer)
        options: tuple[GroupOptions, ...] = (defaults,)
        if groups:
            defaults = self._defaults_of_groups(optimizer, defaults)
            options = tuple(
                self._group_now(index, group, defaults) for index, group in enumerate(groups)
            )
            self._note(groups)
        known = self._settings.options
        if len(options) != len(known) or not all(map(_equal, options, known)):
            self._settings = GroupSettings(options)

    def _defaults_now(self, optimizer: Any) -> GroupOptions:
        return replace(
            self._defaults,
            beta1=check_beta("_beta1", optimizer._beta1),
            beta2=check_beta("_beta2", optimizer._beta2),
            epsilon=check_epsilon("_epsilon", optimizer._epsilon),
            grad_clip=check_any_clip("_grad_clip", optimizer._grad_clip),
            weight_decay=self._decay_now(optimizer.regularization),
        )

    def _decay_now(self, decay: Any) -> Any:
        if decay is not self._first_decay:  # which may be the regularizer of a decoupled number
            check_decoupled(self._defaults.decoupled, decay, None)
        return check_decay("regularization", decay)

    def _defaults_of_groups(self, optimizer: Any, defaults: GroupOptions) -> GroupOptions:
        """What groups inherit: Paddle keeps their hyperparameters in a place of their own."""
        changes: dict[str, Any] = {
            name: _CHECKS[name](f"_default_dict[{name!r}]", optimizer._default_dict[name])
            for name in _CHECKS
            if name in optimizer._default_dict
            and getattr(defaults, name) == getattr(self._defaults, name)
        }
        return replace(defaults, **changes)

    def _group_now(self, index: int, group: dict[str, Any], defaults: GroupOptions) -> GroupOptions:
        check_group(index, group, any_clip=True)
        inherited = next((each.inherited for each in self._given if each.group is group), {})
        explicit = frozenset(
            option
            for option in group
            if not (option in inherited and _same(group[option], inherited[option]))
        )
        if "weight_decay" in explicit:
            check_decoupled(defaults.decoupled, group["weight_decay"], None)
        return _inherit(group, defaults, explicit)

    def _homes(self) -> dict[str, int]:
        return {
            name_of(each): index
            for index, given in enumerate(self._given)
            for each in given.group["params"]
        }

    def _note(self, groups: Sequence[dict[str, Any]]) -> None:
        """Remember what parameters have where their group says something new.

        What was said last counts: a group's option, until the parameter's attribute is changed.
        """
        known = self._said
        self._said = [
            (group, (group.get("learning_rate"), group.get("weight_decay"))) for group in groups
        ]
        for group, says in self._said:
            before = next((each for other, each in known if other is group), None)
            if before is not None and all(map(_same, says, before)):
                continue
            for param in as_list(group["params"]):
                if not isinstance(param, str):
                    self._attributes[name_of(param)] = ParameterAttributes.of(param)

    def __getstate__(self) -> dict[str, Any]:
        # Paddle gives copies of parameters new names.
        members = [each for given in self._given for each in given.group["params"]]
        by_place = [self._attributes.get(name_of(each)) for each in members]
        return {**vars(self), "_attributes": by_place, "_raw": []}

    def __setstate__(self, state: dict[str, Any]) -> None:
        members = [each for given in state["_given"] for each in given.group["params"]]
        by_name = {
            name_of(each): attributes
            for each, attributes in zip(members, state["_attributes"])
            if attributes is not None
        }
        vars(self).update(state, _attributes=by_name)


def _inherit(
    group: Mapping[str, Any], defaults: GroupOptions, explicit: frozenset[str]
) -> GroupOptions:
    own = {option: group[option] for option in GROUP_OPTIONS if option in explicit}
    return GroupOptions(
        beta1=as_number("beta1", own.get("beta1", defaults.beta1)),
        beta2=as_number("beta2", own.get("beta2", defaults.beta2)),
        epsilon=as_number("epsilon", own.get("epsilon", defaults.epsilon)),
        grad_clip=own.get("grad_clip", defaults.grad_clip),
        weight_decay=own.get("weight_decay", defaults.weight_decay),
        decoupled=defaults.decoupled,
        lr_scale=as_number("learning_rate", own.get("learning_rate", 1.0)),
        explicit=frozenset(own),
    )


def _same(one: Any, other: Any) -> bool:
    """Whether two values are one object, or numbers that are equal: a pickle copies numbers."""
    numbers = isinstance(one, (int, float)) and isinstance(other, (int, float))
    return one is other or (numbers and one == other)


def _equal(one: GroupOptions, other: GroupOptions) -> bool:
    return all(
        _same(getattr(one, each.name), getattr(other, each.name))
        or (each.name == "explicit" and one.explicit == other.explicit)
        for each in fields(GroupOptions)
    )
