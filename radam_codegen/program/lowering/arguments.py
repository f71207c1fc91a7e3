"""What lowering and raising are given."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

import paddle
from paddle.base import core, framework

from radam_codegen.errors import ArgumentTypeError, ProgramError

__all__ = ["check_programs", "static_mode"]


def check_programs(main: Any, startup: Any, scope: Any) -> None:
    """Refuse what are no programs of one IR, or no scope.

    Raises:
        ArgumentTypeError: one of them is something else.
        ProgramError: the programs do not go together.
    """
    kinds = (framework.Program, paddle.pir.Program)
    if not isinstance(main, kinds):
        raise ArgumentTypeError(f"main_program is a {type(main).__name__}, not a static program")
    if startup is not None and not isinstance(startup, kinds):
        raise ArgumentTypeError(
            f"startup_program is a {type(startup).__name__}, not a static program"
        )
    if startup is not None and isinstance(main, framework.Program) != isinstance(
        startup, framework.Program
    ):
        raise ProgramError("main and startup program are of different IRs of Paddle")
    if scope is not None and not isinstance(scope, core._Scope):
        raise ArgumentTypeError(
            f"scope is a paddle.static.Scope or None, but this is a {type(scope).__name__}"
        )


@contextmanager
def static_mode(program: Any) -> Iterator[None]:
    """Let Paddle build a static program of the IR that one has.

    Raises:
        ProgramError: the program is not of the IR that this process uses.
    """
    dynamic = framework.in_dygraph_mode()
    if dynamic:
        paddle.enable_static()
    try:
        if framework.in_pir_mode() != isinstance(program, paddle.pir.Program):
            raise ProgramError(
                "the program is not of the IR that this process builds programs in; set "
                "FLAGS_enable_pir_api in the environment as it was when the program was built"
            )
        yield
    finally:
        if dynamic:
            paddle.disable_static()
