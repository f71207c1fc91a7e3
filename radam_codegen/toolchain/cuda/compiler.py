"""Finding nvcc, and finding out what it is.

It is looked for on the path, where NVIDIA's installers put it, and in the wheels that the extra
``cuda`` of this package installs. The wheels have it in ``nvidia/cu13/bin``, beside a ``lib`` that
it does not look into by itself.
"""

from __future__ import annotations

import importlib.util
import os
import re
import shlex
import shutil
import subprocess
import threading
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from radam_codegen.errors import CompilerNotFoundError
from radam_codegen.toolchain.compiler import Compiler, ask, find_cxx_compiler
from radam_codegen.toolchain.digests import file_sha256

__all__ = ["CudaCompiler", "find_cuda_compiler"]

_INSTALLED = Path("/usr/local/cuda/bin/nvcc")

#: What nvcc starts, beside the host compiler; the first is nvcc itself, behind any script.
_PROGRAMS = ("nvcc", "cudafe++", "ptxas", "fatbinary", "nvlink")
_RUNTIME = "libcudart_static.a"

_ADVICE = (
    "Install CUDA 12 or newer (on any machine: pip install 'radam-codegen[cuda]'), or set NVCC to "
    "the command of an nvcc that is there."
)


@dataclass(frozen=True)
class CudaCompiler:
    """An nvcc that answered, with the C++ compiler that it is to use.

    Attributes:
        command: The words to start it with, the first one an absolute path.
        version: What ``nvcc --version`` prints.
        architectures: What it compiles for, as in ``sm_90``: 90, sorted.
        programs: Files that shape what it makes: the programs that a compile runs, and the static
            runtime library.
        libraries: Folders of libraries that it does not find by itself.
        host: The C++ compiler.
        host_flags: Arguments that the C++ compiler's command has.
    """

    command: tuple[str, ...]
    version: str
    architectures: tuple[int, ...]
    programs: tuple[Path, ...]
    libraries: tuple[Path, ...]
    host: Compiler
    host_flags: tuple[str, ...]

    def identity(self, memo_folder: Path) -> dict[str, Any]:
        """JSON values that change when, and only when, another compiler makes the code.

        Args:
            memo_folder: Where digests of its files are remembered; the folder of the cache.
        """
        return {
            "arguments": self.command[1:],
            "version": self.version,
            "programs": sorted(file_sha256(path, memo_folder) for path in self.programs),
            "host": self.host.identity(memo_folder),
        }


# By command words, file, size and time of change: an nvcc that is replaced is asked again.
_Fingerprint = tuple[tuple[str, ...], int, int, Compiler]
_known: dict[_Fingerprint, CudaCompiler] = {}
_known_lock = threading.Lock()


def find_cuda_compiler(
    spec: str | None = None, cxx: str | None = None, timeout: float = 60.0
) -> CudaCompiler:
    """Find nvcc and the C++ compiler that it is to use.

    Args:
        spec: Command of nvcc with arguments, shell-quoted; None: on the path, else in
            ``/usr/local/cuda``, else in the wheels.
        cxx: Command of the C++ compiler, as :func:`find_cxx_compiler` takes it. A first word that
            only starts the second, such as ``ccache``, is left out: nvcc takes one program.
        timeout: Seconds that each has to say what it is.

    Raises:
        CompilerNotFoundError: One of them is missing or does not run.
    """
    command = _command(spec)
    host = find_cxx_compiler(_without_launcher(cxx), timeout)
    status = Path(command[0]).stat()
    fingerprint = (command, status.st_size, status.st_mtime_ns, host)
    with _known_lock:
        if fingerprint not in _known:
            _known[fingerprint] = _probe(command, host, timeout)
        return _known[fingerprint]


