"""Finding a compiler, and finding out what it is."""

from __future__ import annotations

import contextlib
import os
import re
import shlex
import shutil
import signal
import subprocess
import threading
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from radam_codegen.errors import CompilerNotFoundError
from radam_codegen.toolchain.cpu import ways_to_name_this_cpu
from radam_codegen.toolchain.diagnosis import legible
from radam_codegen.toolchain.digests import file_sha256
from radam_codegen.toolchain.process import compiler_environment

__all__ = ["Compiler", "ask", "find_c_compiler", "find_cxx_compiler"]

_C_CANDIDATES = ("cc", "gcc", "clang")
_CXX_CANDIDATES = ("c++", "g++", "clang++")

#: A compiler that takes longer to print its version hangs.
_PROBE_SECONDS = 60.0


@dataclass(frozen=True)
class Compiler:
    """A compiler that answered.

    Attributes:
        command: The words to start it with, the first one an absolute path.
        path: The file that the first word stands for, all links followed.
        version: Its version, in the first line, and its target, as it prints them.
        programs: Files of the programs that a compile runs: the driver, and whatever it starts
            (compiler proper, assembler, linker).
        native_flags: What :attr:`for_this_cpu` means on this machine, flag by flag and in the
            compiler's order; empty where nothing is known of the CPU.
        for_this_cpu: Flags that make code for the CPU at hand: ``-march=native``; where the
            compiler refuses it, what comes next to it; empty where nothing does.
    """

    command: tuple[str, ...]
    path: Path
    version: str
    programs: tuple[Path, ...]
    native_flags: tuple[str, ...]
    for_this_cpu: tuple[str, ...]

    def identity(self, memo_folder: Path) -> dict[str, Any]:
        """JSON values that change when, and only when, another compiler makes the code.

        Where its files lie says nothing of what it does, so it is known by their content.

        Args:
            memo_folder: Where digests of its files are remembered; the folder of the cache.
        """
        return {
            "arguments": self.command[1:],
            "version": self.version,
            "programs": sorted(_identity_of(path, memo_folder) for path in self.programs),
        }


def find_c_compiler(spec: str | None = None, timeout: float = _PROBE_SECONDS) -> Compiler:
    """Find the C compiler.

    Args:
        spec: Command with arguments, shell-quoted (``"ccache gcc"``); None: the first of ``cc``,
            ``gcc`` and ``clang`` on the path.
        timeout: Seconds that it has to say what it is, at most a minute.

    Raises:
        CompilerNotFoundError: There is none, or what there is does not run.
    """
    return _find(spec, _C_CANDIDATES, "C", "CC", "c", timeout)


def find_cxx_compiler(spec: str | None = None, timeout: float = _PROBE_SECONDS) -> Compiler:
    """Find the C++ compiler; like :func:`find_c_compiler`, of ``c++``, ``g++`` and ``clang++``."""
    return _find(spec, _CXX_CANDIDATES, "C++", "CXX", "c++", timeout)


# Identity of a compiler file: command words, size and time of change. A compiler that is replaced
# while the process runs is asked again.
_Fingerprint = tuple[tuple[str, ...], Path, int, int]
_known: dict[_Fingerprint, Compiler] = {}
_known_lock = threading.Lock()


def _find(
    spec: str | None,
    candidates: tuple[str, ...],
    title: str,
    variable: str,
    language: str,
    timeout: float,
) -> Compiler:
    commands = [(name,) for name in candidates] if spec is None else [tuple(shlex.split(spec))]
    for words in commands:
        found = shutil.which(words[0])
        if found is None:
            continue
        path = Path(found).resolve()
        status = path.stat()
        command = (str(Path(found).absolute()), *words[1:])
        fingerprint = (command, path, status.st_size, status.st_mtime_ns)
        with _known_lock:
            compiler = _known.get(fingerprint)
            if compiler is None:
                compiler = _probe(command, path, title, variable, language, timeout)
                _known[fingerprint] = compiler
        return compiler
    raise CompilerNotFoundError(_not_found(spec, candidates, title, variable))


def _not_found(spec: str | None, candidates: tuple[str, ...], title: str, variable: str) -> str:
    advice = (
        f"Install one (on Debian and Ubuntu: apt-get install {candidates[1]}), "
        f"or set {variable} to the command of one that is there."
    )
    if spec is None:
        return (
            f"No {title} compiler was found: none of {', '.join(candidates)} is on the path, "
            f"and {variable} is not set. {advice}"
        )
    return (
        f"The {title} compiler {shlex.split(spec)[0]!r}, which {variable}={spec!r} names, "
        f"was not found or is no program. {advice}"
    )


