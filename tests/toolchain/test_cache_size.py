"""The cache stays below its size: what was used longest ago goes first, nothing in use breaks."""

from __future__ import annotations

import ctypes
import os
import time
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import pytest
from support.cache_worker import obtain
from toolchain.conftest import CountingCompiler

from radam_codegen.toolchain.cache import BuildFailedError, content_key, get_or_build, stats
from radam_codegen.toolchain.cache.lock import hold
from radam_codegen.toolchain.cache.usage import stored_entries

HOUR = 3600
#: Room for three entries of 10,000 bytes and their manifests, and not for four.
ROOM = 35_000


def key(number: int) -> str:
    return content_key({"test": "size", "number": number})


def build(folder: Path) -> Mapping[str, Any]:
    (folder / "kernel.so").write_bytes(bytes(10_000))
    return {}


def add(cache: Path, number: int, hours_ago: float | None = None, size: int = ROOM) -> bool:
    entry = get_or_build(cache, "kernels", key(number), build, cache_size=size)
    if hours_ago is not None:
        used = time.time() - hours_ago * HOUR
        os.utime(entry.folder / "manifest.json", (used, used))
    return entry.built


def numbers(cache: Path) -> list[int]:
    names = {key(number): number for number in range(20)}
    return sorted(names[entry.key] for entry in stored_entries(cache))


@pytest.fixture
def cache(tmp_path: Path) -> Path:
    return tmp_path / "cache"


def test_what_was_used_longest_ago_goes_first(cache: Path) -> None:
    for number, hours_ago in ((0, 3), (1, 9), (2, 5)):
        add(cache, number, hours_ago)
    assert numbers(cache) == [0, 1, 2]
    add(cache, 3)
    assert numbers(cache) == [0, 2, 3]
    add(cache, 4)
    assert numbers(cache) == [0, 3, 4]
    assert stats(cache).counts["evictions"] == 2
    assert stats(cache).size <= ROOM


def test_a_hit_is_a_use(cache: Path) -> None:
    for number, hours_ago in ((0, 9), (1, 5), (2, 3)):
        add(cache, number, hours_ago)
    assert not add(cache, 0)
    add(cache, 3)
    assert numbers(cache) == [0, 2, 3]


def test_a_hit_within_the_hour_writes_nothing(cache: Path) -> None:
    add(cache, 0, hours_ago=0.5)
    before = stored_entries(cache)
    add(cache, 0)
    assert stored_entries(cache) == before


def test_times_to_come_count_as_unknown(cache: Path) -> None:
    # The clock was a year ahead when these were used.
    for number in (0, 1, 2):
        add(cache, number, hours_ago=-365 * 24 - number)
    for number in (3, 4):
        assert add(cache, number)
    found = numbers(cache)
    assert {3, 4} < set(found)
    assert len(found) == 3
    add(cache, min(found))  # used now, as far as anybody knows
    add(cache, 5, hours_ago=1)
    assert min(found) in numbers(cache)


def test_what_is_being_built_stays(cache: Path) -> None:
    for number, hours_ago in ((0, 9), (1, 5), (2, 3)):
        add(cache, number, hours_ago)
    with hold(cache, key(0), 0.0):
        add(cache, 3)
    assert numbers(cache) == [0, 2, 3]


def test_what_was_just_built_stays_though_it_is_too_large(cache: Path) -> None:
    add(cache, 0)
    assert add(cache, 1, size=100)
    assert numbers(cache) == [1]


def test_all_kinds_share_the_room(cache: Path) -> None:
    add(cache, 0, hours_ago=5)
    get_or_build(cache, "operators", key(1), build, cache_size=12_000)
    assert [(entry.kind, entry.key) for entry in stored_entries(cache)] == [("operators", key(1))]


def test_without_a_limit_nothing_goes(cache: Path) -> None:
    for number in range(5):
        get_or_build(cache, "kernels", key(number), build)
    assert numbers(cache) == [0, 1, 2, 3, 4]


def test_a_library_that_is_loaded_outlives_its_entry(cache: Path, cc: CountingCompiler) -> None:
    entry = obtain(cache, cc.path)
    library = ctypes.CDLL(str(entry.folder / "kernel.so"))
    os.utime(entry.folder / "manifest.json", (0, 0))
    add(cache, 0, size=1)
    assert not entry.folder.exists()
    assert library.answer() == 42


def test_few_failed_builds_are_kept(cache: Path) -> None:
    def fail(folder: Path) -> Mapping[str, Any]:
        (folder / "compiler.log").write_text("no")
        raise BuildFailedError(("cc",))

    for number in range(20):
        with pytest.raises(BuildFailedError) as caught:
            get_or_build(cache, "kernels", key(number), fail)
        assert (caught.value.folder / "compiler.log").read_text() == "no"
        os.utime(caught.value.folder, (number, number))
    found = stats(cache)
    assert (found.failed, found.counts["failures"], found.counts["misses"]) == (16, 20, 20)
    assert not (cache / "failed" / key(0)).exists()
    assert (cache / "failed" / key(19)).exists()
