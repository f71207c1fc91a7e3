"""How a library is made: everything that shapes it, its key, and the making."""

from __future__ import annotations

import functools
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from radam_codegen.config import Config
from radam_codegen.errors import CompileError
from radam_codegen.toolchain.cache import BuildFailedError, content_key, get_or_build
from radam_codegen.toolchain.diagnosis import describe_failure
from radam_codegen.toolchain.process import run_logged
from radam_codegen.toolchain.product import find_defect

__all__ = [
    "CUDA_KERNELS",
    "KERNELS",
    "LOG",
    "OPERATORS",
    "Artifact",
    "Recipe",
    "artifact_in",
    "compile_error",
    "obtain",
]

#: Kinds of libraries: folders of the cache and of bundles.
KERNELS = "kernels"
CUDA_KERNELS = "cuda-kernels"
OPERATORS = "operators"

#: Name of the source and of the library of each kind.
_FILES = {
    KERNELS: ("kernel.c", "kernel.so"),
    CUDA_KERNELS: ("kernel.cu", "kernel.so"),
    OPERATORS: ("operator.cc", "operator.so"),
}

#: Name of the file that holds the compiler's command and output.
LOG = "compiler.log"


@dataclass(frozen=True)
class Artifact:
    """A library that was compiled, now or earlier, in a folder with all that it came from.

    Attributes:
        key: Hash of everything that shaped it.
        library: The shared library.
        source: The source it was compiled from.
        log: What the compiler said, with its command.
        compiled: Whether this call compiled it, rather than finding it.
    """

    key: str
    library: Path
    source: Path
    log: Path
    compiled: bool


@dataclass(frozen=True)
class Recipe:
    """How one library is made.

    Attributes:
        kind: :data:`KERNELS`, :data:`CUDA_KERNELS` or :data:`OPERATORS`.
        title: What it is, to begin a message with.
        text: The source.
        command: The compiler's command; it runs in a folder that holds the source.
        shape: JSON values: everything that shapes the library's bytes, and nothing else.
        facts: JSON values: what the manifest says about the build.
        advice: What to do when the compiler refuses the source.
    """

    kind: str
    title: str
    text: str
    command: tuple[str, ...]
    shape: Mapping[str, Any]
    facts: Mapping[str, Any]
    advice: str

    @property
    def source(self) -> str:
        """Name of the file that is compiled."""
        return _FILES[self.kind][0]

    @property
    def library(self) -> str:
        """Name of the file that the compiler makes."""
        return _FILES[self.kind][1]

    @functools.cached_property
    def key(self) -> str:
        """Key of the library: the same for the same bytes, wherever and whenever it is made."""
        return content_key({"kind": self.kind, "source": self.text, **self.shape})

    def build(self, folder: Path, timeout: float | None = None) -> Mapping[str, Any]:
        """Make the library in a folder, and return what its manifest says about the build.

        Args:
            folder: An absolute path.
            timeout: Seconds that the compiler may take; None: as long as it likes.

        Raises:
            BuildFailedError: The compiler refused the source, could not be brought to an end, or
                made no library.
            OSError: The folder cannot be written.
        """
        (folder / self.source).write_text(self.text, encoding="utf-8")
        if run_logged(self.command, folder, folder / LOG, timeout) != 0:
            raise BuildFailedError(self.command)
        defect = find_defect(folder / self.library)
        if defect is not None:
            reason = f"{self.command[0]} ended without an error, but {defect}"
            with (folder / LOG).open("a", encoding="utf-8") as log:
                log.write(f"radam_codegen: error: {reason}\n")
            raise BuildFailedError(self.command, reason)
        return self.facts

    def artifact(self, folder: Path, *, compiled: bool) -> Artifact:
        """The library in the folder that it was made in."""
        return artifact_in(folder, self.kind, self.key, compiled=compiled)


def artifact_in(folder: Path, kind: str, key: str, *, compiled: bool) -> Artifact:
    """The library of a kind that lies in a folder."""
    source, library = _FILES[kind]
    return Artifact(key, folder / library, folder / source, folder / LOG, compiled)


def obtain(recipe: Recipe, config: Config) -> Artifact:
    """Find the library in the cache, or make it there.

    Raises:
        CompileError: The compiler refused the source; its log is kept.
        ArtifactError: Neither the cache nor a temporary folder can be written.
    """
    try:
        entry = get_or_build(
            config.cache_dir,
            recipe.kind,
            recipe.key,
            functools.partial(recipe.build, timeout=config.compile_timeout),
            cache_size=config.cache_size,
            lock_timeout=config.lock_timeout,
        )
    except BuildFailedError as failure:
        raise compile_error(recipe, failure) from None
    return recipe.artifact(entry.folder, compiled=entry.built)


def compile_error(recipe: Recipe, failure: BuildFailedError) -> CompileError:
    """What to raise where a library could not be made: the first error, the command, the log."""
    return CompileError(
        describe_failure(
            recipe.title,
            failure.command,
            failure.folder / LOG,
            failure.folder / recipe.source,
            recipe.advice,
        )
    )
