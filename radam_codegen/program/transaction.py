"""Adding to programs, and undoing what a refused ``minimize`` has added."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

import paddle
from paddle.base import framework

__all__ = ["building", "restored_on_failure"]


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


@contextmanager
def restored_on_failure(*programs: Any) -> Iterator[None]:
    """Take operators and variables that the block adds to the programs away again if it raises.

    Args:
        programs: main and startup program, legacy or PIR. Operators are only ever appended to
            them inside of the block.
    """
    snapshots = [_snapshot(program) for program in programs]
    try:
        yield
    except BaseException:
        for restore in snapshots:
            restore()
        raise


def _snapshot(program: Any) -> Any:
    attributes = dict(vars(program))
    if isinstance(program, framework.Program):
        blocks = [(len(block.ops), set(block.vars)) for block in program.blocks]
        return lambda: _restore_legacy(program, blocks, attributes)
    count = len(program.global_block().ops)
    return lambda: _restore_pir(program, count, attributes)


def _restore_legacy(program: Any, blocks: list[tuple[int, set[str]]], attributes: Any) -> None:
    for block, (count, names) in zip(program.blocks, blocks):
        for index in reversed(range(count, len(block.ops))):
            block._remove_op(index, sync=False)
        for name in set(block.vars) - names:
            block._remove_var(name, sync=False)
    program._sync_with_cpp()
    _restore_attributes(program, attributes)


def _restore_pir(program: Any, count: int, attributes: Any) -> None:
    block = program.global_block()
    for operation in reversed(block.ops[count:]):
        block.remove_op(operation)
    _restore_attributes(program, attributes)


def _restore_attributes(program: Any, attributes: dict[str, Any]) -> None:
    for name in set(vars(program)) - set(attributes):
        delattr(program, name)
    for name in ("lr_scheduler", "lr_var", "lr_name"):
        if name in attributes:
            setattr(program, name, attributes[name])
