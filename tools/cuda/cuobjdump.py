"""Starting cuobjdump, which reads libraries of CUDA kernels; it needs nvdisasm."""

from __future__ import annotations

import importlib.util
import os
import shutil
import subprocess
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

from radam_codegen.errors import ToolchainError
from radam_codegen.toolchain.process import compiler_environment

__all__ = ["Cuobjdump", "find_cuobjdump"]

_INSTALLED = Path("/usr/local/cuda/bin")
_NAMES = ("cuobjdump", "nvdisasm")
_ADVICE = (
    "Install CUDA's binary utilities (on any machine: pip install "
    "nvidia-cuda-cuobjdump nvidia-cuda-nvdisasm), or put their folder on the path."
)


@dataclass(frozen=True)
class Cuobjdump:
    """A cuobjdump, and the nvdisasm that it is to use; absolute paths."""

    cuobjdump: Path
    nvdisasm: Path

    def read(self, option: str, library: Path, timeout: float = 120.0) -> str:
        """Read a library.

        Args:
            option: What to print: ``--dump-sass``, ``--dump-ptx`` or ``--dump-resource-usage``.
            library: A shared library, fat binary, or cubin.
            timeout: Seconds after which it is killed.

        Raises:
            ToolchainError: It does not work, or cannot read the file.
        """
        command = [str(self.cuobjdump), option, str(library)]
        environment = compiler_environment()
        environment["NVDISASM_PATH"] = str(self.nvdisasm.parent)
        try:
            done = subprocess.run(
                command,
                stdin=subprocess.DEVNULL,
                capture_output=True,
                timeout=timeout,
                env=environment,
                check=False,
            )
        except (OSError, subprocess.TimeoutExpired) as error:
            raise ToolchainError(f"cuobjdump cannot be run: {error}") from error
        if done.returncode != 0:
            said = done.stderr.decode(errors="replace").strip()[-500:]
            raise ToolchainError(f"cuobjdump cannot read {library}: {said}")
        return done.stdout.decode(errors="replace")


def find_cuobjdump() -> Cuobjdump:
    """Find cuobjdump and nvdisasm on the path, in ``/usr/local/cuda``, or in wheels.

    Raises:
        ToolchainError: One of them is missing or may not be executed.
    """
    return Cuobjdump(*(_find(name) for name in _NAMES))


def _find(name: str) -> Path:
    found = shutil.which(name)
    if found is not None:
        return Path(found).absolute()
    for path in (_INSTALLED / name, *_in_wheels(name)):
        if path.is_file():
            if os.access(path, os.X_OK):
                return path
            raise ToolchainError(
                f"{path} may not be executed, as its installation lost that permission. To give "
                f"it back: chmod +x {path}"
            )
    raise ToolchainError(
        f"{name} was not found: it is neither on the path, nor in {_INSTALLED}, nor among the "
        f"installed wheels. {_ADVICE}"
    )


def _in_wheels(name: str) -> Iterator[Path]:
    """Where wheels have a program, the newest CUDA first."""
    spec = importlib.util.find_spec("nvidia")
    for folder in spec.submodule_search_locations or () if spec is not None else ():
        yield from sorted(Path(folder).glob(f"cu*/bin/{name}"), reverse=True)
