"""Not one bit of an entry can be wrong without the entry being refused.

Each damaged entry is met by a process of its own, forked from one that has loaded no library: what
a loader does with a damaged file depends on nothing that such a process shares with its siblings.
"""

from __future__ import annotations

import random
import shutil
from collections.abc import Iterator
from pathlib import Path

import pytest
from reliability.conftest import VALUES, Sandbox
from support.fork_server import ForkServer, Outcome

FLIPS = 500
STEP = 64
#: The operator is larger by far, and read by the same code.
OPERATOR_FLIPS = 40
OPERATOR_POINTS = 40


@pytest.fixture(scope="module")
def entry(server: ForkServer, sandbox: Sandbox) -> Path:
    """A good entry of a kernel."""
    sandbox.empty()
    assert server.run("train", cache=str(sandbox.cache)).result["compiled"]
    return sandbox.entry()


@pytest.fixture(scope="module")
def operator_entry(sandbox: Sandbox, entry: Path) -> Path:
    """A good entry of the operator."""
    from radam_codegen.program import kernels

    built = kernels.operator().path.parent
    copy = sandbox.cache / "operators" / built.name
    shutil.copytree(built, copy)
    return copy


def truncations(entry: Path, step: int) -> Iterator[tuple[Path, bytes, str]]:
    """Every file of an entry, cut at every ``step``-th byte."""
    for path in sorted(entry.iterdir()):
        content = path.read_bytes()
        for length in range(0, len(content), step):
            yield path, content[:length], f"{path.name} cut to {length} bytes"


def flips(entry: Path, count: int) -> Iterator[tuple[Path, bytes, str]]:
    """Single bits of all files of an entry: each file gets its share, and each a few."""
    chosen = random.Random(0)
    files = sorted(entry.iterdir())
    sizes = [path.stat().st_size for path in files]
    paths = [*files * 10, *chosen.choices(files, sizes, k=count - 10 * len(files))]
    for path in paths:
        content = bytearray(path.read_bytes())
        position = chosen.randrange(8 * len(content))
        content[position // 8] ^= 1 << position % 8
        yield path, bytes(content), f"{path.name} with bit {position} flipped"


def find(server: ForkServer, entry: Path) -> Outcome:
    """Whether a process would load an entry."""
    cache = entry.parent.parent
    return server.run("find", cache=str(cache), kind=entry.parent.name, key=entry.name)


def refused(server: ForkServer, entry: Path, path: Path, content: bytes) -> bool:
    """Whether an entry is refused that has another content in one file."""
    good = path.read_bytes()
    path.write_bytes(content)
    moved = entry.with_name("good")
    shutil.copytree(entry, moved)  # what is refused is removed
    outcome = find(server, entry)
    shutil.rmtree(entry, ignore_errors=True)
    moved.rename(entry)
    path.write_bytes(good)
    warned = any("is damaged and will be built again" in text for text in outcome.warnings)
    return outcome == Outcome(result=False, warnings=outcome.warnings) and warned


def not_refused(
    server: ForkServer, entry: Path, damages: Iterator[tuple[Path, bytes, str]]
) -> tuple[int, list[str]]:
    """How many damages were tried, and which of them went unnoticed."""
    assert find(server, entry) == Outcome(result=True)
    tried = [(refused(server, entry, path, content), what) for path, content, what in damages]
    assert find(server, entry) == Outcome(result=True)
    return len(tried), [what for seen, what in tried if not seen]


def test_a_kernel_that_was_cut_is_refused(server: ForkServer, entry: Path) -> None:
    tried, missed = not_refused(server, entry, truncations(entry, STEP))
    assert missed == []
    assert tried > 200


def test_a_kernel_with_a_flipped_bit_is_refused(server: ForkServer, entry: Path) -> None:
    tried, missed = not_refused(server, entry, flips(entry, FLIPS))
    assert missed == []
    assert tried == FLIPS


def test_an_operator_that_was_cut_is_refused(server: ForkServer, operator_entry: Path) -> None:
    step = (operator_entry / "operator.so").stat().st_size // OPERATOR_POINTS
    tried, missed = not_refused(server, operator_entry, truncations(operator_entry, step))
    assert missed == []
    assert tried >= OPERATOR_POINTS


def test_an_operator_with_a_flipped_bit_is_refused(
    server: ForkServer, operator_entry: Path
) -> None:
    tried, missed = not_refused(server, operator_entry, flips(operator_entry, OPERATOR_FLIPS))
    assert missed == []
    assert tried == OPERATOR_FLIPS


def test_what_was_refused_is_built_again(server: ForkServer, sandbox: Sandbox, entry: Path) -> None:
    good = {path.name: path.read_bytes() for path in entry.iterdir()}
    cuts = list(truncations(entry, STEP))[::40]
    for path, content, what in [*cuts, *list(flips(entry, FLIPS))[::60]]:
        path.write_bytes(content)
        outcome = server.run("train", cache=str(sandbox.cache))
        assert outcome.result is not None, what
        assert outcome.result["values"] == VALUES, what
        assert outcome.result["compiled"], what
        assert len(outcome.warnings) == 1, what
        assert {path.name: path.read_bytes() for path in entry.iterdir()} == good, what
