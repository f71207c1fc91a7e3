"""A forked child is not held up by threads that it does not have."""

from __future__ import annotations

import subprocess
import sys

# Forks while another thread holds the lock of "a". The child takes both locks and leaves; the
# parent's lock is still held then.
FORK = """
import os, threading
from radam_codegen.toolchain.forks import KeyedLocks

locks = KeyedLocks()
held, done = threading.Event(), threading.Event()

def hold():
    with locks.of("a"):
        held.set()
        done.wait()

thread = threading.Thread(target=hold)
thread.start()
held.wait()
child = os.fork()
if child == 0:
    with locks.of("a"), locks.of("b"):
        os._exit(7)
_, status = os.waitpid(child, 0)
assert not locks.of("a")._lock.acquire(blocking=False)
done.set()
thread.join()
assert locks.of("a")._lock.acquire(blocking=False)
print(os.waitstatus_to_exitcode(status))
"""


def test_a_lock_that_another_thread_held_is_free_in_a_forked_child() -> None:
    done = subprocess.run(
        [sys.executable, "-W", "ignore", "-c", FORK],
        capture_output=True,
        text=True,
        check=False,
        timeout=60,
    )
    assert (done.returncode, done.stdout) == (0, "7\n"), done.stderr
