"""What a fetch list asks for: values to return, and optimize ops to prune the program to.

``Executor.run`` takes, beside variables and names, what ``Optimizer.minimize`` returned, either
whole or its first half::

    [loss, (optimize_ops, params_grads)]
    [loss, optimize_ops]
    [(optimize_ops, params_grads)]
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

from paddle.base.framework import Operator, Variable
from paddle.pir import Operation, Value

from radam_codegen.errors import ArgumentTypeError

__all__ = ["Fetches", "has_optimize_op", "split_fetch_list"]

_OPS = (Operator, Operation)
_VALUES = (str, Variable, Value)


@dataclass(frozen=True)
class Fetches:
    """A fetch list, taken apart.

    Attributes:
        values: names, variables (legacy) and values (PIR), in the order of the results.
        optimize_ops: the operators to prune to; empty where the list named none.
    """

    values: tuple[Any, ...]
    optimize_ops: tuple[Any, ...]


def has_optimize_op(fetch_list: Any) -> bool:
    """Tell whether the fetch list holds an operator, in any of the forms that prune.

    It runs before every step of every program, hence looks no deeper than those forms go.
    """
    if type(fetch_list) not in (list, tuple):
        return isinstance(fetch_list, _OPS)
    for item in fetch_list:
        if isinstance(item, (list, tuple)):
            for entry in item:
                if isinstance(entry, (list, tuple)):
                    if any(isinstance(leaf, _OPS) for leaf in entry):
                        return True
                elif isinstance(entry, _OPS):
                    return True
        elif isinstance(item, _OPS):
            return True
    return False


def split_fetch_list(fetch_list: Any) -> Fetches:
    """Take a fetch list apart.

    Args:
        fetch_list: None, one variable or name, or a list (tuple) of them in which an item may also
            be a list (tuple) of them, a list of optimize ops, or the pair
            ``(optimize_ops, params_grads)``; of the latter only the ops count.

    Raises:
        ArgumentTypeError: an item is none of these; the message shows where it stands.
    """
    if fetch_list is None:
        return Fetches((), ())
    if isinstance(fetch_list, _VALUES):
        return Fetches((fetch_list,), ())
    if not isinstance(fetch_list, (list, tuple)):
        raise ArgumentTypeError(
            f"fetch_list must be a list of variables, names and what minimize returned, "
            f"got {type(fetch_list).__name__}"
        )
    values: list[Any] = []
    ops: list[Any] = []

    def take(item: Any, where: str) -> None:
        if isinstance(item, _OPS):
            ops.append(item)
        elif isinstance(item, _VALUES):
            values.append(item)
        else:
            raise ArgumentTypeError(
                f"{where} must be a variable, a name, or an optimize op, got "
                f"{type(item).__name__}; write fetch_list=[loss, (optimize_ops, params_grads)] "
                f"to prune to an optimizer"
            )

    for index, item in enumerate(fetch_list):
        where = f"fetch_list[{index}]"
        entries = item
        if isinstance(item, tuple) and item and isinstance(item[0], (list, tuple)):
            entries, where = item[0], f"{where}[0]"
        if isinstance(entries, (list, tuple)):
            for position, entry in enumerate(entries):
                take(entry, f"{where}[{position}]")
        else:
            take(entries, where)
    # The same op twice (an optimizer listed whole and in part) is one target.
    return Fetches(tuple(values), tuple({id(op): op for op in ops}.values()))
