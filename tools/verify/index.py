"""What the index of a bundle says, and what is there."""

from __future__ import annotations

import hashlib
import os
from collections.abc import Iterator
from pathlib import Path

from radam_codegen.errors import PlanError
from radam_codegen.ir.plan import UpdatePlan
from radam_codegen.toolchain.bundle_index import INDEX, BundleIndex, index_from_bytes
from radam_codegen.toolchain.bundle_writer import PLANS
from radam_codegen.toolchain.manifest import read_manifest
from radam_codegen.toolchain.recipe import CUDA_KERNELS, KERNELS, OPERATORS
from radam_codegen.toolchain.safe_json import read_small
from radam_codegen.tools.verify.report import Finding

__all__ = ["index_findings"]

#: Longer than any index and any plan.
_MOST_BYTES = 256 << 20


def index_findings(root: Path) -> Iterator[Finding]:
    """Compare a bundle with its index; a folder that has none is no bundle, and has no findings.

    Damage of an entry is not looked for; see :func:`radam_codegen.toolchain.manifest.find_fault`.
    """
    if not os.path.lexists(root / INDEX):
        return
    try:
        index = index_from_bytes(read_small(root / INDEX, _MOST_BYTES))
    except OSError as error:
        yield Finding(INDEX, f"cannot be read: {error.strerror}")
        return
    except ValueError as error:
        yield Finding(INDEX, str(error))
        return
    yield from _entries(root, index)
    yield from _plans(root, index)


def _entries(root: Path, index: BundleIndex) -> Iterator[Finding]:
    listed = dict(_listed(index))
    for (kind, key), manifest in sorted(listed.items()):
        entry = root / kind / key
        if not os.path.lexists(entry):
            yield Finding(f"{kind}/{key}", "is in the index, but not there")
            continue
        try:
            found = read_manifest(entry)["sha256"]
        except (OSError, ValueError):
            continue  # damaged, which is said of the entry
        if found != manifest:
            yield Finding(f"{kind}/{key}", "its manifest is not the one that the index lists")
    for kind in (KERNELS, CUDA_KERNELS, OPERATORS):
        for name in _names(root / kind):
            if (kind, name) not in listed:
                yield Finding(f"{kind}/{name}", "is there, but not in the index")


def _listed(index: BundleIndex) -> Iterator[tuple[tuple[str, str], str]]:
    for kernel in index.kernels.values():
        for variant in kernel.variants:
            yield (KERNELS, variant.key), variant.manifest
    for cuda_kernel in index.cuda_kernels.values():
        for library in cuda_kernel.variants:
            yield (CUDA_KERNELS, library.key), library.manifest
    for operator in index.operators:
        yield (OPERATORS, operator.key), operator.manifest


def _plans(root: Path, index: BundleIndex) -> Iterator[Finding]:
    for name, digest in sorted(index.plans.items()):
        place = f"{PLANS}/{name}"
        try:
            content = read_small(root / PLANS / name, _MOST_BYTES)
        except (OSError, ValueError) as error:
            yield Finding(place, f"cannot be read: {getattr(error, 'strerror', error)}")
            continue
        if hashlib.sha256(content).hexdigest() != digest:
            yield Finding(place, "is not as the index lists it")
            continue
        try:
            plan = UpdatePlan.from_json(content.decode("utf-8"))
        except (PlanError, UnicodeDecodeError) as error:
            yield Finding(place, f"cannot be understood: {str(error).splitlines()[0]}")
            continue
        for kernel in sorted({group.structure.name for group in plan.groups}):
            if kernel not in index.kernels and kernel not in index.cuda_kernels:
                yield Finding(place, f"wants the kernel {kernel}, which the bundle lacks")
    for name in _names(root / PLANS):
        if name not in index.plans:
            yield Finding(f"{PLANS}/{name}", "is there, but not in the index")


def _names(folder: Path) -> list[str]:
    try:
        return sorted(name for name in os.listdir(folder) if not name.startswith("."))
    except OSError:
        return []
