"""Not one bit of an entry can be wrong without the entry being refused.

Damaged entries are met by a process that has loaded no library, and loads none: it only asks the
cache for the entry, again and again.
"""

from __future__ import annotations

import random
import shutil
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


#: The name of a file, how many of its bytes are left, and which bit is flipped; -1: none.
Damage = tuple[str, int, int]


def truncations(entry: Path, step: int) -> list[Damage]:
    """Every file of an entry, cut at every ``step``-th byte."""
    sizes = {path.name: path.stat().st_size for path in sorted(entry.iterdir())}
    return [(name, length, -1) for name, size in sizes.items() for length in range(0, size, step)]


def flips(entry: Path, count: int) -> list[Damage]:
    """Single bits of all files of an entry: each file gets its share, and each a few."""
    chosen = random.Random(0)
    sizes = {path.name: path.stat().st_size for path in sorted(entry.iterdir())}
    names = [*sizes] * 10
    names += chosen.choices([*sizes], [*sizes.values()], k=count - len(names))
    return [(name, sizes[name], chosen.randrange(8 * sizes[name])) for name in names]


def unnoticed(
    server: ForkServer, entry: Path, damages: list[Damage], copy: Path
) -> list[Damage] | Outcome:
    """Which damages a process would not refuse; or how it ended, where it met its end."""
    where = {"cache": str(entry.parent.parent), "kind": entry.parent.name, "key": entry.name}
    assert server.run("find", **where) == Outcome(result=True)
    shutil.copytree(entry, copy)
    outcome = server.run("find_damaged", **where, good=str(copy), damages=damages)
    assert server.run("find", **where) == Outcome(result=True)
    if outcome != Outcome(result=outcome.result):
        return outcome
    return [damages[number] for number in outcome.result]


def test_a_kernel_that_was_cut_is_refused(server: ForkServer, entry: Path, tmp_path: Path) -> None:
    cuts = truncations(entry, STEP)
    assert len(cuts) > 200
    assert unnoticed(server, entry, cuts, tmp_path / "good") == []


def test_a_kernel_with_a_flipped_bit_is_refused(
    server: ForkServer, entry: Path, tmp_path: Path
) -> None:
    flipped = flips(entry, FLIPS)
    assert len(flipped) == FLIPS
    assert unnoticed(server, entry, flipped, tmp_path / "good") == []


def test_an_operator_that_was_cut_is_refused(
    server: ForkServer, operator_entry: Path, tmp_path: Path
) -> None:
    step = (operator_entry / "operator.so").stat().st_size // OPERATOR_POINTS
    cuts = truncations(operator_entry, step)
    assert len(cuts) >= OPERATOR_POINTS
    assert unnoticed(server, operator_entry, cuts, tmp_path / "good") == []


def test_an_operator_with_a_flipped_bit_is_refused(
    server: ForkServer, operator_entry: Path, tmp_path: Path
) -> None:
    flipped = flips(operator_entry, OPERATOR_FLIPS)
    assert len(flipped) == OPERATOR_FLIPS
    assert unnoticed(server, operator_entry, flipped, tmp_path / "good") == []


def test_what_was_refused_is_built_again(server: ForkServer, sandbox: Sandbox, entry: Path) -> None:
    good = {path.name: path.read_bytes() for path in entry.iterdir()}
    for damage in [*truncations(entry, STEP)[::40], *flips(entry, FLIPS)[::60]]:
        what, size, bit = damage
        content = bytearray(good[what][:size])
        if bit >= 0:
            content[bit // 8] ^= 1 << bit % 8
        (entry / what).write_bytes(content)
        outcome = server.run("train", cache=str(sandbox.cache))
        assert outcome.result is not None, what
        assert outcome.result["values"] == VALUES, what
        assert outcome.result["compiled"], what
        assert len(outcome.warnings) == 1, what
        assert {path.name: path.read_bytes() for path in entry.iterdir()} == good, what
