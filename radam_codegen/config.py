"""Settings: one frozen :class:`Config`, read from the environment here and nowhere else."""

from __future__ import annotations

import os
import shlex
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

import platformdirs

from radam_codegen.errors import ConfigError

__all__ = ["CACHE_DIR", "CC", "CXX", "NUM_THREADS", "Config", "current"]

CACHE_DIR = "RADAM_CODEGEN_CACHE_DIR"
NUM_THREADS = "RADAM_CODEGEN_NUM_THREADS"
CC = "CC"
CXX = "CXX"

#: More threads than any machine has cores are a slip of the finger.
_MOST_THREADS = 4096


@dataclass(frozen=True)
class Config:
    """Everything that can be set.

    Attributes:
        cache_dir: Absolute path of the folder where compiled kernels are kept.
        num_threads: Largest number of threads that one step uses, at least 1.
        cc: Command of the C compiler, with its arguments, as one shell-quoted text; None: the
            first of the usual compilers that is on the path.
        cxx: The same for the C++ compiler.
    """

    cache_dir: Path
    num_threads: int
    cc: str | None = None
    cxx: str | None = None


def current(environ: Mapping[str, str] | None = None) -> Config:
    """Read the settings from the environment as it is now.

    A variable that is empty counts as not set.

    Args:
        environ: What to read; ``os.environ`` when None.

    Raises:
        ConfigError: A variable holds something that cannot be used; the message names it.
    """
    env = os.environ if environ is None else environ
    return Config(
        cache_dir=_cache_dir(env.get(CACHE_DIR)),
        num_threads=_num_threads(env.get(NUM_THREADS)),
        cc=_command(CC, env.get(CC)),
        cxx=_command(CXX, env.get(CXX)),
    )


def _cache_dir(text: str | None) -> Path:
    if not text:
        return Path(platformdirs.user_cache_dir("radam_codegen", appauthor=False)).absolute()
    try:
        path = Path(text).expanduser().absolute()
        is_other_file = path.exists() and not path.is_dir()
    except (RuntimeError, OSError) as error:
        raise ConfigError(f"{CACHE_DIR}={text!r} cannot be used as a path: {error}.") from error
    if is_other_file:
        raise ConfigError(f"{CACHE_DIR}={text!r} is a file; set it to a folder (new or existing).")
    return path


def _num_threads(text: str | None) -> int:
    if not text:
        # The CPUs that this process may use, which a container or taskset can make fewer.
        return len(os.sched_getaffinity(0))
    try:
        threads = int(text)
    except ValueError:
        threads = 0
    if not 1 <= threads <= _MOST_THREADS:
        raise ConfigError(
            f"{NUM_THREADS}={text!r} is not a number of threads; set it to a whole number "
            f"from 1 to {_MOST_THREADS}, or unset it to use all CPUs of the process."
        )
    return threads


def _command(variable: str, text: str | None) -> str | None:
    if text is None or not text.strip():
        return None
    try:
        words = shlex.split(text)
    except ValueError as error:
        raise ConfigError(
            f"{variable}={text!r} is not a command: {error}. Quote it as a shell would want it."
        ) from error
    if not words or not words[0]:
        raise ConfigError(f"{variable}={text!r} names no compiler; unset it, or name one.")
    return text
