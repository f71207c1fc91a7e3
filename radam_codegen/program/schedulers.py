"""Several learning-rate schedulers in one program.

A Paddle program has room for one: ``program.lr_scheduler``, whose value the Executor writes into
one variable before each run. With two optimizers in a program the later one takes the place and the
learning rate of the other stays at its first value. Here every optimizer keeps its own:
:class:`SchedulerSet` stands in that one place and knows them all, and the Executor hook writes each
variable (:func:`write_learning_rates`).

A native optimizer that is minimized after ours overwrites the place; the set is kept beside it on
the program too, so :func:`program_schedulers` brings both together again at the next run. One case
stays Paddle's: what two native optimizers do to each other before ours comes, or between two runs,
cannot be seen from here.
"""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass
from typing import Any

import numpy as np
import paddle
from paddle.base import core
from paddle.base.data_feeder import convert_dtype
from paddle.optimizer.lr import LRScheduler

__all__ = [
    "SCHEDULER_ATTRIBUTES",
    "BoundScheduler",
    "SchedulerSet",
    "all_schedulers",
    "attach_scheduler",
    "copy_schedulers",
    "drop_schedulers",
    "program_schedulers",
    "write_learning_rates",
]

_REGISTERED = "_radam_codegen_schedulers"

#: Attributes of a program that have to do with its schedulers: Paddle's three, and ours.
SCHEDULER_ATTRIBUTES = ("lr_scheduler", "lr_var", "lr_name", _REGISTERED)


@dataclass(frozen=True)
class BoundScheduler:
    """A scheduler and the variable that it drives.

    Attributes:
        scheduler: gives the learning rate when called.
        lr_name: name of the persistable variable, in the scope of a run.
        dtype: NumPy name of the variable's type, such as ``float32``.
    """

    scheduler: LRScheduler
    lr_name: str
    dtype: str


class SchedulerSet(LRScheduler):  # type: ignore[misc]
    """All schedulers of one program, in the place of its only one. Immutable.

    Towards Paddle it is the scheduler of ``primary``: the Executor, which knows nothing of sets,
    goes on serving that one. ``step`` steps every scheduler once.

    Args:
        bound: one entry per learning-rate variable; the same scheduler may drive several.
        primary: name of the variable that the Executor itself writes.
    """

    # The base class's constructor would take a step: it is not called, and what it would have set
    # is given by the properties below.
    def __init__(self, bound: Iterable[BoundScheduler], primary: str) -> None:
        self._bound = {entry.lr_name: entry for entry in bound}
        self._primary = self._bound[primary]

    @property
    def bound(self) -> tuple[BoundScheduler, ...]:
        """Every scheduler with its variable, in the order of attachment."""
        return tuple(self._bound.values())

    @property
    def primary(self) -> BoundScheduler:
        """The one that the Executor serves by itself."""
        return self._primary

    @property
    def _var_name(self) -> str:
        return self._primary.lr_name

    @property
    def base_lr(self) -> float:
        """First learning rate of the primary scheduler."""
        return float(self._primary.scheduler.base_lr)

    @property
    def last_lr(self) -> float:
        """Present learning rate of the primary scheduler."""
        return float(self._primary.scheduler.last_lr)

    @property
    def last_epoch(self) -> int:
        """Steps that the primary scheduler has taken."""
        return int(self._primary.scheduler.last_epoch)

    @property
    def verbose(self) -> bool:
        """Whether the primary scheduler prints its steps."""
        return bool(self._primary.scheduler.verbose)

    def __call__(self) -> float:
        """Return the present learning rate of the primary scheduler."""
        return float(self._primary.scheduler())

    def get_lr(self) -> float:
        """Return what the primary scheduler computes for its present step."""
        return float(self._primary.scheduler.get_lr())

    def step(self, epoch: int | None = None) -> None:
        """Step every scheduler once, also where one drives several variables."""
        for scheduler in {id(entry.scheduler): entry.scheduler for entry in self.bound}.values():
            scheduler.step(epoch)

    def state_dict(self) -> dict[str, Any]:
        """Return the states of all schedulers, by the name of their variable."""
        return {entry.lr_name: entry.scheduler.state_dict() for entry in self.bound}

    def set_state_dict(self, state_dict: dict[str, Any]) -> None:
        """Load what :meth:`state_dict` gave; variables that it doesn't name stay as they are."""
        for entry in self.bound:
            if entry.lr_name in state_dict:
                entry.scheduler.set_state_dict(state_dict[entry.lr_name])

    def __repr__(self) -> str:
        held = ", ".join(f"{e.lr_name}: {type(e.scheduler).__name__}" for e in self.bound)
        return f"SchedulerSet({held}; primary={self._primary.lr_name})"


