"""Pruning a static program to what some fetches and some optimizers need.

:func:`prune` is the public entry; the Executor hook uses the same cache.
"""

from __future__ import annotations

import threading
import weakref
from collections import OrderedDict
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import paddle
from paddle.static import Executor

from radam_codegen.errors import ArgumentError, ArgumentTypeError, ProgramError
from radam_codegen.program.fetches import Fetches, split_fetch_list
from radam_codegen.program.operator import check_operators
from radam_codegen.program.program_key import state_of_program
from radam_codegen.program.prune_legacy import prune_legacy_program, underlying_program
from radam_codegen.program.prune_pir import feedable_names, prune_pir_program
from radam_codegen.program.schedulers import (
    copy_schedulers,
    drop_schedulers,
    program_schedulers,
)

__all__ = ["PruneCache", "PrunedProgram", "feed_names_of", "prune", "prune_cache", "version_of"]


@dataclass(frozen=True)
class PrunedProgram:
    """A pruned copy of a program, and how to run it.

    ::

        pruned = radam_codegen.prune(main, feed, [loss, (optimize_ops, params_grads)])
        loss_value, = exe.run(
            pruned.program, feed=pruned.select_feed(feed), fetch_list=list(pruned.fetch_list)
        )

    Attributes:
        program: the copy, of the same class as the original. It shares the original's variables by
            name, hence its scope, and has the learning-rate schedulers of what was kept.
        feed_names: what must be fed.
        fetch_list: for ``Executor.run``: what was asked for, in that order, without the optimize
            ops. Names in the legacy IR; in PIR, where values have no names, values of ``program``.
        declared: names that ``program`` accepts as feeds.
        dropped: names that the original accepts as feeds and ``program`` does not.
    """

    program: Any
    feed_names: tuple[str, ...]
    fetch_list: tuple[Any, ...]
    declared: frozenset[str]
    dropped: frozenset[str]

    def select_feed(self, feed: Any) -> dict[str, Any]:
        """Return a new dict with that part of a feed which the pruned program uses.

        Args:
            feed: None, a dict, or a list with one dict; it is left as it is. Names that the
                original program did not know either are passed on: Paddle warns of them.

        Raises:
            ProgramError: something that must be fed is not there.
        """
        given = _single_feed(feed)
        missing = [name for name in self.feed_names if name not in given]
        if missing:
            raise ProgramError(
                f"feed lacks {', '.join(map(repr, missing))}, which the fetched values or the "
                f"optimize ops need; nothing was run"
            )
        return {name: value for name, value in given.items() if name not in self.dropped}


def prune(program: Any = None, feed: Any = None, fetch_list: Any = None) -> PrunedProgram:
    """Prune a static program to what some fetches and some optimizers need.

    The same as what ``Executor.run`` does with the same arguments once an optimizer of this package
    has been minimized, without running anything, and in both IRs.

    Args:
        program: a static program (PIR or legacy) or a legacy ``CompiledProgram``; it is left as it
            is. None means ``paddle.static.default_main_program()``.
        feed: what will be fed, as ``Executor.run`` takes it (None, a dict, a list with one dict),
            or just the names. In the legacy IR an intermediate variable may be fed; the ops before
            it are dropped then.
        fetch_list: as ``Executor.run`` takes it. It may hold what ``minimize`` returned: only those
            optimizers' ops stay then. With no op in it, all optimizers of the program stay.

    Returns:
        The pruned program with its feeds and fetches. Equal calls return the same object as long as
        the program doesn't change.

    Raises:
        ProgramError: an op, a value or a name is not of this program; or a name is unknown.
        ArgumentTypeError: an argument, or an item of ``fetch_list``, has a wrong type.
        OperatorError: the program was loaded before the operators that it holds were known.
    """
    if program is None:
        program = paddle.static.default_main_program()
    return prune_cache.get(program, feed_names_of(feed), split_fetch_list(fetch_list))


