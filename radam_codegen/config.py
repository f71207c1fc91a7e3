"""Settings: one frozen :class:`Config`, read from the environment here and nowhere else.

A setting comes from ``radam_codegen.config(...)``, else from its environment variable, else it has
its default.
"""

from __future__ import annotations

import math
import operator
import os
import re
import shlex
import threading
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Callable

from radam_codegen.errors import ConfigError

__all__ = [
    "FREED_MEMORY",
    "MODES",
    "PROGRAM_KEYS",
    "SETTINGS",
    "STATE_LAYOUTS",
    "Config",
    "Setting",
    "config",
    "current",
    "watch",
]

#: ``auto`` finds kernels or compiles them, ``aot-only`` never compiles, ``off`` leaves the update
#: to Paddle's own operators.
MODES = ("auto", "aot-only", "off")

#: ``memoised`` prints a PIR program with generated kernels for the Executor's key only when it has
#: changed, ``text`` at every run, as Paddle does.
PROGRAM_KEYS = ("memoised", "text")

#: ``flat`` keeps the moments of a group's parameters in one tensor, ``per_parameter`` in one each.
STATE_LAYOUTS = ("flat", "per_parameter")

#: ``keep`` has the process keep memory that a training step frees, for the next one; ``system``
#: leaves it to the C library, which gives much of it back to the system at every step.
FREED_MEMORY = ("keep", "system")

#: More threads than any machine has cores are a slip of the finger.
_MOST_THREADS = 4096
#: A week; much longer times overflow the clocks of the operating system.
_MOST_SECONDS = 7 * 24 * 3600.0


@dataclass(frozen=True)
class Config:
    """Everything that can be set.

    Attributes:
        cache_dir: Absolute path of the folder where compiled kernels are kept.
        num_threads: Largest number of threads that one step uses, at least 1.
        cc: Command of the C compiler, with its arguments, as one shell-quoted text; None: the
            first of the usual compilers that is on the path.
        cxx: The same for the C++ compiler.
        mode: One of :data:`MODES`.
        aot: Absolute path of the folder of an ahead-of-time bundle, where there is one.
        nvcc: The same as ``cc`` for the CUDA compiler.
        cache_size: Bytes that the cache may hold; what was used longest ago goes first.
        compile_timeout: Seconds after which a compiler is ended.
        lock_timeout: Seconds to wait for another process that builds the same thing.
        state_layout: How programs keep moments: one of :data:`STATE_LAYOUTS`.
        program_key: How the Executor knows a PIR program, and whether it runs programs with our
            operators as Paddle does: one of :data:`PROGRAM_KEYS`.
        freed_memory: What becomes of the memory that steps free: one of :data:`FREED_MEMORY`.
            What is set when the operator is loaded counts for as long as the process lives.
        origins: Where each of them came from: ``default``, ``environment`` or ``rc.config``.
    """

    cache_dir: Path
    num_threads: int
    cc: str | None = None
    cxx: str | None = None
    mode: str = "auto"
    aot: Path | None = None
    nvcc: str | None = None
    cache_size: int = 1 << 30
    compile_timeout: float = 300.0
    lock_timeout: float = 600.0
    state_layout: str = "flat"
    program_key: str = "memoised"
    freed_memory: str = "keep"
    origins: Mapping[str, str] = field(default_factory=dict, compare=False, repr=False)


def config(**settings: Any) -> Config:
    """Read the settings of this process, and change them where values are given.

    What is set here comes before the environment, until it is set anew.

    Args:
        **settings: Fields of :class:`Config`, each as its own type or as the text that its
            environment variable would hold. None takes back what was set here.

    Returns:
        The settings as they are now.

    Raises:
        ConfigError: There is no such setting, or its value cannot be used. Nothing was changed.

    Examples:
        >>> import radam_codegen as rc
        >>> rc.config(num_threads=2).num_threads
        2
        >>> rc.config(num_threads=None).origins["num_threads"] in ("default", "environment")
        True
    """
    global _overrides
    if not settings:
        return current()
    unknown = sorted(set(settings) - set(_BY_NAME))
    if unknown:
        raise ConfigError(f"There is no setting {unknown[0]!r}; there are {', '.join(_BY_NAME)}.")
    with _lock:
        changed = dict(_overrides)
        for name, value in settings.items():
            if value is None:
                changed.pop(name, None)
            else:
                changed[name] = _BY_NAME[name].check(f"config({name}={value!r})", value)
        effective = _read(os.environ, changed)
        for watcher in _watchers:
            watcher(effective)
        _overrides = changed
    return effective


