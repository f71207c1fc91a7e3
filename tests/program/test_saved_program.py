"""Which kernels a saved program launches, read from the file alone."""

from __future__ import annotations

import random
from dataclasses import replace
from pathlib import Path

import numpy as np
import paddle
import pytest

import radam_codegen as rc
from radam_codegen.errors import ProgramError
from radam_codegen.frontend.saved_program import read_launches
from radam_codegen.ir.launch import LaunchSpec
from radam_codegen.ir.plan import Clip, Decay, GroupPlan, TensorPlan, UpdatePlan
from radam_codegen.tools.inspect.difference import compare

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
    launches = (
        LaunchSpec.from_group(group, drops_results=IN_PIR) for group in optimizer.plan.groups
    )
    return folder / "main", tuple(launches)


def test_reads_what_the_program_was_built_with(
    saved: tuple[Path, tuple[LaunchSpec, ...]],
) -> None:
    prefix, launches = saved
    assert len(launches) == 2
    read = read_launches(prefix)
    assert tuple(replace(each, moments=None) for each in read) == launches
    assert all(each.moments is not None for each in read)
    assert read_launches(Path(f"{prefix}{SUFFIX}")) == read


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


def test_its_kernels_can_be_inspected(
    saved: tuple[Path, tuple[LaunchSpec, ...]],
) -> None:
    prefix, launches = saved
    found = rc.inspect(prefix)
    assert found.kind == "program"
    assert [each.structure for each in found.kernels] == [each.structure for each in launches]
    assert "launch 1: 2 tensors" in str(found)
    assert "clip:    norm to 2.0" in str(found)


def test_it_differs_in_nothing_from_its_plan(saved: tuple[Path, tuple[LaunchSpec, ...]]) -> None:
    prefix, launches = saved
    plan = UpdatePlan(tuple(map(group_of, launches)))
    assert compare(rc.inspect(plan), rc.inspect(prefix)).is_empty
    other = UpdatePlan((replace(plan.groups[0], beta1=0.5), *plan.groups[1:]))
    difference = compare(rc.inspect(other), rc.inspect(prefix))
    assert [each.what for each in difference.parts] == ["numbers"]


def group_of(launch: LaunchSpec) -> GroupPlan:
    """A group that is launched so."""
    tensors = []
    for number, each in enumerate(launch.tensors):
        found = launch.structure.classes[each.body]
        tensors.append(
            TensorPlan(
                f"{number} of {launch.structure.name}",
                (),
                found.param_dtype,
                found.grad_dtype,
                found.moment_dtype,
                found.master,
                each.lr_scale,
                Decay(found.decay, each.decay, each.decay_at_run_time),
                each.need_clip,
            )
        )
    numbers = launch.numbers
    clip = Clip(launch.structure.clip, numbers.clip_bound, numbers.clip_lower)
    return GroupPlan(
        tuple(tensors), numbers.beta1, numbers.beta2, numbers.epsilon, clip, launch.structure.skip
    )