class PruneCache:
    """Pruned programs, kept as long as the program they were made from.

    The programs are held weakly. Of each, the ``capacity`` pruned copies used last are kept, and
    all are forgotten when the program changes.

    Attributes:
        prunings: how many times a program was really pruned.
        hits: how many times a kept one was found instead.
    """

    def __init__(self, capacity: int = 16) -> None:
        self._capacity = capacity
        self._lock = threading.RLock()
        self._held: weakref.WeakKeyDictionary[Any, _PerProgram] = weakref.WeakKeyDictionary()
        self.prunings = 0
        self.hits = 0

    def get(
        self,
        program: Any,
        feed_names: Iterable[str],
        fetches: Fetches,
        *,
        prune_program: Callable[..., Any] = Executor._prune_program,
        with_schedulers: bool = True,
        whole: bool = False,
    ) -> PrunedProgram:
        """Return a pruned copy of a program, made now or earlier.

        Args:
            program: see :func:`prune`.
            feed_names: names that will be fed.
            fetches: what is asked for.
            prune_program: see :func:`~radam_codegen.program.prune_legacy.prune_legacy_program`.
            with_schedulers: False leaves the copy without learning-rate schedulers: whoever runs it
                writes the learning rates.
            whole: True keeps every op (PIR only), for a copy that differs in its schedulers alone.

        Raises:
            ProgramError, ArgumentTypeError, OperatorError: see :func:`prune`.
        """
        feeds = frozenset(feed_names)
        with self._lock:
            version = version_of(program)
            entry = self._held.get(program)
            if entry is None or entry.version != version:
                entry = self._held[program] = _PerProgram(version)
            key = (
                feeds,
                tuple(v if isinstance(v, str) else _identity(v) for v in fetches.values),
                _identities(program, fetches.optimize_ops),
                getattr(prune_program, "__func__", prune_program),
                with_schedulers,
                whole,
            )
            known = entry.pruned.get(key)
            if known is not None:
                entry.pruned.move_to_end(key)
                self.hits += 1
                return known
            check_operators(underlying_program(program))  # to clone such a program ends the process
            if isinstance(program, paddle.pir.Program):
                made = _prune_pir(program, fetches, with_schedulers, whole)
            else:
                made = _prune_legacy(program, sorted(feeds), fetches, prune_program)
            self.prunings += 1
            entry.pruned[key] = made
            while len(entry.pruned) > self._capacity:
                entry.pruned.popitem(last=False)
            return made

    def __len__(self) -> int:
        """Return how many pruned programs are kept now."""
        with self._lock:
            return sum(len(entry.pruned) for entry in self._held.values())

    def clear(self) -> None:
        """Forget every pruned program and set the counts to zero."""
        with self._lock:
            self._held.clear()
            self.prunings = self.hits = 0


class _PerProgram:
    def __init__(self, version: object) -> None:
        self.version = version
        self.pruned: OrderedDict[object, PrunedProgram] = OrderedDict()


#: The one cache of this process.
prune_cache = PruneCache()


def feed_names_of(feed: Any) -> list[str]:
    """Return the names in a feed: None, a dict, a list with one dict, or a list of names."""
    if isinstance(feed, (list, tuple)) and all(isinstance(name, str) for name in feed):
        return list(feed)
    return list(_single_feed(feed))


def _single_feed(feed: Any) -> Mapping[str, Any]:
    if feed is None:
        return {}
    if isinstance(feed, (list, tuple)):
        if len(feed) != 1:
            raise ArgumentError(f"feed must hold one dict (there is one device), got {len(feed)}")
        feed = feed[0]
    if not isinstance(feed, dict):
        raise ArgumentTypeError(f"feed must be a dict of arrays, got {type(feed).__name__}")
    return feed


def _prune_pir(program: Any, fetches: Fetches, with_schedulers: bool, whole: bool) -> PrunedProgram:
    made = prune_pir_program(program, fetches.values, fetches.optimize_ops, whole=whole)
    drop_schedulers(made.program)
    if with_schedulers:
        copy_schedulers(program, made.program)
    return PrunedProgram(
        program=made.program,
        feed_names=made.required,
        fetch_list=made.fetch_list,
        declared=made.declared,
        dropped=feedable_names(program) - made.declared,
    )


def _prune_legacy(
    program: Any, feed_names: Sequence[str], fetches: Fetches, prune_program: Callable[..., Any]
) -> PrunedProgram:
    made = prune_legacy_program(
        program, feed_names, fetches.values, fetches.optimize_ops, prune_program
    )
    original = underlying_program(program)
    copy_schedulers(original, underlying_program(made.program))
    return PrunedProgram(
        program=made.program,
        feed_names=made.required,
        fetch_list=made.fetch_list,
        declared=made.declared,
        dropped=frozenset(original.global_block().vars) - made.declared,
    )


def _identity(value: Any) -> str:
    # A variable of the legacy IR is known by its name, a value of PIR by its address: two Python
    # objects may stand for one value.
    name: str = value.id if isinstance(value, paddle.pir.Value) else value.name
    return name


def _identities(program: Any, ops: Sequence[Any]) -> tuple[object, ...]:
    # In PIR an op is a handle: held, its identity cannot pass to another. A legacy op lives as long
    # as its program, which it would keep alive.
    if isinstance(program, paddle.pir.Program):
        return tuple(ops)
    return tuple(id(op) for op in ops)


def version_of(program: Any) -> object:
    """Return something that changes when the program, or who sets its learning rate, does."""
    if isinstance(program, paddle.pir.Program):
        schedulers = program_schedulers(program) or getattr(program, "lr_scheduler", None)
        return state_of_program(program), schedulers
    inner = underlying_program(program)
    schedulers = program_schedulers(inner) or getattr(inner, "lr_scheduler", None)
    return inner.desc.cached_hash_str(), schedulers
