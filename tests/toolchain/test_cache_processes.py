"""Processes that share a cache: at once, killed, forked."""

from __future__ import annotations

import contextlib
import ctypes
import json
import os
import signal
import subprocess
import threading
import time
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest
from support.cache_worker import KEY, die_at, obtain, run_worker, start_worker
from toolchain.conftest import CountingCompiler, make_compiler

from radam_codegen.errors import ArtifactError
from radam_codegen.toolchain.cache import BuildFailedError, stats, verify_cache
from radam_codegen.toolchain.cache.counters import count, read_counters
from radam_codegen.toolchain.cache.lock import hold


def rubbish(cache: Path) -> list[str]:
    """What no process that is alive needs."""
    return [
        str(path.relative_to(cache))
        for path in sorted(cache.rglob("*"))
        if path.name.startswith(".") or path.suffix in (".holder", ".tmp")
    ]


def wait_for(path: Path) -> None:
    end = time.monotonic() + 60
    while not path.exists():
        assert time.monotonic() < end, f"{path} does not come"
        time.sleep(0.02)


def kill(worker: subprocess.Popen[str]) -> None:
    worker.kill()
    worker.communicate(timeout=60)


def forked(function: Callable[..., object], *arguments: object) -> int:
    """Call a function in a forked child; its process id."""
    child = os.fork()
    if child == 0:
        status = 1
        with contextlib.suppress(BaseException):
            signal.alarm(60)
            status = int(function(*arguments) or 0)
        os._exit(status)
    return child


def ending(child: int) -> int:
    """Exit status of a child, once it has ended."""
    return os.waitstatus_to_exitcode(os.waitpid(child, 0)[1])


@pytest.fixture
def cache(tmp_path: Path) -> Path:
    return tmp_path / "cache"


@pytest.fixture
def temporary(tmp_path: Path) -> Path:
    folder = tmp_path / "tmp"
    folder.mkdir()
    return folder


@pytest.fixture
def stuck(tmp_path: Path) -> Iterator[CountingCompiler]:
    """A compiler that says that it began, and goes on when it is let go."""
    folder = tmp_path / "stuck"
    yield make_compiler(
        folder,
        before=f"touch {folder}/began; n=0; while [ ! -e {folder}/go ] && [ $n -lt 600 ]; "
        "do sleep 0.1; n=$((n+1)); done",
    )
    let_go(folder)


def let_go(folder: Path) -> None:
    (folder / "go").touch()


