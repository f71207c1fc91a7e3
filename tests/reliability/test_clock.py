"""A clock that goes back, or is years ahead, changes nothing but what is called old."""

from __future__ import annotations

import os
import time
from pathlib import Path

from reliability.conftest import VALUES, Sandbox
from support.fork_server import ForkServer

YEARS = 10 * 365 * 24 * 3600


def test_the_clock_goes_back(server: ForkServer, sandbox: Sandbox) -> None:
    clocks = {years: server.run("now", clock=years).result for years in (0, YEARS, -YEARS)}
    assert all(abs(says - clocks[0] - years) < 600 for years, says in clocks.items())

    for first in (YEARS, -YEARS):
        sandbox.empty()
        built = server.run("train", clock=first, cache=str(sandbox.cache))
        assert built.result["compiled"]
        key = Path(built.result["library"]).parent.name
        for then in (-first, 0):
            found = server.run("train", clock=then, cache=str(sandbox.cache))
            assert found.result == {**built.result, "values": VALUES, "compiled": False}
            assert found.warnings == []
        assert sandbox.contents() == sandbox.expected(key)


def test_a_cache_from_the_future_is_used(server: ForkServer, sandbox: Sandbox) -> None:
    sandbox.empty()
    server.run("train", cache=str(sandbox.cache))
    ahead = time.time() + YEARS
    for path in [sandbox.cache, *sandbox.cache.rglob("*")]:
        os.utime(path, (ahead, ahead))
    found = server.run("train", cache=str(sandbox.cache))
    assert (found.result["values"], found.result["compiled"]) == (VALUES, False)
    assert abs((sandbox.entry() / "manifest.json").stat().st_mtime - time.time()) < YEARS / 2


def test_what_a_dead_process_left_in_the_future_goes(server: ForkServer, sandbox: Sandbox) -> None:
    sandbox.empty()
    killed = server.run("train", cache=str(sandbox.cache), fault=(30, "everything killed"))
    assert killed.signal == "SIGKILL"
    ahead = time.time() + YEARS
    for path in sandbox.cache.rglob("*"):
        os.utime(path, (ahead, ahead))
    built = server.run("train", clock=-YEARS, cache=str(sandbox.cache))
    assert built.result["compiled"]
    assert sandbox.contents() == sandbox.expected(Path(built.result["library"]).parent.name)
