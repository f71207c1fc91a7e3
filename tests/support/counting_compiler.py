"""A C compiler that writes down each compile, and can be told to fail."""

from __future__ import annotations

import stat
from dataclasses import dataclass
from pathlib import Path

__all__ = ["CountingCompiler"]

_SCRIPT = """#!/bin/sh
case " $* " in
*" -o "*)
    echo compile >> '{folder}/calls.txt'
    if [ -e '{folder}/fails' ]; then
        echo "kernel.c:7:1: error: out of ideas" >&2
        exit 1
    fi;;
esac
exec cc "$@"
"""


@dataclass
class CountingCompiler:
    """A script in a folder of its own; its path is what ``CC`` takes."""

    folder: Path

    @classmethod
    def make(cls, folder: Path) -> CountingCompiler:
        folder.mkdir(parents=True)
        compiler = cls(folder)
        compiler.path.write_text(_SCRIPT.format(folder=folder))
        compiler.path.chmod(compiler.path.stat().st_mode | stat.S_IXUSR)
        return compiler

    @property
    def path(self) -> Path:
        return self.folder / "cc"

    @property
    def compiles(self) -> int:
        calls = self.folder / "calls.txt"
        return len(calls.read_text().split()) if calls.exists() else 0

    def fail(self, fails: bool) -> None:
        """Make every compile fail from now on, or work again."""
        if fails:
            (self.folder / "fails").touch()
        else:
            (self.folder / "fails").unlink()