def current(environ: Mapping[str, str] | None = None) -> Config:
    """Read the settings as they are now. A variable that is empty counts as not set.

    Args:
        environ: What to read in place of ``os.environ``.

    Raises:
        ConfigError: A variable holds something that cannot be used; the message names it.
    """
    return _read(os.environ if environ is None else environ, _overrides)


def watch(watcher: Callable[[Config], None]) -> None:
    """Call a function with the settings now, and whenever :func:`config` has changed them."""
    with _lock:
        watcher(current())
        _watchers.append(watcher)


@dataclass(frozen=True)
class Setting:
    """One field of :class:`Config`, and how to get it.

    Attributes:
        name: The field.
        variable: The environment variable.
        check: Turns a value, or its text, into the field's type. Its first argument is how the
            value was given, for the message of its :class:`ConfigError`.
        default: Makes the value where nothing is set.
    """

    name: str
    variable: str
    check: Callable[[str, Any], Any]
    default: Callable[[], Any]

    def read(
        self, environ: Mapping[str, str], overrides: Mapping[str, Any] | None = None
    ) -> tuple[Any, str]:
        """Return the value, and where it came from.

        Args:
            environ: The environment.
            overrides: What comes before it; None: what :func:`config` has set.

        Raises:
            ConfigError: The variable holds something that cannot be used.
        """
        chosen = _overrides if overrides is None else overrides
        if self.name in chosen:
            return chosen[self.name], "rc.config"
        text = environ.get(self.variable, "")
        if not text.strip():
            return self.default(), "default"
        return self.check(f"{self.variable}={text!r}", text), "environment"


def _read(environ: Mapping[str, str], overrides: Mapping[str, Any]) -> Config:
    found = {setting.name: setting.read(environ, overrides) for setting in SETTINGS}
    values = {name: value for name, (value, _) in found.items()}
    return Config(**values, origins={name: origin for name, (_, origin) in found.items()})


def _default_cache_dir() -> Path:
    import platformdirs  # where it is needed, so that importing the package imports little

    return Path(platformdirs.user_cache_dir("radam_codegen", appauthor=False)).absolute()


def _own_cpus() -> int:
    # The CPUs that this process may use, which a container or taskset can make fewer.
    return len(os.sched_getaffinity(0))


def _cache_dir(given: str, value: Any) -> Path:
    path = _path(given, value)
    if path.exists() and not path.is_dir():
        raise ConfigError(f"{given} is a file; name a folder (new or existing).")
    return path


def _aot(given: str, value: Any) -> Path:
    path = _path(given, value)
    if not path.is_dir():
        what = "is a file" if path.exists() else "does not exist"
        raise ConfigError(
            f"{given} {what}; name the folder of a bundle, as `radam-codegen aot --out DIR` makes "
            "it, or leave it unset."
        )
    return path


def _path(given: str, value: Any) -> Path:
    try:
        text = os.fspath(value)
        if not isinstance(text, str) or not text.strip() or "\0" in text:
            raise ValueError("it is empty, or no text")
        if text != text.encode("utf-8", "replace").decode("utf-8"):
            raise ValueError("it is not UTF-8, and Paddle loads no library from such a place")
        path = Path(text).expanduser().absolute()
        path.exists()  # raises for some that no file system takes
    except (TypeError, ValueError, RuntimeError, OSError) as error:
        raise ConfigError(f"{given} cannot be used as a path: {error}.") from error
    return path


def _num_threads(given: str, value: Any) -> int:
    threads = _whole(value)
    if not 1 <= threads <= _MOST_THREADS:
        raise ConfigError(
            f"{given} is not a number of threads; set it to a whole number from 1 to "
            f"{_MOST_THREADS}, or unset it to use all CPUs of the process."
        )
    return threads


