"""Compilers that count how often they compile."""

from __future__ import annotations

import stat
from dataclasses import dataclass
from pathlib import Path

import pytest

from radam_codegen.config import Config

_WRAPPER = """#!/bin/sh
case " $* " in *" -o "*) echo compile >> {count};; *) echo probe >> {count};; esac
{before}
exec {compiler} "$@"
"""


@dataclass
class CountingCompiler:
    """A script that runs a compiler and writes down each call."""

    path: Path
    _count: Path

    def calls(self, kind: str) -> int:
        lines = self._count.read_text().split() if self._count.exists() else []
        return lines.count(kind)

    @property
    def compiles(self) -> int:
        return self.calls("compile")


def make_compiler(folder: Path, compiler: str = "gcc", before: str = "") -> CountingCompiler:
    folder.mkdir(parents=True, exist_ok=True)
    path, count = folder / "counting", folder / "count.txt"
    path.write_text(_WRAPPER.format(count=count, compiler=compiler, before=before))
    path.chmod(path.stat().st_mode | stat.S_IXUSR)
    return CountingCompiler(path, count)


@pytest.fixture
def cc(tmp_path: Path) -> CountingCompiler:
    return make_compiler(tmp_path / "cc")


@pytest.fixture
def config(tmp_path: Path, cc: CountingCompiler) -> Config:
    return Config(cache_dir=tmp_path / "cache", num_threads=1, cc=str(cc.path))
