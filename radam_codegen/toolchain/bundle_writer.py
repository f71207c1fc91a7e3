"""Making a bundle, or adding to one.

Entries are made as in the cache: privately, then visible by one rename. The index is replaced last.
Whenever the process ends before, the bundle is as it was, and what was made lies ready for the next
try.
"""

from __future__ import annotations

import contextlib
import errno
import fcntl
import functools
import hashlib
import os
import time
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

from radam_codegen.errors import ArtifactError
from radam_codegen.toolchain.bundle_index import (
    INDEX,
    BundledCudaKernel,
    BundledKernel,
    BundleIndex,
    CudaVariant,
    Variant,
    index_from_bytes,
    index_to_bytes,
)
from radam_codegen.toolchain.cache.durable import sync_folder
from radam_codegen.toolchain.cache.failure import BuildFailedError
from radam_codegen.toolchain.cache.layout import FAILED, KEY, KINDS, key_of_leftover, listed
from radam_codegen.toolchain.cache.publish import build_entry
from radam_codegen.toolchain.cache.removal import delete, remove_entry
from radam_codegen.toolchain.forks import KeyedLocks
from radam_codegen.toolchain.manifest import find_fault, read_manifest
from radam_codegen.toolchain.recipe import CUDA_KERNELS, KERNELS, Recipe, compile_error

__all__ = ["PLANS", "BundleWriter", "Made", "write_bundle"]

#: Folder of plans.
PLANS = "plans"

_NEW_INDEX = f".new-{INDEX}"
_POLL_SECONDS = 0.1


@dataclass(frozen=True)
class Made:
    """An entry of the bundle.

    Attributes:
        key: Its folder's name.
        manifest: SHA-256 that its manifest states of itself.
        compiled: Whether it was made now, rather than being there.
    """

    key: str
    manifest: str
    compiled: bool


class BundleWriter:
    """A bundle that this process alone may change; see :func:`write_bundle`.

    Attributes:
        folder: Where it is.
        old: Its index so far; None where there is none. One that cannot be used counts as that of
            another version of this package.
    """

    def __init__(self, folder: Path, old: BundleIndex | None, compile_timeout: float) -> None:
        self.folder = folder
        self.old = old
        self._compile_timeout = compile_timeout
        self._locks = KeyedLocks()

    def add(self, recipe: Recipe) -> Made:
        """Have an entry in the bundle; several threads may do so.

        Raises:
            CompileError: The compiler refused the source; its log is kept.
            OSError: The folder cannot be written.
        """
        with self._locks.of(recipe.key):
            target = self.folder / recipe.kind / recipe.key
            fault = find_fault(target, recipe.key)
            if fault is not None:
                self._make(recipe, target)
            return Made(recipe.key, read_manifest(target)["sha256"], compiled=fault is not None)

    def add_plan(self, text: str) -> tuple[str, str]:
        """Keep a plan; returns the name of its file, and its SHA-256.

        Raises:
            OSError: The folder cannot be written.
        """
        digest = hashlib.sha256(text.encode("ascii")).hexdigest()
        name = f"{digest[:32]}.json"
        _write(self.folder / PLANS / name, text.encode("ascii"))
        return name, digest

    def publish(self, index: BundleIndex) -> None:
        """Replace the index, and remove what neither it nor anybody else needs.

        Raises:
            OSError: The folder cannot be written; the bundle is as it was.
        """
        _write(self.folder / INDEX, index_to_bytes(index))
        used = {each.key for kernel in index.kernels.values() for each in kernel.variants}
        used |= {each.key for kernel in index.cuda_kernels.values() for each in kernel.variants}
        used |= {each.key for each in index.operators}
        for kind in KINDS:
            for path in listed(self.folder / kind):
                if KEY.fullmatch(path.name) and path.name not in used:
                    remove_entry(path, path.name)
        for path in listed(self.folder / PLANS):
            if path.name not in index.plans:
                delete(path)
        for kind in (*KINDS, PLANS):
            with contextlib.suppress(OSError):  # those that hold something stay
                (self.folder / kind).rmdir()

    def _make(self, recipe: Recipe, target: Path) -> None:
        if os.path.lexists(target):
            remove_entry(target, recipe.key)
        build = functools.partial(self._build, recipe)
        own_copy = functools.partial(_refuse_copy, target)
        try:
            build_entry(self.folder, recipe.kind, recipe.key, build, own_copy)
        except BuildFailedError as failure:
            raise compile_error(recipe, failure) from None

    def _build(self, recipe: Recipe, private: Path) -> Mapping[str, Any]:
        # Made for one user's eyes, as in the cache; a bundle is for all that its folder is for.
        private.chmod(self.folder.stat().st_mode & 0o777)
        return recipe.build(private, self._compile_timeout)


