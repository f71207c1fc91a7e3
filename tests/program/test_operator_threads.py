"""Results do not depend on the number of threads, nor on where threads come from."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

import pytest

TESTS = Path(__file__).resolve().parents[1]

# Without Paddle's executor: the operator library by itself, so that it can also be run without an
# OpenMP runtime. Prints a digest of everything that a few steps write, and the threads there were.
RUN = """
import hashlib, os, sys
import numpy as np
from radam_codegen.config import current
from radam_codegen.program.installation import installed_paddle, openmp_path
from radam_codegen.runtime import GroupNumbers, TensorNumbers, load_kernel, load_operator
from radam_codegen.toolchain import build_kernel, build_operator
from support.hand_written import HAND_WRITTEN_CLASSES, hand_written_source

threads, openmp = int(sys.argv[1]), sys.argv[2] == "openmp"
settings = current()
library = load_operator(build_operator(installed_paddle(), settings).library)
library.set_threads(threads)
if openmp:
    assert library.set_openmp(openmp_path())
kernel = load_kernel(build_kernel(hand_written_source(), settings).library)
sizes = [1_000_003, 0, 3, 70_001]
library.register(
    1, kernel, GroupNumbers(0.9, 0.999, 1e-8, clip_bound=0.7), [TensorNumbers(lr_scale=0.3)] * 4,
    HAND_WRITTEN_CLASSES
)
rng = np.random.default_rng(5)
arrays = [[rng.standard_normal(n).astype("float32") for n in sizes] for _ in range(4)]
ffi = library.ffi
tensors = ffi.new("radam_tensor[4]")
for i, n in enumerate(sizes):
    param, grad, moment1, moment2 = [ffi.cast("void *", a[i].ctypes.data) for a in arrays]
    tensors[i] = {
        "param": param, "grad": grad, "moment1": moment1, "moment2": moment2, "numel": n
    }
step = ffi.new("int64_t[4]")
for _ in range(3):
    library.run(1, tensors, 4, step, 0.1)
digest = hashlib.sha256(b"".join(a.tobytes() for group in arrays for a in group)).hexdigest()
print(digest, list(step))
"""


def run(threads: int, openmp: str, **environment: str) -> str:
    done = subprocess.run(
        [sys.executable, "-c", RUN, str(threads), openmp],
        capture_output=True,
        text=True,
        cwd=TESTS,
        env={**os.environ, **environment},
        timeout=300,
        check=False,
    )
    assert done.returncode == 0, done.stderr
    return done.stdout


@pytest.fixture(scope="module")
def on_one_thread() -> str:
    return run(1, "openmp")


@pytest.mark.parametrize(("threads", "openmp"), [(2, "openmp"), (7, "openmp"), (3, "none")])
def test_results_are_bitwise_the_same(on_one_thread: str, threads: int, openmp: str) -> None:
    assert run(threads, openmp) == on_one_thread


def test_threads_that_openmp_refuses_are_not_missed(on_one_thread: str) -> None:
    assert run(4, "openmp", OMP_THREAD_LIMIT="1") == on_one_thread


# How many threads there are in the process after a step on few, and after one on more.
CHANGE = """
import os
import paddle
import radam_codegen as rc
weight = paddle.create_parameter([1_000_000], "float32")
weight.grad = paddle.ones([1_000_000])
optimizer = rc.RAdam(0.1, parameters=[weight])
for threads in (1, 1, 4):
    rc.config(num_threads=threads)
    optimizer.step()
    print(len(os.listdir("/proc/self/task")))
"""


@pytest.mark.either_ir
def test_a_loaded_operator_follows_the_setting() -> None:
    done = subprocess.run(
        [sys.executable, "-c", CHANGE], capture_output=True, text=True, timeout=300, check=False
    )
    assert done.returncode == 0, done.stderr
    _, few, more = map(int, done.stdout.split())
    assert more == few + 3


# Puts the second thread of a step onto the CPU of the first one; prints how often it was still
# there a few steps later.
CROWD = """
import os
from pathlib import Path
import paddle
import radam_codegen as rc

def fields(task):
    return Path(f"/proc/self/task/{task}/stat").read_text().rsplit(")", 1)[1].split()

def ticks():
    return {int(task): sum(map(int, fields(task)[11:13])) for task in os.listdir("/proc/self/task")}

def cpu(task):
    return int(fields(task)[36])

rc.config(num_threads=2)
weight = paddle.create_parameter([100_000], "float32")
weight.grad = paddle.ones([100_000])
optimizer = rc.RAdam(0.1, parameters=[weight])
own, others = os.getpid(), set()
optimizer.step()
before = ticks()
for _ in range(5000):
    optimizer.step()
after = ticks()
used = {task: after[task] - before.get(task, 0) for task in after if task != own}
second = max(used, key=used.get)
assert used[second] > 5, used
allowed, crowded = os.sched_getaffinity(0), 0
for _ in range(40):
    os.sched_setaffinity(second, {cpu(own)})
    os.sched_setaffinity(second, allowed)
    for _ in range(12):
        optimizer.step()
    crowded += cpu(own) == cpu(second)
assert os.sched_getaffinity(second) == allowed
print(crowded)
"""


@pytest.mark.either_ir
@pytest.mark.skipif(len(os.sched_getaffinity(0)) < 2, reason="there is only one CPU to be on")
def test_threads_of_a_step_leave_a_cpu_that_they_share() -> None:
    done = subprocess.run(
        [sys.executable, "-c", CROWD], capture_output=True, text=True, timeout=300, check=False
    )
    assert done.returncode == 0, done.stderr
    # Linux parts them too, as a rule only later.
    assert int(done.stdout) <= 10
