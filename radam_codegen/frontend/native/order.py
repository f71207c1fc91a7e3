"""Whether updates may be done later than where they stand.

A fused operator takes the place of the last of its updates. For the others that means to read the
gradient, the parameter and the learning rate later, and to write parameter and state later: what
stands in between, and is not part of it all, must not notice.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence

from radam_codegen.frontend.native.graph import Operator
from radam_codegen.frontend.native.update import Run, Update

__all__ = ["safe_alone", "split"]


def safe_alone(update: Update) -> bool:
    """Whether an update can read what it takes in where it stands itself."""
    gone = {update.operator, *update.absorbed}
    last = update.operator.position
    first = min(op.position for op in gone)
    made = update.grad.maker
    since = {
        update.grad.storage: -1 if made is None else made.position,
        update.param.storage: first,
        update.learning_rate.storage: first,
    }
    return all(
        op in gone
        for storage, begin in since.items()
        for op in update.block.writers(storage, begin, last)
    )


def split(updates: Sequence[Update], owner: int) -> Iterator[Run]:
    """Cut a group into runs of updates that can be done at once, as few as can be.

    Args:
        updates: in the order of the program, each of which is safe alone.
        owner: whose state they have.
    """
    run: list[Update] = []
    read: set[str] = set()
    own: set[str] = set()
    for update in updates:
        if run and not _can_join(run[-1].operator, update, read, own):
            yield Run(tuple(run), owner)
            run, read, own = [], set(), set()
        run.append(update)
        read |= {update.grad.storage, update.learning_rate.storage}
        own |= update.own
    if run:
        yield Run(tuple(run), owner)


def _can_join(last: Operator, update: Update, read: set[str], own: set[str]) -> bool:
    """Whether what is done at one update may be done at the next one of the group instead.

    Args:
        last: the former.
        update: the latter.
        read: gradients and learning rates of all that is done there.
        own: parameters and state of that.
    """
    if not own.isdisjoint(update.own):
        return False  # one after the other
    for op in update.block.between(last.position, update.operator.position):
        if op in update.absorbed:
            continue
        if not (read.isdisjoint(op.writes) and own.isdisjoint(op.writes | op.reads)):
            return False
    return True
