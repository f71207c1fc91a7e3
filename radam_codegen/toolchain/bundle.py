"""Ahead-of-time bundles: folders of compiled files that need no compiler to be used.

    <bundle>/bundle.json          the index, which is written last
    <bundle>/kernels/<key>/       a kernel for one CPU, as an entry of the cache
    <bundle>/cuda-kernels/<key>/  a kernel for GPUs, likewise
    <bundle>/operators/<key>/     the operator for one Paddle, likewise
    <bundle>/plans/<key>.json     plans that kernels were asked for with

Nothing in a bundle depends on where it is. Reading one changes nothing in it.
"""

from __future__ import annotations

import os
import platform
import shlex
import stat
from collections.abc import Collection, Iterable, Mapping
from dataclasses import dataclass
from functools import lru_cache
from pathlib import Path
from typing import TypeVar, Union

from radam_codegen._version import __version__
from radam_codegen.codegen.source import KernelSource
from radam_codegen.errors import ArtifactError
from radam_codegen.toolchain.abi import abi_version, cuda_abi_version
from radam_codegen.toolchain.bundle_index import (
    INDEX,
    BundledCudaKernel,
    BundledKernel,
    BundledOperator,
    BundleIndex,
    CudaVariant,
    Variant,
    index_from_bytes,
)
from radam_codegen.toolchain.cache.layout import KINDS
from radam_codegen.toolchain.gpus import suits
from radam_codegen.toolchain.manifest import find_fault, read_manifest
from radam_codegen.toolchain.recipe import CUDA_KERNELS, KERNELS, OPERATORS, Artifact, artifact_in
from radam_codegen.toolchain.safe_json import read_small

__all__ = ["Bundle", "Miss", "aot_command", "open_bundle"]

_MOST_INDEX_BYTES = 64 << 20
_MOST_NAMES_SHOWN = 3

_ListedKernel = TypeVar("_ListedKernel", BundledKernel, BundledCudaKernel)
_ListedEntry = Union[Variant, CudaVariant, BundledOperator]


@dataclass(frozen=True)
class Miss:
    """Why a bundle does not have what is wanted.

    Attributes:
        reason: A sentence without its full stop.
        there: Whether the bundle has it and yet it cannot be used.
    """

    reason: str
    there: bool


@dataclass(frozen=True)
class Bundle:
    """A bundle that can be read.

    Attributes:
        folder: Where it is.
        index: What it says that it holds.
    """

    folder: Path
    index: BundleIndex

    def find_kernel(
        self, source: KernelSource, features: Collection[str], machine: str | None = None
    ) -> Artifact | Miss:
        """Find the kernel for a source that suits a CPU best.

        Every file of it is compared with the manifest, and the manifest with the index.

        Args:
            source: What it must have been compiled from, to the last byte.
            features: What the CPU can do; see :func:`radam_codegen.toolchain.cpu.cpu_features`.
            machine: The kind of CPU; that of this machine when None.
        """
        machine = platform.machine() if machine is None else machine
        kernel = self._listed(self.index.kernels, source)
        if isinstance(kernel, Miss):
            return kernel
        suitable = [
            each
            for each in kernel.variants
            if each.machine == machine and set(each.needs) <= set(features)
        ]
        if not suitable:
            return Miss(_why_not(kernel, features, machine), True)
        best = max(suitable, key=lambda each: (len(each.needs), each.cpu))
        return self._take(KERNELS, best)

    def find_cuda_kernel(
        self, source: KernelSource, gpus: Collection[int], machine: str | None = None
    ) -> Artifact | Miss:
        """Find the CUDA kernel for a source; checked as :meth:`find_kernel` does.

        Args:
            source: What it must have been compiled from, to the last byte.
            gpus: Architectures of the GPUs, one of which must be able to run it; none where they
                are not known. See :func:`radam_codegen.toolchain.gpus.gpus_here`.
            machine: The kind of CPU; that of this machine when None.
        """
        machine = platform.machine() if machine is None else machine
        if self.index.cuda_abi != cuda_abi_version():
            return self._of_another_cuda_abi()
        kernel = self._listed(self.index.cuda_kernels, source)
        if isinstance(kernel, Miss):
            return kernel
        for each in kernel.variants:
            if each.machine == machine:
                if gpus and not any(suits(each.architectures, gpu) for gpu in gpus):
                    return Miss(_for_other_gpus(each, gpus), True)
                return self._take(CUDA_KERNELS, each)
        return Miss(_of_other_machines(kernel, machine), True)

    def find_operator(
        self, paddle: str, source: str, *, cuda: bool = False, machine: str | None = None
    ) -> Artifact | Miss:
        """Find the operator for a version of Paddle.

        Args:
            paddle: The version.
            source: What it must have been compiled from, to the last byte.
            cuda: Whether that Paddle can use a GPU, so that the operator calls CUDA kernels.
            machine: The kind of CPU; that of this machine when None.
        """
        machine = platform.machine() if machine is None else machine
        if self.index.abi != abi_version() or self.index.version != __version__:
            return self._of_another_version()
        if cuda and self.index.cuda_abi != cuda_abi_version():
            return self._of_another_cuda_abi()
        mine = [each for each in self.index.operators if each.machine == machine]
        for each in mine:
            if each.paddle == paddle:
                found = self._take(OPERATORS, each)
                if isinstance(found, Artifact) and found.source.read_bytes() != source.encode():
                    return Miss("its operator was compiled from another source", True)
                return found
        if not mine:
            return Miss(f"it holds no operator for {machine}", False)
        versions = ", ".join(sorted(each.paddle for each in mine))
        return Miss(f"its operators are for Paddle {versions}", True)

    def describe(self) -> str:
        """What the bundle has, in a line."""
        index = self.index
        paddles = ", ".join(sorted({each.paddle for each in index.operators})) or "no Paddle"
        cuda = f"; CUDA kernels: {_some(index.cuda_kernels)}" if index.cuda_kernels else ""
        return (
            f"made by radam_codegen {index.version}; kernels: {_some(index.kernels)}{cuda}; "
            f"operator for: {paddles}"
        )

    def _listed(
        self, kernels: Mapping[str, _ListedKernel], source: KernelSource
    ) -> _ListedKernel | Miss:
        """The kernel of a source, if this version can use it."""
        kernel = kernels.get(source.name)
        if self.index.abi != abi_version():
            return self._of_another_version()
        if kernel is not None and kernel.source == source.sha256:
            return kernel
        if self.index.version != __version__:
            return self._of_another_version()
        if kernel is None:
            return Miss("it holds no kernel of this name", False)
        return Miss(
            "its kernel of this name was compiled from another source than this installation "
            "renders",
            True,
        )

    def _of_another_version(self) -> Miss:
        return self._made_for("kernel ABI", self.index.abi, abi_version())

    def _of_another_cuda_abi(self) -> Miss:
        return self._made_for("CUDA kernel ABI", self.index.cuda_abi, cuda_abi_version())

    def _made_for(self, which: str, made: int, spoken: int) -> Miss:
        if self.index.version != __version__:
            return Miss(
                f"it was made by radam_codegen {self.index.version}, and this is {__version__}",
                True,
            )
        return Miss(
            f"it was made for version {made} of the {which}, and radam_codegen {__version__} "
            f"speaks version {spoken}",
            True,
        )

    def _take(self, kind: str, listed: _ListedEntry) -> Artifact | Miss:
        folder = self.folder / kind / listed.key
        fault = _find_fault(self.folder, folder, listed)
        if fault is not None:
            return Miss(f"its entry {kind}/{listed.key} is damaged: {fault}", True)
        return artifact_in(folder, kind, listed.key, compiled=False)


