"""Getting a kernel's machine code: of its library by objdump, or of its source by the compiler.

Nothing that a manifest says is run. The compiler is the one that this machine is set to, with the
flags of this package; of a manifest only the name of a CPU is used.
"""

from __future__ import annotations

import platform
import shutil
import subprocess
import tempfile
from collections.abc import Sequence
from dataclasses import dataclass, replace
from pathlib import Path

from radam_codegen._resources import include_dir
from radam_codegen.config import Config
from radam_codegen.errors import ArgumentError, ToolchainError
from radam_codegen.toolchain.compiler import find_c_compiler
from radam_codegen.toolchain.cpu import check_cpu
from radam_codegen.toolchain.flags import compile_only, kernel_flags
from radam_codegen.toolchain.process import compiler_environment
from radam_codegen.tools.inspect.listing import Routine, read_assembly, read_objdump
from radam_codegen.tools.inspect.text import printable

__all__ = ["MachineCode", "machine_code", "run_quietly"]

_X86_64 = ("x86_64", "AMD64")
#: What the header of a library for x86-64 begins with, and the place of the machine in it.
_ELF, _MACHINE, _EM_X86_64 = b"\x7fELF", slice(18, 20), b"\x3e\x00"
_DISASSEMBLE_SECONDS = 60.0


@dataclass(frozen=True)
class MachineCode:
    """A kernel's instructions.

    Attributes:
        origin: Where they come from, as a sentence; or why there are none.
        routines: The instructions; those that the source explains know their lines.
    """

    origin: str
    routines: tuple[Routine, ...] = ()


def machine_code(text: str, library: Path | None, cpu: str, config: Config) -> MachineCode:
    """Get the machine code of one kernel.

    Args:
        text: Its source, in C.
        library: The shared library that was made from it, where there is one.
        cpu: What it is compiled for, one of :func:`radam_codegen.toolchain.cpu.cpu_names`.
        config: Names the compiler.
    """
    if library is not None and not _is_for_x86(library):
        return MachineCode(
            "The library is not for x86-64, whose instructions alone are known here."
        )
    objdump = shutil.which("objdump")
    try:
        with tempfile.TemporaryDirectory(prefix="radam_codegen_inspect_") as folder:
            if library is not None and objdump is not None:
                return _of_library(Path(folder), objdump, text, library, cpu, config)
            return _of_source(Path(folder), text, cpu, config)
    except ToolchainError as error:
        return MachineCode(printable(str(error).partition("\n")[0]))
    except OSError as error:
        return MachineCode(f"No temporary folder can be written: {error.strerror}.")


def _of_library(
    folder: Path, objdump: str, text: str, library: Path, cpu: str, config: Config
) -> MachineCode:
    routines = read_objdump(_disassemble(objdump, library))
    try:
        again = folder / "kernel.so"
        _compile(folder, text, cpu, config, ["-o", again.name, "-lm"])
        explained = read_objdump(_disassemble(objdump, again, "-l"))
    except ToolchainError as error:
        reason = printable(str(error).partition("\n")[0])
        return MachineCode(
            f"From the library, by objdump; without lines of the source: {reason}", routines
        )
    if _without_lines(explained) == _without_lines(routines):
        return MachineCode("From the library, by objdump.", explained)
    return MachineCode(
        "From the library, by objdump; without lines of the source, as the compiler here makes "
        "other instructions.",
        routines,
    )


def _of_source(folder: Path, text: str, cpu: str, config: Config) -> MachineCode:
    if platform.machine() not in _X86_64:
        return MachineCode(
            f"This machine is {platform.machine()}; only the instructions of x86-64 are known here."
        )
    output = folder / "kernel.s"
    identity = _compile(folder, text, cpu, config, ["-S", "-o", output.name])
    routines = read_assembly(output.read_text(encoding="utf-8", errors="replace"))
    return MachineCode(f"Compiled for {cpu} by {identity}; no library was read.", routines)


def _without_lines(routines: Sequence[Routine]) -> list[Routine]:
    return [
        replace(each, instructions=tuple(replace(one, line=None) for one in each.instructions))
        for each in routines
    ]


def _is_for_x86(library: Path) -> bool:
    try:
        with library.open("rb") as stream:
            head = stream.read(20)
    except OSError:
        return False
    return head.startswith(_ELF) and head[_MACHINE] == _EM_X86_64


def _disassemble(objdump: str, library: Path, *options: str) -> str:
    command = [objdump, "-d", "-w", "--no-show-raw-insn", *options, str(library)]
    return run_quietly(
        command, library.parent, _DISASSEMBLE_SECONDS, "objdump cannot read the library"
    )


def _compile(folder: Path, text: str, cpu: str, config: Config, output: Sequence[str]) -> str:
    """Compile with lines, which changes no instruction, and return the compiler's name."""
    try:
        check_cpu(cpu)
    except ArgumentError as error:
        raise ToolchainError(str(error)) from error
    compiler = find_c_compiler(config.cc, config.compile_timeout)
    (folder / "kernel.c").write_text(text, encoding="utf-8")
    flags = kernel_flags(compiler, cpu)
    if "-S" in output:
        flags = compile_only(flags)
    command = [*compiler.command, *flags, "-g1", "-I", str(include_dir()), "kernel.c", *output]
    run_quietly(command, folder, config.compile_timeout, "The compiler refuses the source")
    return compiler.path.name


def run_quietly(command: Sequence[str], folder: Path, seconds: float, failure: str) -> str:
    """Run a tool, and return what it prints.

    Args:
        command: The tool, with its arguments.
        folder: Where it runs.
        seconds: After which it is killed.
        failure: What an error says has failed.

    Raises:
        ToolchainError: It failed; the message has its first line with an error.
    """
    try:
        done = subprocess.run(
            list(command),
            cwd=folder,
            stdin=subprocess.DEVNULL,
            capture_output=True,
            text=True,
            errors="replace",
            env=compiler_environment(),
            timeout=seconds,
            check=False,
        )
    except subprocess.TimeoutExpired:
        raise ToolchainError(f"{failure}: it took longer than {seconds:g} seconds.") from None
    except OSError as error:
        raise ToolchainError(f"{failure}: {error.strerror}.") from error
    if done.returncode != 0:
        said = next(
            (line for line in done.stderr.splitlines() if "error" in line), "it says nothing"
        )
        raise ToolchainError(f"{failure}: {said}")
    return done.stdout