def _cache_size(given: str, value: Any) -> int:
    unit = 1
    if isinstance(value, str):
        match = re.fullmatch(r"(\d{1,18})\s*(?:([KMG])(?:iB)?)?", value.strip(), re.IGNORECASE)
        value, letter = match.groups("") if match else ("", "")
        unit = 1024 ** " KMG".index(letter.upper() or " ")
    size = _whole(value) * unit
    if size < 1:
        raise ConfigError(
            f"{given} is not a size; set it to a whole number of bytes above 0, or of KiB, MiB or "
            "GiB as in 512M."
        )
    return size


def _whole(value: Any) -> int:
    """A whole number, or its text; 0 where it is something else."""
    try:
        if isinstance(value, bool):
            return 0
        return int(value) if isinstance(value, str) else operator.index(value)
    except (TypeError, ValueError):
        return 0


def _seconds(given: str, value: Any) -> float:
    try:
        seconds = math.nan if isinstance(value, bool) else float(value)
    except (TypeError, ValueError, OverflowError):
        seconds = math.nan
    if not 0 < seconds <= _MOST_SECONDS:
        raise ConfigError(
            f"{given} is not a time; set it to a number of seconds above 0, at most "
            f"{_MOST_SECONDS:.0f}."
        )
    return seconds


def _one_of(choices: tuple[str, ...], kind: str) -> Callable[[str, Any], str]:
    """A check that a value is one of a few words."""

    def check(given: str, value: Any) -> str:
        if not isinstance(value, str) or value.strip() not in choices:
            raise ConfigError(f"{given} is no {kind}; set it to one of {', '.join(choices)}.")
        return value.strip()

    return check


def _freed_memory() -> str:
    # Whoever has told the C library how to deal with freed memory has the last word.
    told = any(name.startswith("MALLOC_") for name in os.environ)
    return "system" if told or "glibc.malloc." in os.environ.get("GLIBC_TUNABLES", "") else "keep"


def _command(given: str, value: Any) -> str:
    if not isinstance(value, str):
        raise ConfigError(f"{given} is not a command; give it as one text, quoted for a shell.")
    try:
        words = shlex.split(value)
    except ValueError as error:
        raise ConfigError(
            f"{given} is not a command: {error}. Quote it as a shell would want it."
        ) from error
    if not words or not words[0]:
        raise ConfigError(f"{given} names no compiler; unset it, or name one.")
    return value


def _nothing() -> None:
    return None


#: Every setting, in the order of the documentation.
SETTINGS = (
    Setting("cache_dir", "RADAM_CODEGEN_CACHE_DIR", _cache_dir, _default_cache_dir),
    Setting("cache_size", "RADAM_CODEGEN_CACHE_SIZE", _cache_size, lambda: Config.cache_size),
    Setting("mode", "RADAM_CODEGEN_MODE", _one_of(MODES, "mode"), lambda: Config.mode),
    Setting("aot", "RADAM_CODEGEN_AOT", _aot, _nothing),
    Setting("num_threads", "RADAM_CODEGEN_NUM_THREADS", _num_threads, _own_cpus),
    Setting("cc", "CC", _command, _nothing),
    Setting("cxx", "CXX", _command, _nothing),
    Setting("nvcc", "NVCC", _command, _nothing),
    Setting(
        "compile_timeout",
        "RADAM_CODEGEN_COMPILE_TIMEOUT",
        _seconds,
        lambda: Config.compile_timeout,
    ),
    Setting("lock_timeout", "RADAM_CODEGEN_LOCK_TIMEOUT", _seconds, lambda: Config.lock_timeout),
    Setting(
        "state_layout",
        "RADAM_CODEGEN_STATE_LAYOUT",
        _one_of(STATE_LAYOUTS, "layout"),
        lambda: Config.state_layout,
    ),
    Setting(
        "program_key",
        "RADAM_CODEGEN_PROGRAM_KEY",
        _one_of(PROGRAM_KEYS, "key"),
        lambda: Config.program_key,
    ),
    Setting(
        "freed_memory",
        "RADAM_CODEGEN_FREED_MEMORY",
        _one_of(FREED_MEMORY, "way to deal with freed memory"),
        _freed_memory,
    ),
)

_BY_NAME = {setting.name: setting for setting in SETTINGS}
_lock = threading.RLock()  # a watcher may read the settings
_overrides: Mapping[str, Any] = {}  # replaced as a whole, so that reading needs no lock
_watchers: list[Callable[[Config], None]] = []
