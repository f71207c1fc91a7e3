"""The measuring equipment: C that is compiled when it is needed, by the kernels' own compiler."""

from __future__ import annotations

from pathlib import Path

from radam_codegen._resources import include_dir
from radam_codegen.config import Config
from radam_codegen.errors import CompileError
from radam_codegen.toolchain.compiler import find_c_compiler
from radam_codegen.toolchain.process import run_logged

__all__ = ["build_equipment"]

_SOURCE = Path(__file__).with_name("measure.c")


def build_equipment(folder: Path, config: Config) -> Path:
    """Compile the equipment for this machine into a folder; return the library.

    Raises:
        CompilerNotFoundError: There is no C compiler.
        CompileError: The compiler refused the source.
    """
    compiler = find_c_compiler(config.cc, config.compile_timeout)
    library, log = folder / "measure.so", folder / "measure.log"
    command = (
        *compiler.command,
        "-std=c11",
        "-O3",
        # As kernels are compiled: roots are vectorized without errno, and nothing is fused.
        "-ffp-contract=off",
        "-fno-math-errno",
        "-fno-trapping-math",
        *compiler.for_this_cpu,
        "-Wall",
        "-Wextra",
        "-fPIC",
        "-shared",
        "-fvisibility=hidden",
        "-pthread",
        "-I",
        str(include_dir()),
        str(_SOURCE),
        "-o",
        str(library),
        "-lm",
    )
    if run_logged(command, folder, log, config.compile_timeout) != 0:
        said = log.read_text(encoding="utf-8", errors="replace")[-2000:]
        raise CompileError(
            f"The measuring equipment {_SOURCE} does not compile. Try another compiler by setting "
            f"CC. The compiler said:\n{said}"
        )
    return library
