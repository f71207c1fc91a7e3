"""Names of state in checkpoints: which parameter an entry belongs to, and what it is of it.

An entry is named ``<parameter>_<kind>_<number>``, or ``<parameter>_<optimizer>_<kind>_<number>``
when the optimizer was given a name. The number counts what was named so in a process, and says
nothing here.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Collection, Iterable, Iterator, Mapping
from dataclasses import dataclass, field

__all__ = [
    "MASTER",
    "MOMENTS",
    "NATIVE_KINDS",
    "Entries",
    "entry_key",
    "find_entries",
    "is_group_step",
]

#: Names of the accumulators, as in the native optimizer.
MOMENTS = ("moment1", "moment2")
#: What the native optimizer keeps in place of a step count.
NATIVE_KINDS = ("beta1_pow", "beta2_pow", "rho")
#: Kind of a master weight, where it stands among the variables of a program.
MASTER = "fp32_master"

_KINDS = (*MOMENTS, "step", *NATIVE_KINDS)
_ENTRY = re.compile(rf"(?:(?P<name>.+)_)?(?P<kind>{'|'.join(_KINDS)})_\d+", re.DOTALL)
_MASTER = re.compile(rf"{MASTER}_\d+")  # the optimizer's name does not stand in it
_STATE_LIKE = re.compile(r"[A-Za-z]\w*_\d+")
_GROUP_STEP = re.compile(r"radam_step_\d+")


@dataclass
class Entries:
    """What a checkpoint holds, by parameter and kind.

    Attributes:
        found: the key of each; a parameter is in here only if something of it was found.
        twice: parameters, kinds and keys where there are several.
        unknown: keys that belong to a parameter of ours and are of no known kind.
    """

    found: dict[str, dict[str, str]] = field(default_factory=dict)
    twice: list[tuple[str, str, tuple[str, ...]]] = field(default_factory=list)
    unknown: list[str] = field(default_factory=list)


def entry_key(param: str, name: str | None, kind: str) -> str:
    """Return what an entry is named in a process where it is the first of its name.

    Args:
        param: name of the parameter.
        name: name of the optimizer, if it has one.
        kind: what it is of the parameter's state.
    """
    return f"{param}_{kind}_0" if name is None else f"{param}_{name}_{kind}_0"


def is_group_step(key: str) -> bool:
    """Whether an entry holds the step counts of a whole group, as a program's variables do."""
    return _GROUP_STEP.fullmatch(key) is not None


def find_entries(
    keys: Iterable[str],
    params: Collection[str],
    name: str | None,
    own: Mapping[tuple[str, str], str],
    is_foreign: Callable[[str], bool],
) -> Entries:
    """Find the entries of parameters.

    Args:
        keys: names in the checkpoint.
        params: names of the parameters.
        name: name of the optimizer that loads. Entries made under it come first, then those made
            without a name, then those under another, if all were made under one.
        own: names of the optimizer's own variables, by parameter and kind: of several candidates
            the one that is named so counts.
        is_foreign: whether a name is known to be something else's.
    """
    matches: dict[str, dict[tuple[str, str], list[str]]] = {}
    masters: dict[tuple[str, str], list[str]] = {}
    unmatched = []
    for key in keys:
        param = _match_master(key, params)
        if param is not None:
            masters.setdefault((param, MASTER), []).append(key)
            continue
        match = _match(key, params, name)
        if match is None:
            unmatched.append(key)
        else:
            param, optimizer, kind = match
            matches.setdefault(optimizer, {}).setdefault((param, kind), []).append(key)
    entries = Entries()
    chosen = {**matches.get(_chosen(matches, unmatched, name), {}), **masters}
    for (param, kind), candidates in chosen.items():
        key = own.get((param, kind), "")
        if len(candidates) > 1 and key not in candidates:
            entries.twice.append((param, kind, tuple(candidates)))
        entries.found.setdefault(param, {})[kind] = key if key in candidates else candidates[0]
    entries.unknown = [
        key
        for key in unmatched
        if key not in params and _is_state_like(key, params) and not is_foreign(key)
    ]
    return entries


def _match(key: str, params: Collection[str], name: str | None) -> tuple[str, str, str] | None:
    """The parameter, the optimizer's name ("" for none) and the kind of an entry."""
    other = None
    for param, rest in _splits(key, params):
        match = _ENTRY.fullmatch(rest)
        if match is not None:
            optimizer = match["name"] or ""
            if optimizer in ("", name):
                return param, optimizer, match["kind"]
            other = other or (param, optimizer, match["kind"])
    return other


def _match_master(key: str, params: Collection[str]) -> str | None:
    """The parameter that a master weight is of."""
    return next((p for p, rest in _splits(key, params) if _MASTER.fullmatch(rest)), None)


def _splits(key: str, params: Collection[str]) -> Iterator[tuple[str, str]]:
    """Parameters that a key begins with, the longest first, and what follows of it."""
    place = key.rfind("_")
    while place > 0:
        if key[:place] in params:
            yield key[:place], key[place + 1 :]
        place = key.rfind("_", 0, place)


def _chosen(matches: Collection[str], unmatched: Collection[str], name: str | None) -> str:
    """The optimizer's name to go by."""
    for wanted in (name, ""):
        if wanted is not None and wanted in matches:
            return wanted
    # It could be part of another parameter's name, such as the 1 of "w_1": then it is not in all.
    (other, *more) = matches or ("",)
    if more or not other or other[0].isdigit():
        return ""
    entries = [match[0] for match in map(_ENTRY.search, unmatched) if match is not None]
    named = re.compile(rf"(.+_)?{re.escape(other)}_({'|'.join(_KINDS)})_\d+", re.DOTALL)
    return other if all(map(named.fullmatch, entries)) else ""


def _is_state_like(key: str, params: Collection[str]) -> bool:
    for _, rest in _splits(key, params):
        return _STATE_LIKE.fullmatch(rest) is not None
    return False
