"""Rendering a source anew, and comparing."""

from __future__ import annotations

import itertools
from functools import cache
from pathlib import Path
from typing import Any

from radam_codegen.codegen import KernelSource, render
from radam_codegen.errors import PlanError
from radam_codegen.ir.structure_name import structure_from_name
from radam_codegen.passes import lower_structure
from radam_codegen.toolchain.operator import operator_text

__all__ = ["rendered", "source_fault"]


@cache
def rendered(name: str) -> KernelSource:
    """The source of the kernel of a name, rendered now.

    Raises:
        PlanError: No kernel has that name.
    """
    return render(lower_structure(structure_from_name(name)))


def source_fault(entry: Path, build: dict[str, Any]) -> str | None:
    """Compare the source in an entry with what this version makes of the same structure.

    Args:
        entry: The folder.
        build: What its manifest says about the build.

    Returns:
        What differs; None when nothing does.
    """
    if entry.parent.name == "operators":
        path = entry / "operator.cc"
        return _difference(path, operator_text(), "the operator's source in this version")
    name = build.get("name")
    if not isinstance(name, str):
        return "its manifest does not say which kernel it is"
    try:
        source = rendered(name)
    except PlanError as error:
        return f"{error}, so that its source cannot be rendered anew"
    return _difference(entry / "kernel.c", source.text, f"what this version renders for {name}")


def _difference(path: Path, expected: str, what: str) -> str | None:
    found = path.read_bytes()
    if found == expected.encode("utf-8"):
        return None
    lines = itertools.zip_longest(
        found.decode("utf-8", "replace").splitlines(), expected.splitlines()
    )
    # The texts may differ in how their lines end, and in nothing else.
    number = next((at for at, (a, b) in enumerate(lines, 1) if a != b), 1)
    return f"{path.name} is not {what}: they differ from line {number} on"
