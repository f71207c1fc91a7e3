"""Which kernels a saved program launches, read from the file alone."""

from __future__ import annotations

import random
from pathlib import Path

import numpy as np
import paddle
import pytest

import radam_codegen as rc
from radam_codegen.errors import ProgramError
from radam_codegen.frontend.saved_program import read_launches
from radam_codegen.ir.launch import LaunchSpec

IN_PIR = bool(paddle.get_flags("FLAGS_enable_pir_api")["FLAGS_enable_pir_api"])
SUFFIX = ".json" if IN_PIR else ".pdmodel"


@pytest.fixture(scope="module")
def saved(tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, tuple[LaunchSpec, ...]]:
    """Where a program with two groups was saved, and the launches that it was built with."""
    folder = tmp_path_factory.mktemp("saved program")
    paddle.enable_static()
    main, startup = paddle.static.Program(), paddle.static.Program()
    with paddle.static.program_guard(main, startup):
        x = paddle.static.data("x", [None, 3], "float32")
        first, second = paddle.nn.Linear(3, 2), paddle.nn.Linear(2, 1)
        loss = second(first(x)).mean()
        optimizer = rc.RAdam(
            learning_rate=0.1,
            parameters=[
                {"params": first.parameters(), "weight_decay": 0.01},
                {"params": second.parameters(), "grad_clip": paddle.nn.ClipGradByNorm(2.0)},
            ],
        )
        optimizer.minimize(loss)
    executor = paddle.static.Executor()
    with paddle.static.scope_guard(paddle.static.Scope()):
        executor.run(startup, feed={"x": np.ones((1, 3), "float32")})
        paddle.static.save(main, str(folder / "main"))
    paddle.save(startup, str(folder / f"startup{SUFFIX}"))
    paddle.disable_static()
    assert optimizer.plan is not None
    return folder / "main", tuple(map(LaunchSpec.from_group, optimizer.plan.groups))


def test_reads_what_the_program_was_built_with(
    saved: tuple[Path, tuple[LaunchSpec, ...]],
) -> None:
    prefix, launches = saved
    assert len(launches) == 2
    assert read_launches(prefix) == launches
    assert read_launches(Path(f"{prefix}{SUFFIX}")) == launches


def test_a_program_without_a_step_is_refused(saved: tuple[Path, object]) -> None:
    with pytest.raises(ProgramError, match=r"has no step of radam_codegen.*Save the main program"):
        read_launches(saved[0].parent / "startup")


def test_two_programs_of_one_prefix_are_ambiguous(saved: tuple[Path, object]) -> None:
    other = Path(f"{saved[0]}{'.pdmodel' if IN_PIR else '.json'}")
    other.write_bytes(b"")
    try:
        with pytest.raises(ProgramError, match="name one of them"):
            read_launches(saved[0])
    finally:
        other.unlink()


def test_a_damaged_program_is_our_error(saved: tuple[Path, object], tmp_path: Path) -> None:
    content = Path(f"{saved[0]}{SUFFIX}").read_bytes()
    path = tmp_path / f"damaged{SUFFIX}"
    chance = random.Random(0)
    refused = 0
    for _ in range(300):
        damaged = bytearray(content)
        if chance.random() < 0.5:
            del damaged[chance.randrange(len(damaged)) :]
        else:
            damaged[chance.randrange(len(damaged))] ^= 1 << chance.randrange(8)
        path.write_bytes(damaged)
        try:
            read_launches(path)
        except ProgramError:
            refused += 1
    assert refused > 100