def test_sixteen_cold_processes_compile_once(
    cache: Path,
    cc: CountingCompiler,
    tmp_path: Path,
    temporary: Path,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setenv("TMPDIR", str(temporary))
    gate, opener = os.pipe()

    def train(number: int) -> None:
        os.close(opener)
        os.read(gate, 1)  # until the gate is opened for all
        entry = obtain(cache, cc.path)
        answer = ctypes.CDLL(str(entry.folder / "kernel.so")).answer()
        (tmp_path / f"{number}.json").write_text(json.dumps([entry.built, answer]))

    children = [forked(train, number) for number in range(16)]
    os.close(gate)
    os.close(opener)
    assert [ending(child) for child in children] == [0] * 16
    answers = [json.loads((tmp_path / f"{number}.json").read_text()) for number in range(16)]
    assert sorted(answers) == [[False, 42]] * 15 + [[True, 42]]
    assert cc.compiles == 1
    found = stats(cache)
    assert 0 <= found.counts.pop("lock_waits") <= 15
    expected = {**dict.fromkeys(found.counts, 0), "hits": 15, "misses": 1, "builds": 1}
    assert (found.entries, found.counts) == (1, expected)
    assert rubbish(cache) == []
    assert list(temporary.iterdir()) == []


@pytest.mark.parametrize(
    ("event", "end"),
    [
        ("os.mkdir", "/kernels"),
        ("open", ".lock"),
        ("open", ".holder"),
        ("open", "kernel.c"),
        ("subprocess.Popen", "counting"),
        ("open", "kernel.so"),
        ("open", "manifest.json"),
        ("os.rename", KEY),
        ("open", "/kernels"),
        ("os.remove", ".holder"),
        ("open", "counters.json"),
    ],
)
def test_the_run_after_a_kill_works_and_tidies_up(
    cache: Path,
    cc: CountingCompiler,
    temporary: Path,
    monkeypatch: pytest.MonkeyPatch,
    event: str,
    end: str,
) -> None:
    monkeypatch.setenv("TMPDIR", str(temporary))

    def build() -> None:
        die_at(event, end)
        obtain(cache, cc.path)

    assert ending(forked(build)) == -signal.SIGKILL
    published = (cache / "kernels" / KEY).exists()
    entry = obtain(cache, cc.path, lock_timeout=0.0)
    assert entry.built is not published
    assert ctypes.CDLL(str(entry.folder / "kernel.so")).answer() == 42
    assert verify_cache(cache) == []
    obtain(cache, cc.path, key="0" * 32)  # any build clears up after the dead
    assert rubbish(cache) == []
    assert list(temporary.iterdir()) == []


def test_a_kill_during_the_compile_frees_the_lock_while_the_compiler_lives(
    cache: Path, cc: CountingCompiler, stuck: CountingCompiler, temporary: Path
) -> None:
    worker = start_worker(cache, stuck.path, TMPDIR=str(temporary))
    wait_for(stuck.path.with_name("began"))
    kill(worker)
    assert len(rubbish(cache)) == 3  # the folder of the build, the compiler's in it, the holder
    assert obtain(cache, cc.path, lock_timeout=0.0).built
    assert rubbish(cache) == []
    assert list(temporary.iterdir()) == []


def test_a_build_that_fails_clears_up_after_the_dead(
    cache: Path, stuck: CountingCompiler, tmp_path: Path
) -> None:
    worker = start_worker(cache, stuck.path)
    wait_for(stuck.path.with_name("began"))
    kill(worker)
    let_go(stuck.path.parent)
    broken = make_compiler(tmp_path / "broken", before="exit 1")
    with pytest.raises(BuildFailedError):
        obtain(cache, broken.path)
    assert rubbish(cache) == []


def test_a_long_wait_ends_in_the_name_of_the_holder(cache: Path, stuck: CountingCompiler) -> None:
    worker = start_worker(cache, stuck.path)
    wait_for(stuck.path.with_name("began"))
    with pytest.raises(ArtifactError) as caught:
        obtain(cache, stuck.path, lock_timeout=0.1)
    text = str(caught.value)
    assert f"process {worker.pid} on {os.uname().nodename} (" in text
    assert "support.cache_worker" in text
    assert f"which holds {cache}/locks/{KEY}.lock" in text
    assert "RADAM_CODEGEN_LOCK_TIMEOUT" in text
    (cache / "locks" / f"{KEY}.holder").write_text('{"pid": [')
    with pytest.raises(ArtifactError, match="a process that cannot be named"):
        obtain(cache, stuck.path, lock_timeout=0.0)
    kill(worker)


def test_who_waits_takes_what_the_other_built(cache: Path, stuck: CountingCompiler) -> None:
    worker = start_worker(cache, stuck.path)
    wait_for(stuck.path.with_name("began"))
    timer = threading.Timer(0.3, let_go, [stuck.path.parent])
    timer.start()
    entry = obtain(cache, stuck.path)
    assert not entry.built
    worker.communicate(timeout=60)
    assert stuck.compiles == 1
    counts = read_counters(cache)
    assert (counts["hits"], counts["misses"], counts["lock_waits"]) == (1, 1, 1)


def test_a_child_forked_under_the_lock_does_not_keep_it(
    cache: Path, cc: CountingCompiler, stuck: CountingCompiler
) -> None:
    worker = start_worker(cache, stuck.path, "--fork")
    assert worker.stdout is not None
    child = int(worker.stdout.readline())
    wait_for(stuck.path.with_name("began"))
    worker.kill()
    worker.wait(timeout=60)
    try:
        os.kill(child, 0)  # it lives
        assert obtain(cache, cc.path, lock_timeout=0.0).built
    finally:
        os.kill(child, signal.SIGKILL)
        worker.communicate(timeout=60)


def test_a_child_forked_while_a_thread_builds_waits_as_any_process(
    cache: Path, cc: CountingCompiler, stuck: CountingCompiler
) -> None:
    thread = threading.Thread(target=lambda: obtain(cache, stuck.path))
    thread.start()
    wait_for(stuck.path.with_name("began"))

    def refused() -> int:
        try:
            obtain(cache, cc.path, lock_timeout=0.1)
        except ArtifactError:
            return 7
        return 0

    assert ending(forked(refused)) == 7
    # The child ended, and the thread holds its lock all the same.
    with pytest.raises(ArtifactError), hold(cache, KEY, 0.0):
        pass
    let_go(stuck.path.parent)
    thread.join()
    assert ending(forked(lambda: 5 if not obtain(cache, cc.path).built else 6)) == 5


_NO_LOCKS = """
#include <errno.h>
int flock(int descriptor, int operation) { errno = ENOLCK; return -1; }
"""


def test_without_kernel_locks_the_first_rename_wins(cache: Path, tmp_path: Path) -> None:
    source, preloaded = tmp_path / "no_locks.c", tmp_path / "no_locks.so"
    source.write_text(_NO_LOCKS)
    subprocess.run(["gcc", "-shared", "-fPIC", source, "-o", preloaded], check=True)
    # Each compiler waits until both compile, so both build.
    meet = tmp_path / "meet"
    meet.mkdir()
    cc = make_compiler(
        tmp_path / "slow",
        before=f"touch {meet}/$$; n=0; while [ $(ls {meet} | wc -l) -lt 2 ] && [ $n -lt 300 ]; "
        "do sleep 0.1; n=$((n+1)); done",
    )
    workers = [start_worker(cache, cc.path, LD_PRELOAD=str(preloaded)) for _ in range(2)]
    answers = [json.loads(worker.communicate(timeout=60)[0]) for worker in workers]
    assert cc.compiles == 2
    assert sorted(answer.pop("built") for answer in answers) == [False, True]
    assert answers[0] == answers[1]
    assert rubbish(cache) == []
    assert run_worker(cache, cc.path, LD_PRELOAD=str(preloaded))["built"] is False


def test_counts_of_many_processes_add_up(cache: Path) -> None:
    cache.mkdir()

    def count_a_lot() -> None:
        for _ in range(300):
            count(cache, hits=1, lock_waits=2)

    assert [ending(child) for child in [forked(count_a_lot) for _ in range(4)]] == [0] * 4
    counts = read_counters(cache)
    assert (counts["hits"], counts["lock_waits"]) == (1200, 2400)
