"""Having every native RAdam lower itself, for code that constructs it out of reach."""

from __future__ import annotations

from collections.abc import Callable
from functools import wraps
from typing import Any
from weakref import WeakKeyDictionary

import paddle
from paddle.base import framework
from paddle.optimizer import Optimizer

from radam_codegen.config import current
from radam_codegen.frontend.native.match import match
from radam_codegen.frontend.native.update import ACCUMULATORS
from radam_codegen.program.gpu import gpus_here, language_of
from radam_codegen.program.lowering.holder import Holder
from radam_codegen.program.lowering.lower import lower_in_place
from radam_codegen.program.variables import blocks_of

__all__ = ["install_pass", "uninstall_pass"]

#: What appends the updates, in the legacy IR and in PIR; whatever calls ``minimize`` ends here.
_METHODS = ("_create_optimization_pass", "_pir_create_optimization_pass")

#: State of each optimizer, which it has in common for all that it minimizes.
_holders: WeakKeyDictionary[Any, dict[int, Holder]] = WeakKeyDictionary()


def install_pass() -> None:
    """Have every later ``paddle.optimizer.RAdam(...).minimize`` lower what it adds.

    It holds for static programs of this process, also for an optimizer that was constructed
    before, or that mixed precision or gradient merge wraps; the operators that ``minimize`` returns
    are the fused ones. Optimizers of other classes, subclasses included, and dynamic graph are as
    ever, and so is everything in mode ``off``. Calling it again changes nothing.

    Examples:
        >>> import radam_codegen as rc
        >>> rc.install_pass()
        >>> rc.uninstall_pass()
    """
    for name in _METHODS:
        if name not in vars(paddle.optimizer.RAdam):
            setattr(paddle.optimizer.RAdam, name, _lowering(getattr(Optimizer, name)))


def uninstall_pass() -> None:
    """Undo :func:`install_pass`; programs that were lowered stay so."""
    for name in _METHODS:
        if name in vars(paddle.optimizer.RAdam):
            delattr(paddle.optimizer.RAdam, name)


def _lowering(append: Callable[..., Any]) -> Callable[..., Any]:
    @wraps(append)
    def append_and_lower(optimizer: Any, *args: Any, **kwargs: Any) -> Any:
        operators = append(optimizer, *args, **kwargs)
        wanted = type(optimizer) is paddle.optimizer.RAdam and not framework.in_dygraph_mode()
        if not wanted or current().mode == "off":
            return operators
        return _lower(optimizer, operators)

    return append_and_lower


def _lower(optimizer: Any, operators: list[Any]) -> list[Any]:
    main = paddle.static.default_main_program()
    matched = match(main, only=operators)
    # By numbers, as nothing may be asked of an operator once it is removed.
    numbers = [_number(op) for op in operators]
    report = lower_in_place(
        main,
        paddle.static.default_startup_program(),
        matched,
        scope=None,
        holders=_holders.setdefault(optimizer, {}),
        language=language_of("auto", gpus_here()),
        free=False,
    )
    _forget(optimizer, {tensor.name for step in report.steps for tensor in step.plan.tensors})
    left = {_number(op): op for block in _blocks(main) for op in block.ops}
    return [*(left[number] for number in numbers if number in left), *report.optimize_ops]


def _number(operation: Any) -> int:
    return int(operation.id()) if isinstance(operation, paddle.pir.Operation) else id(operation)


def _blocks(program: Any) -> list[Any]:
    pir = isinstance(program, paddle.pir.Program)
    return list(blocks_of(program)) if pir else list(program.blocks)


def _forget(optimizer: Any, names: set[str]) -> None:
    """Have an optimizer not go on with state that its programs have no more."""
    prefix = "" if optimizer._name is None else f"{optimizer._name}_"
    for name in names:
        optimizer._already_create_accumulator.discard(name)
        for kind in ACCUMULATORS:
            optimizer._accumulators[f"{prefix}{kind}"].pop(name, None)
