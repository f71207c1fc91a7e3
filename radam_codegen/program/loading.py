"""Getting a process ready for programs that were built elsewhere."""

from __future__ import annotations

from radam_codegen.config import current
from radam_codegen.errors import ProgramError
from radam_codegen.program import kernels
from radam_codegen.program.executor_hook import install_executor_hook

__all__ = ["load_operator"]


def load_operator() -> None:
    """Have Paddle know the operators of this package, so that saved programs can be loaded.

    Building a program with :class:`radam_codegen.RAdam` does this by itself. A process that loads
    one calls it first: Paddle cannot name an operator later that it did not know when it read the
    program. Their kernels are built when the startup program runs, or at the first step.

    Raises:
        ToolchainError: the operator cannot be compiled here.
        OperatorError: Paddle refuses the operator.
        ProgramError: the mode is ``off``, in which no program with generated kernels runs.

    Examples:
        >>> import radam_codegen as rc
        >>> rc.load_operator()
    """
    if current().mode == "off":
        raise ProgramError(
            "a program that holds generated kernels cannot run in mode 'off'; unset "
            "RADAM_CODEGEN_MODE, or call radam_codegen.config(mode='auto') first"
        )
    kernels.operator()
    install_executor_hook()