def _command(spec: str | None) -> tuple[str, ...]:
    if spec is not None:
        words = shlex.split(spec)
        found = shutil.which(words[0])
        if found is None:
            raise CompilerNotFoundError(
                f"The CUDA compiler {words[0]!r}, which NVCC={spec!r} names, was not found or is "
                f"no program. {_ADVICE}"
            )
        return (str(Path(found).absolute()), *words[1:])
    found = shutil.which("nvcc")
    if found is not None:
        return (str(Path(found).absolute()),)
    for path in (_INSTALLED, *_in_wheels()):
        if path.is_file():
            _check_executable(path)
            return (str(path),)
    raise CompilerNotFoundError(
        f"No CUDA compiler was found: nvcc is neither on the path, nor {_INSTALLED}, nor among the "
        f"installed wheels, and NVCC is not set. {_ADVICE}"
    )


def _in_wheels() -> Iterator[Path]:
    """Where wheels have nvcc, the newest CUDA first."""
    spec = importlib.util.find_spec("nvidia")
    for folder in spec.submodule_search_locations or () if spec is not None else ():
        yield from sorted(Path(folder).glob("cu*/bin/nvcc"), reverse=True)


def _check_executable(path: Path) -> None:
    """Some installers drop the permission to execute what a wheel holds."""
    if not os.access(path, os.X_OK):
        raise CompilerNotFoundError(
            f"{path} may not be executed, as its installation lost that permission. To give it "
            f"back: chmod +x {shlex.quote(str(path.parent))}/*"
        )


def _without_launcher(cxx: str | None) -> str | None:
    words = shlex.split(cxx) if cxx is not None else []
    if len(words) > 1 and not words[1].startswith("-"):
        return shlex.join(words[1:])
    return cxx


def _probe(command: tuple[str, ...], host: Compiler, timeout: float) -> CudaCompiler:
    version = _said([*command, "--version"], timeout)
    codes = _said([*command, "--list-gpu-code"], timeout)
    architectures = sorted({int(code) for code in re.findall(r"^sm_(\d+)$", codes, re.M)})
    # Prints where everything is, and the commands that it would run, and runs nothing.
    places = dict(
        re.findall(
            r"^#\$ (_HERE_|TOP|CICC_PATH|LIBRARIES)=\s*(.*?)\s*$",
            _said([*command, "--dryrun", "-x", "cu", os.devnull, "-o", os.devnull], timeout),
            re.M,
        )
    )
    if not architectures or not {"_HERE_", "TOP", "CICC_PATH"} <= set(places):
        raise CompilerNotFoundError(
            f"{shlex.join(command)} does not answer as nvcc does. Set NVCC to the command of one."
        )
    programs = [Path(places["_HERE_"], name) for name in _PROGRAMS]
    programs.append(Path(places["CICC_PATH"], "cicc"))
    for path in programs:
        if path.is_file():
            _check_executable(path)
    known = [Path(folder) for folder in re.findall(r'"-L(.*?)"', places.get("LIBRARIES", ""))]
    libraries: list[Path] = []
    if not any((folder / _RUNTIME).is_file() for folder in known):
        libraries = [Path(os.path.normpath(places["TOP"])) / "lib"]
    shaping = [*programs, *(folder / _RUNTIME for folder in (*known, *libraries))]
    return CudaCompiler(
        command=command,
        version=version.strip(),
        architectures=tuple(architectures),
        programs=tuple(sorted({path.resolve() for path in shaping if path.is_file()})),
        libraries=tuple(libraries),
        host=host,
        host_flags=host.command[1:],
    )


def _said(command: list[str], timeout: float) -> str:
    try:
        status, text = ask(command, timeout, both=True)
    except subprocess.TimeoutExpired as error:
        status, text = -1, f"it did not answer within {error.timeout:g} s and was killed"
    except OSError as error:
        status, text = -1, f"it could not be started ({error})"
    if status != 0:
        raise CompilerNotFoundError(
            f"The CUDA compiler does not work: {shlex.join(command)}: "
            f"{text.strip()[-2000:] or f'it ended with status {status}'}\n{_ADVICE}"
        )
    return text
