"""Adding to programs, and undoing what a refused ``minimize`` has added."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from typing import Any

import paddle
from paddle.base import framework

from radam_codegen.program.schedulers import SCHEDULER_ATTRIBUTES
from radam_codegen.program.variables import blocks_of

__all__ = ["after_backward", "building", "in_current_block", "restored_on_failure"]

#: Attribute of a legacy operator that says what it is for.
_ROLE = "op_role"


@contextmanager
def building(main: Any, startup: Any) -> Iterator[None]:
    """Append to these programs; where they are being built already, at the place of that.

    Guarding a program anew would leave the branch of a ``cond`` that is being built.
    """
    current = paddle.static.default_main_program(), paddle.static.default_startup_program()
    if current[0] is main and current[1] is startup:
        yield
        return
    with paddle.static.program_guard(main, startup):
        yield


def in_current_block(loss: Any) -> Any:
    """Return the loss as a value of the branch that is being built, where one is.

    In PIR ``backward`` finds no gradients in a branch that has no operator yet; with this one it
    goes on to the operators outside that the loss comes from.
    """
    if not isinstance(loss, paddle.pir.Value):
        return loss
    current = paddle.base.libpaddle.pir.get_current_insertion_point().block()
    return loss if loss.block == current else paddle.scale(loss)


@contextmanager
def after_backward(main: Any) -> Iterator[None]:
    """Append where gradients are known, inside of a branch that is being built too.

    In the legacy IR the gradients of a branch have a block of their own, which runs after it; a
    branch without that can only know gradients from outside.

    Args:
        main: the current main program.
    """
    if not isinstance(main, framework.Program) or main.current_block().backward_block_idx == -1:
        yield
        return
    current = main.current_block_idx
    main.current_block_idx = main.current_block().backward_block_idx
    try:
        yield
    finally:
        main.current_block_idx = current


@contextmanager
def restored_on_failure(*programs: Any, mappings: Sequence[dict[Any, Any]] = ()) -> Iterator[None]:
    """Take operators and variables that the block adds to the programs away again if it raises.

    Args:
        programs: main and startup program, legacy or PIR. The block only adds operators to them.
        mappings: what an optimizer remembers of programs; they are put back too, with the mappings
            that are values in them.
    """
    snapshots = [_snapshot(program) for program in programs]
    snapshots += [_snapshot_mapping(mapping) for mapping in mappings]
    try:
        yield
    except BaseException:
        for restore in snapshots:
            restore()
        raise


def _snapshot_mapping(mapping: dict[Any, Any]) -> Callable[[], None]:
    inner = [_snapshot_mapping(each) for each in mapping.values() if isinstance(each, dict)]
    items = dict(mapping)

    def restore() -> None:
        mapping.clear()
        mapping.update(items)
        for each in inner:
            each()

    return restore


def _snapshot(program: Any) -> Callable[[], None]:
    attributes = dict(vars(program))
    if not isinstance(program, framework.Program):
        known = {op.id() for block in blocks_of(program) for op in block.ops}
        return lambda: _restore_pir(program, known, attributes)
    blocks = [_LegacyBlock(block) for block in program.blocks]
    return lambda: _restore_legacy(program, blocks, attributes)


class _LegacyBlock:
    """What there was in a block: operators, their roles, and names of variables."""

    def __init__(self, block: Any) -> None:
        self._block = block
        self._names = set(block.vars)
        self._roles = [op.attr(_ROLE) for op in block.ops]

    def restore(self) -> None:
        for index in reversed(range(len(self._roles), len(self._block.ops))):
            self._block._remove_op(index, sync=False)
        for name in set(self._block.vars) - self._names:
            self._block._remove_var(name, sync=False)

    def restore_roles(self) -> None:
        # The backward pass marks the operator that computes the loss.
        for op, role in zip(self._block.ops, self._roles):
            if op.attr(_ROLE) != role:
                op._set_attr(_ROLE, role)


def _restore_legacy(program: Any, blocks: list[_LegacyBlock], attributes: dict[str, Any]) -> None:
    for block in blocks:
        block.restore()
    program._sync_with_cpp()
    for block in blocks:
        block.restore_roles()
    _restore_attributes(program, attributes)


def _restore_pir(program: Any, known: set[int], attributes: dict[str, Any]) -> None:
    # State goes to the beginning of a program, updates to its end.
    for block in list(blocks_of(program)):
        for operation in reversed(block.ops):
            if operation.id() not in known:
                block.remove_op(operation)
    _restore_attributes(program, attributes)


def _restore_attributes(program: Any, attributes: dict[str, Any]) -> None:
    for name in set(vars(program)) - set(attributes):
        delattr(program, name)
    for name, value in attributes.items():
        if name in SCHEDULER_ATTRIBUTES or isinstance(value, (int, str)):
            setattr(program, name, value)
