"""Getting a process ready for programs that were built elsewhere."""

from __future__ import annotations

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

    Examples:
        >>> import radam_codegen as rc
        >>> rc.load_operator()
    """
    kernels.operator()
    install_executor_hook()
