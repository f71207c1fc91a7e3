"""The one exception tree of radam_codegen.

Every class also derives from the built-in exception that Paddle users would expect in its place
(``ValueError`` for a bad value, ``TypeError`` for a bad type, ``RuntimeError`` for a failure
outside of the caller's hands), so code written for :class:`paddle.optimizer.RAdam` keeps working.
Each message says what was wrong, with which parameter or file, and what to do about it.
"""

from __future__ import annotations

__all__ = [
    "AbiMismatchError",
    "ArgumentError",
    "ArgumentTypeError",
    "ArtifactError",
    "CheckpointError",
    "CompileError",
    "CompilerNotFoundError",
    "ConfigError",
    "NoGpuError",
    "OperatorError",
    "PlanError",
    "ProgramError",
    "RadamCodegenError",
    "ToolchainError",
    "UnsupportedError",
    "VerifyError",
]


class RadamCodegenError(Exception):
    """Base class of everything that radam_codegen raises on purpose."""


class ArgumentError(RadamCodegenError, ValueError):
    """An argument of a public call has a value that makes no sense."""


class ArgumentTypeError(RadamCodegenError, TypeError):
    """An argument of a public call has the wrong type."""


class ConfigError(RadamCodegenError, ValueError):
    """An environment variable or a setting holds something that cannot be used."""


class UnsupportedError(RadamCodegenError, ValueError):
    """The program asks for something that has no kernel: a sparse gradient, an unknown dtype."""


class PlanError(RadamCodegenError, ValueError):
    """An ``UpdatePlan`` (or its JSON text) contradicts itself or cannot be read."""


class VerifyError(RadamCodegenError, AssertionError):
    """The IR verifier found a broken rule; the message names the pass that broke it."""


class ProgramError(RadamCodegenError, ValueError):
    """A Paddle program cannot be used as asked; nothing in it has been changed."""


class CheckpointError(RadamCodegenError, ValueError):
    """A checkpoint does not fit the optimizer; the message lists all of it. Nothing was loaded."""


class ToolchainError(RadamCodegenError, RuntimeError):
    """Something went wrong between a rendered source and a loaded library."""


class CompilerNotFoundError(ToolchainError):
    """No usable compiler was found."""


class CompileError(ToolchainError):
    """The compiler refused a source; the message shows its first error and where the log is."""


class ArtifactError(ToolchainError):
    """A file in the cache cannot be used."""


class AbiMismatchError(ArtifactError):
    """A library was built for another version of the kernel ABI."""


class NoGpuError(RadamCodegenError, RuntimeError):
    """A CUDA kernel is to run where there is no GPU, no driver, or no Paddle that can use one."""


class OperatorError(RadamCodegenError, RuntimeError):
    """The C++ operator could not be built, registered, or found where a program needs it."""