def _probe(
    command: tuple[str, ...],
    path: Path,
    title: str,
    variable: str,
    language: str,
    timeout: float,
) -> Compiler:
    # "-###" prints what the driver would run, and runs nothing: the version, the target, and
    # -march=native spelled out as features, all in one call of a few milliseconds.
    asked = ["-###", "-shared", "-x", language, "/dev/null"]
    flags, *others = ways_to_name_this_cpu()
    try:
        status, text = ask([*command, *flags, *asked], timeout)
        if status != 0:
            flags = ()
            status, text = ask([*command, *asked], timeout)
        if status == 0 and not flags:
            flags = _first_understood(command, others, language, timeout)
            status, text = ask([*command, *flags, *asked], timeout)
    except (OSError, subprocess.TimeoutExpired) as error:
        status, text, flags = -1, f"it could not be started ({error})", ()
        if isinstance(error, subprocess.TimeoutExpired):
            text = f"it did not answer within {error.timeout:g} s and was killed"
    if status != 0:
        said = legible(text.strip()[-2000:]) or f"it ended with status {status} and said nothing"
        raise CompilerNotFoundError(
            f"The {title} compiler {shlex.join(command)} does not work: {said}\n"
            f"Set {variable} to the command of one that does."
        )
    return Compiler(
        command=command,
        path=path,
        version=_version(text),
        programs=_programs(path, text),
        native_flags=_native_flags(text) if flags else (),
        for_this_cpu=flags,
    )


def _first_understood(
    command: tuple[str, ...], ways: Iterable[tuple[str, ...]], language: str, timeout: float
) -> tuple[str, ...]:
    """The first of several flags that a compiler takes; "-###" would not let it look at them."""
    for flags in ways:
        if ask([*command, *flags, "-E", "-x", language, "/dev/null"], timeout)[0] == 0:
            return flags
    return ()


def ask(command: list[str], timeout: float, *, both: bool = False) -> tuple[int, str]:
    """Ask a compiler something.

    Args:
        command: What to run.
        timeout: Seconds that it has, at most a minute.
        both: Whether to listen to standard output, too.

    Returns:
        The exit status, and what it said on standard error.

    Raises:
        OSError: It could not be started.
        subprocess.TimeoutExpired: It did not answer, and was killed.
    """
    with subprocess.Popen(
        command,
        stdin=subprocess.DEVNULL,
        stdout=subprocess.PIPE if both else subprocess.DEVNULL,
        stderr=subprocess.PIPE,
        text=True,
        errors="replace",
        env=compiler_environment(),
        start_new_session=True,  # a group of its own, which can be ended as a whole
    ) as process:
        try:
            output, text = process.communicate(timeout=min(timeout, _PROBE_SECONDS))
        except BaseException:
            with contextlib.suppress(ProcessLookupError):
                os.killpg(process.pid, signal.SIGKILL)
            raise
    return process.returncode, (output or "") + text


def _version(text: str) -> str:
    """Pick the lines that name the version, which comes first, and the target."""
    lines = [line.strip() for line in text.splitlines()]
    kept = [line for line in lines if re.search(r"\bversion \d", line)]
    kept += [line for line in lines if line.startswith(("Target:", "Configured with:"))]
    return "\n".join(kept) if kept else text


def _programs(driver: Path, text: str) -> tuple[Path, ...]:
    """Find the files of the programs that ``-###`` says would run."""
    # GCC looks into these before it looks at the path.
    folders = re.findall(r"^COMPILER_PATH=(.*)$", text, re.M)
    names = [words[0] for words in _command_lines(text) if words]
    if any(Path(name).name == "collect2" for name in names):
        names.append("ld")  # what collect2 starts
    found = {driver}
    for name in names:
        program = shutil.which(name, path=folders[0]) if folders else None
        program = program or shutil.which(name)
        if program is not None:
            found.add(Path(program).resolve())
    return tuple(sorted(found))


def _command_lines(text: str) -> Iterator[list[str]]:
    """Commands that ``-###`` prints, word by word: the lines that begin with a space."""
    for line in text.splitlines():
        if line.startswith(" "):
            with contextlib.suppress(ValueError):  # no command after all
                yield shlex.split(line)


def _native_flags(text: str) -> tuple[str, ...]:
    """Pick the flags that describe the CPU from the command that ``-###`` prints."""
    for words in _command_lines(text):
        if words and (words[0].endswith(("cc1", "cc1plus")) or "-cc1" in words):
            return tuple(_cpu_words(words[1:]))
    return ()


def _identity_of(path: Path, memo_folder: Path) -> str:
    try:
        return file_sha256(path, memo_folder)
    except OSError:  # may be run, but not read
        return str(path)


def _cpu_words(words: list[str]) -> list[str]:
    kept = []
    previous = ""
    for word in words:
        if previous in ("--param", "-target-cpu", "-target-feature", "-tune-cpu"):
            kept.append(f"{previous}={word}")
        elif re.match(r"-m[a-z0-9]", word) and not word.startswith(("-main-file", "-mrelocation")):
            kept.append(word)
        previous = word
    return kept
