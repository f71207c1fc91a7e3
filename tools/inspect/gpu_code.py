"""Getting a CUDA kernel's code: the machine code in its library, or the PTX of its source.

Nothing that a manifest says is run. A library is read by cuobjdump, not loaded; the compiler is the
one that this machine is set to, with the flags of this package.
"""

from __future__ import annotations

import tempfile
from dataclasses import dataclass
from pathlib import Path

from radam_codegen._resources import include_dir
from radam_codegen.codegen import CUDA_TARGET
from radam_codegen.config import Config
from radam_codegen.errors import ToolchainError
from radam_codegen.toolchain.cuda import find_cuda_compiler
from radam_codegen.toolchain.cuda.architectures import default_architectures
from radam_codegen.tools.cuda.cuobjdump import find_cuobjdump
from radam_codegen.tools.cuda.ptx import PtxKernel, read_ptx
from radam_codegen.tools.cuda.sass import SassKernel, read_sass
from radam_codegen.tools.inspect.machine_code import run_quietly
from radam_codegen.tools.inspect.text import printable

__all__ = ["GpuCode", "gpu_code"]

_SOURCE = "kernel.cu"


@dataclass(frozen=True)
class GpuCode:
    """A CUDA kernel's instructions for one architecture.

    Attributes:
        origin: Where they come from, as a sentence; or why there are none.
        sass: The machine code of each phase, where a library was read.
        ptx: The PTX of each phase, which knows its lines, where there is no machine code.
    """

    origin: str
    sass: tuple[SassKernel, ...] = ()
    ptx: tuple[PtxKernel, ...] = ()


def gpu_code(text: str, library: Path | None, config: Config) -> GpuCode:
    """Get the code of one kernel.

    Args:
        text: Its source, in CUDA.
        library: The shared library that was made from it, where there is one.
        config: Names the compiler.
    """
    reason = "no library was read"
    if library is not None:
        try:
            return _of_library(library)
        except ToolchainError as error:
            reason = _first_line(error)
    try:
        with tempfile.TemporaryDirectory(prefix="radam_codegen_inspect_") as folder:
            return _of_source(Path(folder), text, config, reason)
    except ToolchainError as error:
        refusal = _first_line(error)
        return GpuCode(refusal if library is None else f"{reason} And {refusal}")
    except OSError as error:
        return GpuCode(f"No temporary folder can be written: {error.strerror}.")


def _of_library(library: Path) -> GpuCode:
    kernels = read_sass(find_cuobjdump().read("--dump-sass", library))
    made_for = sorted({each.architecture for each in kernels})
    if not made_for:
        raise ToolchainError("The library holds no machine code of a GPU.")
    newest = made_for[-1]
    others = ", ".join(f"sm_{each}" for each in made_for[:-1])
    return GpuCode(
        f"From the library, by cuobjdump, for sm_{newest}"
        + (f"; it has code for {others}, too." if others else "."),
        sass=tuple(each for each in kernels if each.architecture == newest),
    )


def _of_source(folder: Path, text: str, config: Config, reason: str) -> GpuCode:
    compiler = find_cuda_compiler(config.nvcc, config.cxx, config.compile_timeout)
    newest = default_architectures(compiler)[-1]
    (folder / _SOURCE).write_text(text, encoding="utf-8")
    command = [
        *compiler.command,
        *CUDA_TARGET.flags,
        *("-ptx", "-lineinfo", f"-arch=compute_{newest}", f"-ccbin={compiler.host.command[0]}"),
        *(f"-I{include_dir()}", "-o", "kernel.ptx", _SOURCE),
    ]
    run_quietly(command, folder, config.compile_timeout, "nvcc refuses the source")
    module = (folder / "kernel.ptx").read_text(encoding="utf-8", errors="replace")
    return GpuCode(
        f"PTX for sm_{newest} and newer, by nvcc from the source, as {reason.rstrip('.')}.",
        ptx=read_ptx(module, _SOURCE),
    )


def _first_line(error: ToolchainError) -> str:
    return printable(str(error).partition("\n")[0])
