"""Rendering a source anew, and comparing."""

from __future__ import annotations

import itertools
from functools import cache
from pathlib import Path
from typing import Any

from radam_codegen.codegen import C_TARGET, CUDA_TARGET, KernelSource, render
from radam_codegen.errors import PlanError
from radam_codegen.ir.structure_name import structure_from_name
from radam_codegen.passes import lower_structure
from radam_codegen.toolchain.operator import operator_text
from radam_codegen.toolchain.recipe import CUDA_KERNELS, OPERATORS

__all__ = ["rendered", "source_fault"]


@cache
def rendered(name: str, kind: str) -> KernelSource:
    """The source of a kernel, rendered now.

    Args:
        name: Which kernel.
        kind: The folder that its entry lies in.

    Raises:
        PlanError: No kernel has that name.
    """
    target = CUDA_TARGET if kind == CUDA_KERNELS else C_TARGET
    return render(lower_structure(structure_from_name(name)), target)


def source_fault(entry: Path, build: dict[str, Any]) -> str | None:
    """Compare the source in an entry with what this version makes of the same structure.

    Args:
        entry: The folder.
        build: What its manifest says about the build.

    Returns:
        What differs; None when nothing does.
    """
    kind = entry.parent.name
    if kind == OPERATORS:
        path = entry / "operator.cc"
        return _difference(path, operator_text(), "the operator's source in this version")
    name = build.get("name")
    if not isinstance(name, str):
        return "its manifest does not say which kernel it is"
    try:
        source = rendered(name, kind)
    except PlanError as error:
        return f"{error}, so that its source cannot be rendered anew"
    path = entry / ("kernel.cu" if kind == CUDA_KERNELS else "kernel.c")
    return _difference(path, source.text, f"what this version renders for {name}")


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
