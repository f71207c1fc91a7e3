"""Starting compilers."""

from __future__ import annotations

import contextlib
import math
import os
import shlex
import shutil
import signal
import subprocess
import threading
import time
from collections.abc import Iterator, Sequence
from pathlib import Path
from types import FrameType

from radam_codegen.toolchain.cache.failure import BuildFailedError
from radam_codegen.toolchain.status_line import StatusLine

__all__ = ["compiler_environment", "run_logged"]

#: Folder of a compiler's temporary files, in the folder that it works in: who removes that after a
#: kill -9 removes these, too.
_TEMPORARY = ".tmp"

_WATCH_SECONDS = 0.1
#: A compiler that says more than this will not come to the point.
_MOST_LOG_BYTES = 16 << 20

#: What would reach into a library past its key: headers found before ours, a run path, a date; or
#: would have the compiler write files that nobody asked for.
_KEPT_FROM_COMPILERS = frozenset(
    {
        "CPATH",
        "C_INCLUDE_PATH",
        "CPLUS_INCLUDE_PATH",
        "DEPENDENCIES_OUTPUT",
        "LD_RUN_PATH",
        "SOURCE_DATE_EPOCH",
        "SUNPRO_DEPENDENCIES",
    }
)


def compiler_environment() -> dict[str, str]:
    """Environment for a compiler: the process's own, with messages in English.

    Variables that would change what it makes are left out: they are in no key.
    """
    env = {name: text for name, text in os.environ.items() if name not in _KEPT_FROM_COMPILERS}
    env["LC_ALL"] = "C"
    return env


def run_logged(command: Sequence[str], cwd: Path, log: Path, timeout: float | None = None) -> int:
    """Run a command in a folder and write it, with all it prints, into a log.

    The command's temporary files go into the folder, too, and are gone afterwards. After two
    seconds, a line on standard error says how long it has been.

    Args:
        command: What to run.
        cwd: The folder to run it in; an absolute path.
        log: Where its output goes.
        timeout: Seconds after which it is ended, with all that it started; None: never.

    Returns:
        The exit status.

    Raises:
        BuildFailedError: The command could not be started, ran for too long, or printed without
            end; its ``reason`` says which.
        OSError: The folder or the log cannot be written.
    """
    words = tuple(command)
    temporary = cwd / _TEMPORARY
    temporary.mkdir(mode=0o700)
    try:
        with log.open("wb") as stream:
            stream.write(f"$ {shlex.join(words)}\n".encode("utf-8", "surrogateescape"))
            stream.flush()
            watch = _Watch(words, log, timeout)
            status = watch.run(cwd, stream.fileno())
            if watch.reason is not None:
                stream.truncate(min(os.fstat(stream.fileno()).st_size, _MOST_LOG_BYTES))
                stream.seek(0, os.SEEK_END)
                stream.write(f"\nradam_codegen: error: {watch.reason}\n".encode())
                raise BuildFailedError(words, watch.reason)
            stream.seek(0, os.SEEK_END)
            stream.write(f"exit status {status}\n".encode())
        shutil.rmtree(temporary)  # or it would be in the entry for good
        return status
    finally:
        shutil.rmtree(temporary, ignore_errors=True)


class _Watch:
    """Runs a command, and ends it where it does not end by itself."""

    def __init__(self, command: tuple[str, ...], log: Path, timeout: float | None) -> None:
        self.reason: str | None = None
        self._command = command
        self._log = log
        self._timeout = math.inf if timeout is None else timeout
        self._ended = threading.Event()

    def run(self, cwd: Path, output: int) -> int:
        process: subprocess.Popen[bytes] | None = None
        watcher: threading.Thread | None = None
        try:
            with _interrupts_put_off():
                process = self._start(cwd, output)
                if process is None:
                    return -1
                watcher = threading.Thread(target=self._watch, args=(process, output), daemon=True)
                watcher.start()
            return process.wait()
        except BaseException:  # a Ctrl-C reaches this process only
            if process is not None:
                _end_group(process)
                process.wait()
            raise
        finally:
            self._ended.set()
            if watcher is not None:
                watcher.join()

    def _start(self, cwd: Path, output: int) -> subprocess.Popen[bytes] | None:
        env = compiler_environment()
        env["TMPDIR"] = str(cwd / _TEMPORARY)
        try:
            return subprocess.Popen(
                self._command,
                cwd=cwd,
                stdin=subprocess.DEVNULL,
                stdout=output,
                stderr=subprocess.STDOUT,
                env=env,
                start_new_session=True,  # a group of its own, which can be ended as a whole
            )
        except OSError as error:
            if not cwd.is_dir():
                raise
            self.reason = f"{self._command[0]} could not be started: {error}"
            return None

    def _watch(self, process: subprocess.Popen[bytes], output: int) -> None:
        begin = time.monotonic()
        line = StatusLine(lambda: f"compiling; the log is {self._log}")
        while not self._ended.wait(_WATCH_SECONDS):
            seconds = time.monotonic() - begin
            line.update(seconds)
            if seconds > self._timeout:
                self.reason = (
                    f"{self._command[0]} did not end within {self._timeout:g} s and was killed; "
                    "set RADAM_CODEGEN_COMPILE_TIMEOUT to more seconds if it only is slow"
                )
            elif os.fstat(output).st_size > _MOST_LOG_BYTES:
                self.reason = f"{self._command[0]} printed without end and was killed"
            if self.reason is not None:
                _end_group(process)
                break
        line.close()


@contextlib.contextmanager
def _interrupts_put_off() -> Iterator[None]:
    """Have a Ctrl-C take effect at the end: nobody can end a process that is not known yet."""
    before = signal.getsignal(signal.SIGINT)
    if threading.current_thread() is not threading.main_thread() or not callable(before):
        yield  # there are none here
        return
    asked: list[tuple[int, FrameType | None]] = []
    signal.signal(signal.SIGINT, lambda number, frame: asked.append((number, frame)))
    try:
        yield
    finally:
        signal.signal(signal.SIGINT, before)
    if asked:
        before(*asked[0])


def _end_group(process: subprocess.Popen[bytes]) -> None:
    if process.poll() is None:
        with contextlib.suppress(ProcessLookupError):
            os.killpg(process.pid, signal.SIGKILL)