def aot_command(folder: Path, *options: str) -> str:
    """The command that adds to a bundle."""
    return shlex.join(["radam-codegen", "aot", *options, "--out", str(folder)])


def open_bundle(folder: Path) -> Bundle:
    """Read the index of a bundle, unless it was read before and has not changed since.

    Raises:
        ArtifactError: The folder is no bundle that this version can read, or others can write
            to it.
    """
    index = folder / INDEX
    try:
        status = index.stat()
    except OSError as error:
        raise ArtifactError(
            f"{folder} is no bundle: {INDEX} in it cannot be read ({error.strerror})."
        ) from None
    _check_writers(folder)
    return _open(folder, (status.st_dev, status.st_ino, status.st_size, status.st_mtime_ns))


@lru_cache(maxsize=4)
def _open(folder: Path, _identity: tuple[int, ...]) -> Bundle:
    try:
        return Bundle(folder, index_from_bytes(read_small(folder / INDEX, _MOST_INDEX_BYTES)))
    except (OSError, ValueError) as error:
        reason = error.strerror if isinstance(error, OSError) else error
        raise ArtifactError(f"The index {folder / INDEX} cannot be used: {reason}.") from None


def _check_writers(folder: Path) -> None:
    # Whose it is does not matter, for who names a bundle trusts its owner; that anybody may put
    # code into it does.
    for each in (folder, *(folder / kind for kind in KINDS)):
        try:
            mode = os.stat(each).st_mode
        except OSError:
            continue
        if mode & stat.S_IWOTH:
            raise ArtifactError(
                f"Every user can write to {each}, and so could have this process run any code. "
                f"If you trust what is in it: chmod -R o-w {shlex.quote(str(folder))}"
            )


def _find_fault(root: Path, folder: Path, listed: _ListedEntry) -> str | None:
    if folder.parent.is_symlink():
        return f"{folder.parent.name} is a link"
    fault = find_fault(folder, listed.key)
    if fault is not None:
        return fault
    try:
        if read_manifest(folder)["sha256"] != listed.manifest:
            return f"its manifest is not the one that {root / INDEX} lists"
    except (OSError, ValueError) as error:
        return f"its manifest cannot be read ({error})"
    return None


def _why_not(kernel: BundledKernel, features: Collection[str], machine: str) -> str:
    mine = [each for each in kernel.variants if each.machine == machine]
    if not mine:
        return _of_other_machines(kernel, machine)
    reasons = []
    for each in mine:
        lacking = sorted(set(each.needs) - set(features))
        shown = ", ".join(lacking[:_MOST_NAMES_SHOWN])
        more = f" and {len(lacking) - _MOST_NAMES_SHOWN} more" * (len(lacking) > _MOST_NAMES_SHOWN)
        reasons.append(f"{each.cpu} (needs {shown}{more})")
    return f"its kernel of this name is for CPUs that can do more: {'; '.join(reasons)}"


def _for_other_gpus(variant: CudaVariant, gpus: Collection[int]) -> str:
    made = ", ".join(f"sm_{each}" for each in variant.architectures)
    here = ", ".join(f"sm_{each}" for each in sorted(gpus))
    return (
        f"its kernel of this name runs on no GPU of this machine, which has {here}: it is for "
        f"{made}, and what is newer than that"
    )


def _of_other_machines(kernel: BundledKernel | BundledCudaKernel, machine: str) -> str:
    machines = ", ".join(sorted({each.machine for each in kernel.variants})) or "no machine"
    return f"its kernel of this name is for {machines}, and this is {machine}"


def _some(names: Iterable[str]) -> str:
    first = list(names)
    shown = ", ".join(first[:_MOST_NAMES_SHOWN]) or "none"
    more = len(first) - _MOST_NAMES_SHOWN
    return f"{shown} and {more} more" if more > 0 else shown
