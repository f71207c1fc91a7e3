"""Folders in which anything may happen, and servers that fork processes into them."""

from __future__ import annotations

import contextlib
import shutil
from collections.abc import Iterator
from pathlib import Path

import pytest
from support.fork_server import ForkServer

#: What the smallest kernel makes of 1, 2, ..., 40.
VALUES = [number + 0.5 for number in range(40)]


class Sandbox:
    """A cache and a folder for temporary files, alone in a folder.

    Attributes:
        root: The folder.
        cache: The cache in it.
        temporary: What ``TMPDIR`` names.
    """

    def __init__(self, root: Path) -> None:
        self.root = root
        self.cache = root / "cache"
        self.temporary = root / "tmp"
        self.temporary.mkdir(parents=True)

    def empty(self) -> None:
        shutil.rmtree(self.root)
        self.temporary.mkdir(parents=True)

    def contents(self) -> set[str]:
        """Everything that is there, less what may stay: failed builds, digests of compilers."""
        found = {str(path.relative_to(self.root)) for path in self.root.rglob("*")}
        kept = ("cache/failed/", "cache/digests.json/")
        return {path for path in found if not f"{path}/".startswith(kept)}

    def entry(self) -> Path:
        """The one kernel in the cache."""
        (entry,) = (self.cache / "kernels").iterdir()
        return entry

    def expected(self, key: str) -> set[str]:
        """What is there after a build of one kernel, whatever happened before."""
        files = ("compiler.log", "kernel.c", "kernel.so", "manifest.json")
        return {
            "cache",
            "cache/counters.json",
            "cache/kernels",
            f"cache/kernels/{key}",
            *(f"cache/kernels/{key}/{name}" for name in files),
            "cache/locks",
            f"cache/locks/{key}.lock",
            "cache/locks/probe",
            "tmp",
        }


@pytest.fixture(scope="module")
def sandbox(tmp_path_factory: pytest.TempPathFactory) -> Sandbox:
    return Sandbox(tmp_path_factory.mktemp("sandbox") / "watched")


@pytest.fixture(scope="module")
def server(tmp_path_factory: pytest.TempPathFactory, sandbox: Sandbox) -> Iterator[ForkServer]:
    """A server whose processes write to the sandbox, and whose calls there can fail."""
    scratch = tmp_path_factory.mktemp("scratch")
    with contextlib.closing(
        ForkServer(scratch, sandbox.root, {"TMPDIR": str(sandbox.temporary)})
    ) as server:
        yield server