@contextlib.contextmanager
def write_bundle(
    folder: Path, *, lock_timeout: float, compile_timeout: float
) -> Iterator[BundleWriter]:
    """Hold a bundle for changing it; made where it is missing.

    Args:
        folder: A bundle, an empty folder, or the name of a new one.
        lock_timeout: Longest wait for another process that changes it, in seconds.
        compile_timeout: Seconds after which a compiler is ended.

    Raises:
        ArtifactError: The folder holds something else, or cannot be written; or the wait was too
            long.
    """
    folder = folder.absolute()
    if "\0" in str(folder):
        raise ArtifactError(f"{str(folder)!r} cannot be a folder: it has a NUL in its name.")
    try:
        folder.mkdir(parents=True, exist_ok=True)
        with _held(folder, lock_timeout):
            old = _old_index(folder)
            for kind in KINDS:
                if (folder / kind).is_symlink():
                    raise ArtifactError(f"{folder / kind} is a link; a bundle holds no links.")
                (folder / kind).mkdir(exist_ok=True)
                for path in listed(folder / kind):
                    if key_of_leftover(path) is not None:
                        delete(path)
            (folder / PLANS).mkdir(exist_ok=True)
            delete(folder / FAILED)
            yield BundleWriter(folder, old, compile_timeout)
    except OSError as error:
        raise ArtifactError(
            f"The bundle {folder} cannot be written: {error}. It is as it was before."
        ) from error


def _old_index(folder: Path) -> BundleIndex | None:
    there = {path.name for path in folder.iterdir()}
    if INDEX in there:
        try:
            return index_from_bytes((folder / INDEX).read_bytes())
        except ValueError:
            return _index_of_entries(folder)
    others = sorted(there - {*KINDS, PLANS, FAILED, _NEW_INDEX})
    if others:
        raise ArtifactError(
            f"{folder} is no bundle, and not empty: it holds {others[0]!r}. Name another folder."
        )
    return None


def _index_of_entries(folder: Path) -> BundleIndex:
    """What the index may have said that is damaged, of no version, so that all is made anew."""
    kernels: dict[str, BundledKernel] = {}
    for path, build, digest in _kernels_in(folder / KERNELS):
        cpu = build.get("cpu")
        if isinstance(cpu, str):
            made = Variant(cpu, build["machine"], (), path.name, digest)
            before = kernels.get(build["name"], BundledKernel("", ()))
            kernels[build["name"]] = replace(before, variants=(*before.variants, made))
    cuda: dict[str, BundledCudaKernel] = {}
    for path, build, digest in _kernels_in(folder / CUDA_KERNELS):
        numbers = build.get("architectures")
        if isinstance(numbers, list) and all(isinstance(each, int) for each in numbers):
            library = CudaVariant(build["machine"], tuple(numbers), path.name, digest)
            there = cuda.get(build["name"], BundledCudaKernel("", ()))
            cuda[build["name"]] = replace(there, variants=(*there.variants, library))
    return BundleIndex(version="", kernels=kernels, cuda_kernels=cuda)


def _kernels_in(folder: Path) -> Iterator[tuple[Path, dict[str, Any], str]]:
    """Entries that say which kernel they are: what their manifests say, and its SHA-256."""
    for path in listed(folder):
        with contextlib.suppress(OSError, ValueError, KeyError, TypeError):
            manifest = read_manifest(path)
            build = manifest["build"]
            if isinstance(build["name"], str) and isinstance(build["machine"], str):
                yield path, build, manifest["sha256"]


@contextlib.contextmanager
def _held(folder: Path, timeout: float) -> Iterator[None]:
    # The folder itself is locked: that leaves no file behind, and ends with this process.
    descriptor = os.open(folder, os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC)
    end = time.monotonic() + timeout
    try:
        while True:
            try:
                fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
                break
            except OSError as error:
                if error.errno not in (errno.EWOULDBLOCK, errno.EACCES):
                    break  # a file system without locks
            if time.monotonic() >= end:
                raise ArtifactError(
                    f"Another `radam-codegen aot` has been writing the bundle {folder} for more "
                    f"than {timeout:g} s. Wait for it to end, or name another folder."
                )
            time.sleep(_POLL_SECONDS)
        yield
    finally:
        os.close(descriptor)


def _write(path: Path, content: bytes) -> None:
    new = path.with_name(f".new-{path.name}")
    with new.open("wb") as stream:
        stream.write(content)
        stream.flush()
        os.fsync(stream.fileno())
    new.replace(path)
    sync_folder(path.parent)


def _refuse_copy(target: Path) -> Path:
    raise OSError(errno.EEXIST, "it holds something that cannot be read", str(target))
