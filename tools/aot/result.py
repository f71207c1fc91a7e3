"""What became of making a bundle."""

from __future__ import annotations

from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

__all__ = ["AotFailure", "AotResult"]


@dataclass(frozen=True)
class AotFailure:
    """Something that could not be compiled.

    Attributes:
        name: The kernel, ``operator``, or ``CUDA kernels`` where there is no nvcc for any.
        cpu: The CPU it was for, or ``cuda``; empty where the name says it.
        message: Why: the compiler's first error, and where its log is.
    """

    name: str
    cpu: str
    message: str


@dataclass(frozen=True)
class AotResult:
    """What became of making a bundle.

    Attributes:
        folder: The bundle.
        kernels: Names of the kernels in C that were asked for and are in it now.
        cpus: CPUs that they were asked for.
        variants: How many libraries that makes.
        cuda_kernels: Names of the kernels in CUDA that were asked for and are in it now.
        architectures: GPUs that those are for: 90 is ``sm_90``.
        compiled: How many of all libraries were compiled rather than found.
        operator: Version of the Paddle that the operator is for; None: none was asked for.
        note: What is left to say, such as why there is no operator; may be empty.
        size: Bytes of the whole bundle.
        seconds: How long it took.
        failures: What could not be compiled; the rest is in the bundle.
        standalone: Whether the folder holds sources, and is no bundle.
    """

    folder: Path
    kernels: tuple[str, ...]
    cpus: tuple[str, ...]
    variants: int
    cuda_kernels: tuple[str, ...]
    architectures: tuple[int, ...]
    compiled: int
    operator: str | None
    note: str
    size: int
    seconds: float
    failures: tuple[AotFailure, ...]
    standalone: bool

    @property
    def good(self) -> bool:
        """Whether all that was asked for is in the bundle."""
        return not self.failures

    def to_json(self) -> dict[str, Any]:
        """The same as JSON values."""
        return {**asdict(self), "folder": str(self.folder), "good": self.good}
