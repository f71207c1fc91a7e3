"""Training with Paddle, for processes that :mod:`support.fork_server` forks."""

from __future__ import annotations

import itertools
import json
import os
import random
import shutil
import signal
import threading
import time
import traceback
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import paddle

import radam_codegen as rc
from support.static_programs import FedProgram, Tensor, random_gradients

TENSORS = [Tensor("p", (300, 70)), Tensor("q", (3, 5))]
#: Kernels of other structure, by name.
OPTIONS: dict[str, dict[str, Any]] = {"plain": {}, "decay": {"weight_decay": 0.1}}


def warm_up(folder: Path) -> None:
    """Import all that is imported late."""
    import filelock  # noqa: F401


def train(what: str = "plain", steps: int = 6) -> Any:
    """Build a program, run its startup, and train.

    Returns:
        What the parameters are then.
    """
    return _values(_trained(_program(what), steps))


def train_at_once(count: int) -> Any:
    """Train in so many processes, all cold, all at once; what each of them returned."""
    gate, opener = os.pipe()

    def begin() -> Any:
        os.close(opener)
        os.read(gate, 1)  # until all are there
        return train()

    processes = [_Process(begin) for _ in range(count)]
    os.close(gate)
    os.close(opener)
    return [process.result() for process in processes]


def start_and_be_killed(count: int, longest: float, seed: int) -> int:
    """Begin to train again and again, be killed at any moment; how often that came in time."""
    chance = random.Random(seed)
    killed = 0
    for _ in range(count):
        process = _Process(train)
        time.sleep(chance.uniform(0.0, longest))
        os.kill(process.pid, signal.SIGKILL)
        killed += process.ended_by() == signal.SIGKILL
    return killed


def train_while_the_cache_is_removed(cache: str) -> Any:
    """Remove the cache after a startup, go on, and start another program."""
    first = _trained(_program("plain"), 3)
    shutil.rmtree(cache)
    for grads in random_gradients(TENSORS, 6)[3:]:
        first.step(grads)
    return [_values(first), train("decay")]


def train_in_a_child() -> Any:
    """Train, fork, and train in the child, with a loaded kernel and a new one; then go on.

    Paddle itself cannot run a program in a child that its parent has run, whatever the optimizer:
    the threads that do it are not there. So the child has programs of its own.
    """
    before = _trained(_program("plain"), 3)
    child = _Process(lambda: [train("plain"), train("decay")])
    for grads in random_gradients(TENSORS, 6)[3:]:
        before.step(grads)
    return [child.result(), _values(before)]


def train_in_threads() -> Any:
    """Train two programs at once, each with an Executor and a thread of its own."""
    programs = {what: _program(what) for what in OPTIONS}
    with ThreadPoolExecutor(len(programs)) as pool:
        trained = {what: pool.submit(_trained, each, 6) for what, each in programs.items()}
    return {what: _values(future.result()) for what, future in trained.items()}


def start_while_another_steps() -> Any:
    """Start and train one program while a thread runs another, which begins before and ends after.

    Returns:
        What the started one came to; whether the other one came to the same as it does alone, and
        how many steps it took.
    """
    grads = random_gradients(TENSORS, 6)
    stepping, alone = _program("plain").start(), _program("plain").start()
    starting = _program("decay")
    begun, done = threading.Event(), threading.Event()

    def step() -> int:
        for number in itertools.count():
            if done.is_set():
                return number
            stepping.step(grads[number % len(grads)])
            begun.set()
        raise AssertionError

    with ThreadPoolExecutor(1) as pool:
        steps = pool.submit(step)
        assert begun.wait(60)
        try:
            started = _values(_trained(starting, 6))
        finally:
            done.set()
    for number in range(steps.result()):
        alone.step(grads[number % len(grads)])
    return [started, _values(stepping) == _values(alone), steps.result()]


def _program(what: str) -> FedProgram:
    paddle.enable_static()
    with paddle.utils.unique_name.guard():
        return FedProgram(TENSORS, lambda params: rc.RAdam(0.01, **OPTIONS[what]))


def _trained(program: FedProgram, steps: int) -> FedProgram:
    program.start()
    for grads in random_gradients(TENSORS, 6)[:steps]:
        program.step(grads)
    return program


def _values(program: FedProgram) -> list[str]:
    return [value.tobytes().hex() for value in program.values()]


class _Process:
    """A forked process that calls a function."""

    def __init__(self, function: Callable[[], Any]) -> None:
        reader, writer = os.pipe()
        self.pid = os.fork()
        if self.pid == 0:
            try:
                os.close(reader)
                signal.alarm(120)
                os.write(writer, json.dumps(function()).encode())
                os._exit(0)
            except BaseException:
                traceback.print_exc()
            finally:
                os._exit(1)
        os.close(writer)
        self._reader = reader

    def ended_by(self) -> int:
        """The signal that ended it; 0 where it ended by itself."""
        os.close(self._reader)
        _, status = os.waitpid(self.pid, 0)
        return os.WTERMSIG(status) if os.WIFSIGNALED(status) else 0

    def result(self) -> Any:
        """What its function returned; None where it failed."""
        with os.fdopen(self._reader, "rb") as stream:
            said = stream.read()
        os.waitpid(self.pid, 0)
        return json.loads(said) if said else None
