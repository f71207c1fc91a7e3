"""Scripts that use Paddle, for processes that :mod:`support.fork_server` forks."""

from __future__ import annotations

import contextlib
import importlib
import io
import os
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

from support.fork_server import ForkServer

__all__ = ["run_script", "script_server", "warm_up"]


def warm_up(folder: Path) -> None:
    """Import what takes long, and has nothing to do with this project."""
    for name in ("filelock", "jinja2", "paddle", "platformdirs"):
        importlib.import_module(name)


def run_script(script: str, arguments: list[str], environ: dict[str, str]) -> str:
    """Run a script as ``python -c`` does; return what it printed."""
    os.environ.update(environ)
    sys.argv[1:] = arguments
    with contextlib.redirect_stdout(io.StringIO()) as printed:
        exec(compile(script, "<script>", "exec"), {"__name__": "__main__"})
    return printed.getvalue()


@contextlib.contextmanager
def script_server(tmp_path_factory: pytest.TempPathFactory) -> Iterator[ForkServer]:
    """A server that runs scripts."""
    scratch = tmp_path_factory.mktemp("scripts")
    with contextlib.closing(ForkServer(scratch, cases=__name__)) as server:
        yield server