def attach_scheduler(program: Any, scheduler: LRScheduler, lr_var: Any, lr_name: str) -> None:
    """Make a scheduler drive a learning-rate variable of a program, beside those already there.

    Args:
        program: the main program, legacy or PIR.
        scheduler: the learning rate's source.
        lr_var: the variable (legacy) or value (PIR) of the learning rate in ``program``; in PIR
            that of a ``builtin.parameter``, where the Executor looks for it.
        lr_name: its name. A scheduler that was attached to the same name is replaced.
    """
    entry = BoundScheduler(scheduler, lr_name, str(convert_dtype(lr_var.dtype)))
    present = all_schedulers(program)
    if present is None:
        merged = SchedulerSet((entry,), primary=lr_name)
        program.lr_var = lr_var
        if isinstance(program, paddle.pir.Program):
            program.lr_name = lr_name
    else:
        merged = SchedulerSet((*present.bound, entry), primary=present.primary.lr_name)
    _put(program, merged)


def program_schedulers(program: Any) -> SchedulerSet | None:
    """Return all schedulers of a program, or None where it has at most a native one.

    A native scheduler that took the program's one place after ours is taken into the set, which is
    put back in that place.
    """
    placed = getattr(program, "lr_scheduler", None)
    registered: SchedulerSet | None = getattr(program, _REGISTERED, None)
    if isinstance(placed, SchedulerSet):
        return placed
    if registered is None:
        return None
    native = _native(program)
    if native is None:
        return registered
    merged = SchedulerSet((*registered.bound, native.primary), primary=native.primary.lr_name)
    _put(program, merged)
    return merged


def all_schedulers(program: Any) -> SchedulerSet | None:
    """Return all schedulers of a program, a single native one too; None where it has none."""
    return program_schedulers(program) or _native(program)


def copy_schedulers(source: Any, target: Any) -> None:
    """Give a pruned copy of a program those schedulers whose variables it still has.

    Args:
        source: the program that was pruned.
        target: the pruned copy, of the same IR, without schedulers. It stays without where it has
            none of the variables: the Executor would look the variable up without asking.
    """
    held = all_schedulers(source)
    if held is None:
        return
    found = {entry.lr_name: _find_variable(target, entry.lr_name) for entry in held.bound}
    kept = [entry for entry in held.bound if found[entry.lr_name] is not None]
    if not kept:
        return
    primary = held.primary if held.primary in kept else kept[0]
    target.lr_scheduler = SchedulerSet(kept, primary=primary.lr_name)
    target.lr_var = found[primary.lr_name]
    if isinstance(target, paddle.pir.Program):
        target.lr_name = primary.lr_name


def drop_schedulers(program: Any) -> None:
    """Take every scheduler, and what belongs to it, from a program."""
    for name in SCHEDULER_ATTRIBUTES:
        if name in vars(program):
            delattr(program, name)


def write_learning_rates(schedulers: SchedulerSet, scope: Any, place: Any) -> None:
    """Write every scheduler's present value into its variable in a scope.

    Args:
        schedulers: those of the program about to run.
        scope: the scope of that run. A variable that is not there is left alone: its program has
            not been started in this scope, which the run itself reports.
        place: where the run takes place.
    """
    for entry in schedulers.bound:
        if scope.find_var(entry.lr_name) is None:
            continue
        # Shape [1], as the Executor does for the one scheduler that it knows.
        value = core.DenseTensor()
        value.set(np.array([entry.scheduler()]).astype(entry.dtype), core.CPUPlace())
        core.get_variable_tensor(scope, entry.lr_name)._copy_from(value, place)


def _put(program: Any, schedulers: SchedulerSet) -> None:
    program.lr_scheduler = schedulers
    setattr(program, _REGISTERED, schedulers)


def _native(program: Any) -> SchedulerSet | None:
    """Return the scheduler that a native optimizer left in a program, as a set of one."""
    scheduler = getattr(program, "lr_scheduler", None)
    variable = getattr(program, "lr_var", None)
    if scheduler is None or variable is None:
        return None
    # Not the scheduler's own `_var_name`: a scheduler that is shared has only the last one.
    name = program.lr_name if isinstance(program, paddle.pir.Program) else variable.name
    entry = BoundScheduler(scheduler, name, str(convert_dtype(variable.dtype)))
    return SchedulerSet((entry,), primary=name)


def _find_variable(program: Any, name: str) -> Any:
    if isinstance(program, paddle.pir.Program):
        for op in program.global_block().ops:
            if op.name() == "builtin.parameter" and op.attrs()["parameter_name"] == name:
                return op.result(0)
        return None
    return program.global_block().vars.get(name)
