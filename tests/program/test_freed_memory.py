"""What a step frees stays with the process, unless the user has said otherwise."""

from __future__ import annotations

import os
import subprocess
import sys

import pytest
from support.static_programs import IN_PIR

from radam_codegen.config import current

# Prints how many pages a training step has mapped anew, in the median of some.
TRAIN = """
import resource
import statistics
import numpy as np
import paddle
import radam_codegen as rc

paddle.enable_static()
main, startup = paddle.static.Program(), paddle.static.Program()
with paddle.static.program_guard(main, startup):
    x = paddle.static.data("x", [4, 256], "float32")
    value = x
    for _ in range(30):
        value = paddle.nn.functional.relu(paddle.nn.Linear(256, 256)(value))
    loss = paddle.mean(value * value)
    rc.RAdam(0.001).minimize(loss)
executor = paddle.static.Executor(paddle.CPUPlace())
executor.run(startup)
counts = []
for _ in range(20):
    before = resource.getrusage(resource.RUSAGE_SELF).ru_minflt
    executor.run(main, feed={"x": np.ones([4, 256], "float32")}, fetch_list=[loss])
    counts.append(resource.getrusage(resource.RUSAGE_SELF).ru_minflt - before)
print(int(statistics.median(counts[10:])))
"""
#: Of the gradients, 7.9 MB.
PAGES = 30 * (256 * 256 + 256) * 4 // 4096


def without_settings_for_malloc() -> dict[str, str]:
    """The environment, less what whoever runs the tests has told malloc."""
    return {
        name: value
        for name, value in os.environ.items()
        if not name.startswith("MALLOC_") and name != "GLIBC_TUNABLES"
    }


def pages_mapped(**environ: str) -> int:
    done = subprocess.run(
        [sys.executable, "-c", TRAIN],
        capture_output=True,
        text=True,
        env={**without_settings_for_malloc(), **environ},
        timeout=300,
        check=False,
    )
    assert done.returncode == 0, done.stderr
    return int(done.stdout)


def test_a_step_maps_no_memory_anew() -> None:
    assert pages_mapped() < PAGES / 20


@pytest.mark.skipif(
    not IN_PIR, reason="which thread frees what, hence what is given back, varies in the legacy IR"
)
@pytest.mark.parametrize(
    ("name", "value"),
    [
        ("RADAM_CODEGEN_FREED_MEMORY", "system"),
        # The C library's own way to say so is heard: it is told to give back all it can.
        ("MALLOC_TRIM_THRESHOLD_", "131072"),
    ],
)
def test_the_system_gets_it_back_where_that_is_set(name: str, value: str) -> None:
    assert pages_mapped(**{name: value}) > PAGES / 4


@pytest.mark.either_ir
@pytest.mark.parametrize(
    ("name", "value", "expected"),
    [
        ("MALLOC_TRIM_THRESHOLD_", "131072", "system"),
        ("MALLOC_ARENA_MAX", "2", "system"),
        ("GLIBC_TUNABLES", "glibc.malloc.trim_threshold=131072", "system"),
        ("GLIBC_TUNABLES", "glibc.pthread.rseq=0", "keep"),
    ],
)
def test_who_has_told_the_c_library_has_the_last_word(
    monkeypatch: pytest.MonkeyPatch, name: str, value: str, expected: str
) -> None:
    for told in set(os.environ) - set(without_settings_for_malloc()):
        monkeypatch.delenv(told)
    assert current().freed_memory == "keep"
    monkeypatch.setenv(name, value)
    assert current().freed_memory == expected
