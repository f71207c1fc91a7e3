"""A process that obtains one entry of a cache.

Run as ``python -m support.cache_worker CACHE COMPILER [--fork]`` in the folder of the tests; prints
JSON. Or call :func:`obtain` in the process that is there already.
"""

from __future__ import annotations

import argparse
import hashlib
import json
import os
import signal
import subprocess
import sys
import time
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from radam_codegen.toolchain.cache import BuildFailedError, Entry, content_key, get_or_build
from radam_codegen.toolchain.process import run_logged

__all__ = ["KEY", "TESTS", "die_at", "obtain", "run_worker", "start_worker"]

TESTS = Path(__file__).resolve().parents[1]
KEY = content_key({"test": "cache"})

_SOURCE = "int answer(void);\nint answer(void) { return 42; }\n"


def obtain(
    cache: Path, compiler: str | Path, *, key: str = KEY, fork: bool = False, **options: Any
) -> Entry:
    """Find an entry or build it: a library with one function, ``answer``.

    Args:
        cache: Folder of the cache.
        compiler: Command of the C compiler.
        key: The entry's key.
        fork: Whether the builder forks a child that outlives it; its process id is printed.
        **options: More for ``get_or_build``.
    """
    command = (str(compiler), "-shared", "-fPIC", "kernel.c", "-o", "kernel.so")

    def build(folder: Path) -> Mapping[str, Any]:
        if fork:
            _fork_a_sleeper()
        (folder / "kernel.c").write_text(_SOURCE)
        if run_logged(command, cwd=folder, log=folder / "compiler.log") != 0:
            raise BuildFailedError(command)
        return {"name": "answer"}

    return get_or_build(cache, "kernels", key, build, **options)


def start_worker(
    cache: Path, compiler: str | Path, *options: str, **environment: str
) -> subprocess.Popen[str]:
    """Start a process."""
    return subprocess.Popen(
        [sys.executable, "-m", "support.cache_worker", str(cache), str(compiler), *options],
        stdin=subprocess.DEVNULL,
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
        cwd=TESTS,
        env={**os.environ, **environment},
    )


def run_worker(cache: Path, compiler: str | Path, *options: str, **environment: str) -> Any:
    """Run a process to its end and return what it printed."""
    worker = start_worker(cache, compiler, *options, **environment)
    output, errors = worker.communicate(timeout=60)
    assert worker.returncode == 0, errors
    return json.loads(output)


def _fork_a_sleeper() -> None:
    child = os.fork()
    if child == 0:
        time.sleep(600)
        os._exit(0)
    print(child, flush=True)


def die_at(event: str, ending: str) -> None:
    """Be killed at the first audit event on a path that ends so, just before it happens."""

    def hook(name: str, arguments: tuple[Any, ...]) -> None:
        if name == event and any(str(each).endswith(ending) for each in arguments[:2]):
            os.kill(os.getpid(), signal.SIGKILL)

    sys.addaudithook(hook)


def _main() -> None:
    parser = argparse.ArgumentParser()
    parser.add_argument("cache", type=Path)
    parser.add_argument("compiler")
    parser.add_argument("--fork", action="store_true")
    arguments = parser.parse_args()
    entry = obtain(arguments.cache, arguments.compiler, fork=arguments.fork)
    digest = hashlib.sha256((entry.folder / "kernel.so").read_bytes()).hexdigest()
    print(json.dumps({"built": entry.built, "folder": str(entry.folder), "sha256": digest}))


if __name__ == "__main__":
    _main()
