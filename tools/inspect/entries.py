"""One entry of a cache or a bundle: a folder with a kernel's source, its library, its manifest."""

from __future__ import annotations

import re
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from radam_codegen.errors import ArgumentError, PlanError
from radam_codegen.ir.plan import KernelStructure
from radam_codegen.ir.structure_name import structure_from_name
from radam_codegen.toolchain.manifest import find_fault, read_manifest
from radam_codegen.toolchain.safe_json import read_small
from radam_codegen.tools.inspect.model import CacheEntry
from radam_codegen.tools.inspect.text import MOST_SHOWN, printable, shown

__all__ = ["Subject", "read_entry"]

#: Longest source that is read, in bytes; the kernel of all classes of tensors has a tenth of it.
_MOST_SOURCE_BYTES = 4 * 1024 * 1024

_SOURCES = {"c": "kernel.c", "cuda": "kernel.cu"}


@dataclass(frozen=True)
class Subject:
    """A kernel that a target stands for: by structure alone, or as an entry of a folder.

    Attributes:
        structure: What shapes it.
        language: ``"c"`` or ``"cuda"``; that of the entry.
        entry: Its entry, where there is one.
        text: Its source as it lies there.
        library: Its library there.
    """

    structure: KernelStructure
    language: str = "c"
    entry: CacheEntry | None = None
    text: str | None = None
    library: Path | None = None


def read_entry(folder: Path) -> Subject:
    """Read the entry of a kernel.

    Raises:
        ArgumentError: It is no such entry, or its manifest or its source cannot be read.
    """
    where = shown(str(folder))
    try:
        build: Any = read_manifest(folder)["build"]
    except (OSError, ValueError) as error:
        reason = error.strerror if isinstance(error, OSError) else error
        raise ArgumentError(
            f"{where} is damaged: its manifest cannot be read ({reason})."
        ) from None
    name = build.get("name") if isinstance(build, dict) else None
    if not isinstance(name, str):
        raise ArgumentError(f"{where} is not the entry of a kernel: its manifest names none.")
    try:
        structure = structure_from_name(name)
    except PlanError as error:
        raise ArgumentError(f"{where} holds a kernel that is not known here: {error}") from None
    try:
        language = "cuda" if (folder / _SOURCES["cuda"]).is_file() else "c"
        content = read_small(folder / _SOURCES[language], _MOST_SOURCE_BYTES)
    except (OSError, ValueError) as error:
        reason = error.strerror if isinstance(error, OSError) else error
        raise ArgumentError(f"{where}: its source cannot be read ({reason}).") from None
    library = folder / "kernel.so"
    return Subject(
        structure,
        language,
        CacheEntry(
            key=printable(folder.name),
            folder=printable(str(folder)),
            cpu=printable(_said(build, "cpu") or _architectures(build))[:MOST_SHOWN],
            compiler=_version(_said(build, "compiler")),
            fault=find_fault(folder, folder.name),
        ),
        content.decode("utf-8", "replace"),
        library if library.is_file() else None,
    )


def _said(build: dict[str, Any], name: str) -> str:
    value = build.get(name)
    return value if isinstance(value, str) else ""


def _architectures(build: dict[str, Any]) -> str:
    numbers = build.get("architectures")
    known = [each for each in numbers if isinstance(each, int)] if isinstance(numbers, list) else []
    return ", ".join(f"sm_{each}" for each in known[:MOST_SHOWN])


def _version(compiler: str) -> str:
    """The one line of a compiler's description that a person wants."""
    lines = [line for line in compiler.splitlines() if re.search(r"\b(?:version|release) \d", line)]
    return printable(lines[0] if lines else compiler)[:MOST_SHOWN]
