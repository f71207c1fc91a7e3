"""Compilers that hang, that print without end, that cannot be started, and those that take long."""

from __future__ import annotations

import contextlib
import os
import pty
import re
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest
from support.processes import ends

from radam_codegen.toolchain.cache import BuildFailedError
from radam_codegen.toolchain.process import run_logged
from radam_codegen.toolchain.status_line import StatusLine


def run(folder: Path, script: str, timeout: float | None = 60.0) -> int:
    return run_logged(("sh", "-c", script), folder, folder / "compiler.log", timeout)


def log(folder: Path) -> str:
    return (folder / "compiler.log").read_text()


def test_the_log_holds_command_output_and_status(tmp_path: Path) -> None:
    assert run(tmp_path, "echo one; echo two >&2; exit 3") == 3
    assert log(tmp_path) == "$ sh -c 'echo one; echo two >&2; exit 3'\none\ntwo\nexit status 3\n"


def test_temporary_files_lie_in_the_folder_and_are_gone_afterwards(tmp_path: Path) -> None:
    assert run(tmp_path, 'echo "$TMPDIR"; touch "$TMPDIR/left"; cat < /dev/stdin') == 0
    assert str(tmp_path / ".tmp") in log(tmp_path)
    assert [path.name for path in tmp_path.iterdir()] == ["compiler.log"]


def test_a_compiler_that_hangs_is_killed_with_all_that_it_started(tmp_path: Path) -> None:
    with pytest.raises(BuildFailedError) as caught:
        run(tmp_path, "sleep 600 & echo $! > child; echo waiting; wait", timeout=0.3)
    reason = caught.value.reason
    assert reason is not None
    assert reason.startswith("sh did not end within 0.3 s and was killed")
    assert "RADAM_CODEGEN_COMPILE_TIMEOUT" in reason
    assert log(tmp_path).endswith(f"waiting\n\nradam_codegen: error: {reason}\n")
    assert ends(int((tmp_path / "child").read_text()))
    assert not (tmp_path / ".tmp").exists()


def test_a_compiler_that_prints_without_end_is_killed(tmp_path: Path) -> None:
    with pytest.raises(BuildFailedError) as caught:
        run(tmp_path, "yes 'error: error: error:'")
    assert caught.value.reason == "sh printed without end and was killed"
    assert (tmp_path / "compiler.log").stat().st_size < 17 << 20


def test_a_compiler_that_cannot_be_started_is_a_failed_build(tmp_path: Path) -> None:
    with pytest.raises(BuildFailedError, match="no/such/compiler") as caught:
        run_logged(("/no/such/compiler", "-c"), tmp_path, tmp_path / "compiler.log")
    assert caught.value.reason is not None
    assert "No such file" in caught.value.reason


def test_a_folder_that_is_gone_is_no_failed_build(tmp_path: Path) -> None:
    with pytest.raises(FileNotFoundError):
        run(tmp_path / "gone", "true")


#: Whoever runs the tests in the background may have them ignore a Ctrl-C.
_NOT_IGNORED = "import signal; signal.signal(signal.SIGINT, signal.default_int_handler)"


def test_an_interrupt_takes_the_compiler_along(tmp_path: Path) -> None:
    code = (
        f"{_NOT_IGNORED}\n"
        "import pathlib, sys\n"
        "from radam_codegen.toolchain.process import run_logged\n"
        "folder = pathlib.Path(sys.argv[1])\n"
        "run_logged(('sh', '-c', 'echo $$ > process; sleep 600'), folder, folder / 'log')\n"
    )
    worker = subprocess.Popen(
        [sys.executable, "-c", code, str(tmp_path)], stderr=subprocess.PIPE, text=True
    )
    written = tmp_path / "process"
    while not (written.exists() and written.read_text().strip()):
        assert worker.poll() is None
        time.sleep(0.02)
    worker.send_signal(signal.SIGINT)
    assert "KeyboardInterrupt" in worker.communicate(timeout=60)[1]
    assert ends(int(written.read_text()))
    assert not (tmp_path / ".tmp").exists()


_INTERRUPTED = """
import os, pathlib, signal, subprocess, sys, time
from radam_codegen.toolchain.process import run_logged

class Interrupted(subprocess.Popen):
    def __init__(self, *given, **named):
        super().__init__(*given, **named)
        (folder / "process").write_text(str(self.pid))
        os.kill(os.getpid(), signal.SIGINT)
        time.sleep(0.05)

folder = pathlib.Path(sys.argv[1])
subprocess.Popen = Interrupted
run_logged(("sleep", "600"), folder, folder / "log")
"""


def test_so_does_one_that_comes_while_the_compiler_is_started(tmp_path: Path) -> None:
    worker = subprocess.run(
        [sys.executable, "-c", f"{_NOT_IGNORED}\n{_INTERRUPTED}", str(tmp_path)],
        stderr=subprocess.PIPE,
        text=True,
        timeout=60,
        check=False,
    )
    assert "KeyboardInterrupt" in worker.stderr
    assert ends(int((tmp_path / "process").read_text()), seconds=5)
    assert not (tmp_path / ".tmp").exists()


_SLOW = """
import sys
from pathlib import Path
from radam_codegen.toolchain.process import run_logged
folder = Path(sys.argv[1])
if sys.argv[2] == "none":
    sys.stderr = None
elif sys.argv[2] == "closed":
    sys.stderr.close()
assert run_logged(("sleep", "2.4"), folder, folder / "compiler.log") == 0
"""


def test_a_long_compile_says_so_where_it_can(tmp_path: Path) -> None:
    workers = {}
    for stderr in ("piped", "none", "closed"):
        folder = tmp_path / stderr
        folder.mkdir()
        workers[stderr] = subprocess.Popen(
            [sys.executable, "-c", _SLOW, str(folder), stderr], stderr=subprocess.PIPE, text=True
        )
    said = {stderr: worker.communicate(timeout=60)[1] for stderr, worker in workers.items()}
    assert [worker.returncode for worker in workers.values()] == [0, 0, 0]
    log = re.escape(str(tmp_path / "piped" / "compiler.log"))
    pattern = rf"radam_codegen: \d+ s so far: compiling; the log is {log}\n"
    assert re.fullmatch(pattern, said["piped"])
    assert (said["none"], said["closed"]) == ("", "")


def shown(updates: list[float], monkeypatch: pytest.MonkeyPatch, terminal: bool) -> bytes:
    """What a status line writes."""
    reader, writer = pty.openpty() if terminal else os.pipe()
    with os.fdopen(writer, "w") as errors, monkeypatch.context() as patch:
        patch.setattr(sys, "stderr", errors)
        line = StatusLine(lambda: "compiling")
        for seconds in updates:
            line.update(seconds)
        line.close()
    written = b""
    with os.fdopen(reader, "rb", 0) as stream, contextlib.suppress(OSError):
        while block := stream.read(1000):  # ends in an error where it is a terminal
            written += block
    return written


def test_a_status_line_goes_on_where_there_is_a_terminal(monkeypatch: pytest.MonkeyPatch) -> None:
    updates = [0.1, 1.9, 2.0, 2.1, 3.0, 3.5, 65.2]
    first = b"radam_codegen: 2 s so far: compiling"
    assert shown(updates, monkeypatch, terminal=False) == first + b"\n"
    assert shown(updates, monkeypatch, terminal=True) == (
        first + b"\r\n\r\033[Kradam_codegen: 3 s\r\033[Kradam_codegen: 65 s\r\033[K"
    )
    assert shown(updates[:2], monkeypatch, terminal=True) == b""
