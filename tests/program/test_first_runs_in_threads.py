"""One PIR program that several threads run for the first time at once."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from pathlib import Path

import pytest
from support.static_programs import IN_PIR

pytestmark = pytest.mark.skipif(not IN_PIR, reason="legacy programs have no insertion point")

TESTS = Path(__file__).resolve().parents[1]

# In each round a new program, and four threads that run it at once, each with a scope and an
# Executor of its own. Prints what went wrong, and whether all that went right came to the same.
ROUNDS = """
import json, sys, threading
import numpy as np
import paddle
import radam_codegen as rc

paddle.enable_static()
sys.setswitchinterval(1e-6)
kinds, rounds = sys.argv[1].split("-"), int(sys.argv[2])
feed = {"x": np.ones((4, 8), "float32")}
failures, results = [], set()
for round in range(rounds):
    main, startup = paddle.static.Program(), paddle.static.Program()
    with paddle.utils.unique_name.guard(), paddle.static.program_guard(main, startup):
        x = paddle.static.data("x", [4, 8], "float32")
        hidden = x
        for _ in range(6):
            attr = paddle.ParamAttr(initializer=paddle.nn.initializer.Constant(0.1))
            hidden = paddle.nn.Linear(8, 8, weight_attr=attr)(hidden)
        loss = paddle.mean(hidden**2)
        result = rc.RAdam(0.01).minimize(loss)
    fetches = {"plain": [loss], "pruned": [loss, result]}
    scopes = [paddle.static.Scope() for _ in range(4)]
    for scope in scopes:
        paddle.static.Executor().run(startup, scope=scope)
    barrier = threading.Barrier(4)

    def train(scope, kind):
        executor = paddle.static.Executor()
        barrier.wait()
        try:
            for _ in range(3):
                (value,) = executor.run(main, feed=feed, fetch_list=fetches[kind], scope=scope)
            results.add(float(value))
        except BaseException as error:
            failures.append(f"round {round}: {type(error).__name__}: {error}"[:200])

    threads = [
        threading.Thread(target=train, args=[scope, kinds[number % len(kinds)]])
        for number, scope in enumerate(scopes)
    ]
    for each in threads:
        each.start()
    for each in threads:
        each.join()
print(json.dumps([failures, sorted(results)]))
"""


@pytest.mark.parametrize("fetches", ["plain", "pruned", "plain-pruned"])
def test_four_threads_begin_with_one_program(fetches: str) -> None:
    done = subprocess.run(
        [sys.executable, "-c", ROUNDS, fetches, "25"],
        capture_output=True,
        text=True,
        cwd=TESTS,
        env={**os.environ, "OMP_NUM_THREADS": "1"},
        timeout=300,
        check=False,
    )
    assert done.returncode == 0, done.stderr[-3000:]
    failures, results = json.loads(done.stdout.splitlines()[-1])
    assert failures == []
    assert len(results) == 1
