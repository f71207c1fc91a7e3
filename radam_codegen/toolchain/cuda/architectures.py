"""GPU architectures that kernels are compiled for, by their numbers: 90 is ``sm_90``."""

from __future__ import annotations

import re
import subprocess
from collections.abc import Collection
from pathlib import Path

from radam_codegen.errors import ArgumentError, CompilerNotFoundError
from radam_codegen.toolchain.compiler import ask
from radam_codegen.toolchain.cuda.compiler import CudaCompiler

__all__ = [
    "DEFAULT_ARCHITECTURES",
    "architectures_for",
    "code_flags",
    "default_architectures",
    "devices_here",
]

#: Where no device says otherwise: one of each generation that CUDA 13 compiles for. A GPU runs the
#: code of the same first digits with a last one that is not above its own; PTX of the newest is
#: there for those to come.
DEFAULT_ARCHITECTURES = (75, 80, 90, 100, 120)

#: The oldest that takes kernel arguments where they are (``__grid_constant__``).
_OLDEST = 70


def architectures_for(
    compiler: CudaCompiler, wanted: Collection[int] | None = None, timeout: float = 60.0
) -> tuple[int, ...]:
    """Choose what to compile for.

    Args:
        compiler: What will compile.
        wanted: Architectures; None: those of the GPUs here, or, where there are none, those of
            :data:`DEFAULT_ARCHITECTURES` that the compiler knows.
        timeout: Seconds that the search for GPUs may take.

    Returns:
        Sorted. A GPU that is newer than the compiler is left out, and runs the PTX of the newest.

    Raises:
        ArgumentError: The compiler does not know a wanted one.
        CompilerNotFoundError: The compiler knows none of them.
    """
    known = [each for each in compiler.architectures if each >= _OLDEST]
    if wanted is not None:
        unknown = sorted(set(wanted) - set(known))
        if unknown or not wanted:
            raise ArgumentError(
                f"There is no architecture {unknown[0] if unknown else '(none is named)'} among "
                f"those that {compiler.command[0]} compiles for: {', '.join(map(str, known))}."
            )
        return tuple(sorted(set(wanted)))
    chosen = sorted(set(devices_here(compiler, timeout)) & set(known))
    return tuple(chosen) or default_architectures(compiler)


def default_architectures(compiler: CudaCompiler) -> tuple[int, ...]:
    """What to compile for, for other machines: what the compiler knows of the usual ones.

    Raises:
        CompilerNotFoundError: The compiler knows no architecture that kernels run on.
    """
    known = [each for each in compiler.architectures if each >= _OLDEST]
    if not known:
        raise CompilerNotFoundError(
            f"{compiler.command[0]} compiles for no GPU from sm_{_OLDEST} on; use a newer one."
        )
    return tuple(each for each in DEFAULT_ARCHITECTURES if each in known) or (known[-1],)


def code_flags(architectures: Collection[int]) -> tuple[str, ...]:
    """Flags of nvcc for machine code of each architecture, and PTX of the newest."""
    newest = max(architectures)
    return (
        *(f"-gencode=arch=compute_{each},code=sm_{each}" for each in sorted(architectures)),
        f"-gencode=arch=compute_{newest},code=compute_{newest}",
    )


def devices_here(compiler: CudaCompiler, timeout: float = 60.0) -> tuple[int, ...]:
    """Architectures of the GPUs in this machine, sorted; none where there is no GPU or no driver.

    nvcc brings a program that asks the driver. Asked in this process, the driver would not work in
    processes that are forked from it later.
    """
    for folder in {path.parent for path in compiler.programs}:
        program = Path(folder, "__nvcc_device_query")
        if program.is_file():
            try:
                status, text = ask([str(program)], timeout, both=True)
            except (OSError, subprocess.TimeoutExpired):
                return ()
            return tuple(sorted(set(map(int, re.findall(r"\d+", text))))) if status == 0 else ()
    return ()
