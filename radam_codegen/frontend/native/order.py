"""Whether updates may be done later than where they stand.

A fused operator takes the place of the last of its updates. For the others that means to read the
gradient, the parameter and the learning rate later, and to write parameter and state later: what
stands in between, and is not part of it all, must not notice.
"""

from __future__ import annotations

from collections.abc import Sequence

from radam_codegen.frontend.native.graph import Operator
from radam_codegen.frontend.native.update import Update

__all__ = ["can_join", "safe_alone"]


def safe_alone(update: Update) -> bool:
    """Whether an update can read what it takes in where it stands itself."""
    return _can_move([update], update.operator)


def can_join(run: Sequence[Update], update: Update) -> bool:
    """Whether a run of updates may be done where another one stands that follows them."""
    own = update.own
    if any(own & each.own for each in run):
        return False  # one after the other
    return _can_move([*run, update], update.operator)


def _can_move(updates: Sequence[Update], last: Operator) -> bool:
    gone = {op for update in updates for op in (update.operator, *update.absorbed)}
    block = updates[0].block
    return all(
        _undisturbed(update, op)
        for update in updates
        for op in block.between(_first(update), last.position)
        if op not in gone
    )


def _first(update: Update) -> int:
    """Where the first of what is to be read was read."""
    made = -1 if update.grad.maker is None else update.grad.maker.position
    return min([update.operator.position, made, *(op.position for op in update.absorbed)])


def _undisturbed(update: Update, op: Operator) -> bool:
    first = min([update.operator.position, *(each.position for each in update.absorbed)])
    made = update.grad.maker
    if update.grad.storage in op.writes and (made is None or op.position > made.position):
        return False
    if op.position < first:
        return True
    if {update.param.storage, update.learning_rate.storage} & op.writes:
        return False
    if op.position < update.operator.position:
        return True
    return not update.own & (op.reads | op.writes)
