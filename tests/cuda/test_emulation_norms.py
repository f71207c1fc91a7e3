"""The norms that generated CUDA computes, on the CPU: how exact they are, and what decides them."""

from __future__ import annotations

import math
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
from support.agreement import assert_bitwise, wide
from support.cuda_cases import cuda_text, random_group
from support.cuda_emulation import (
    WATCHED,
    Case,
    Emulator,
    Number,
    Order,
    Result,
    build_emulator,
)
from support.plans import random_arrays
from support.structures import CLASSES

from radam_codegen.ir.plan import ClipKind, DecayKind, KernelStructure, UpdatePlan
from radam_codegen.toolchain.abi import chunk_elements

#: One class per type of gradient.
GRADS = {each.grad_dtype: each for each in CLASSES if each.decay is DecayKind.NONE}
STRUCTURES = [
    KernelStructure(clip, False, tuple(sorted(GRADS.values())))
    for clip in (ClipKind.NORM, ClipKind.GLOBAL_NORM)
]

#: Parts of a chunk, whole ones, and more; and many tensors, for the sum over them.
SIZES = (1, 31, 2047, 2049, 16384, 16385, 40001, *range(40, 92))


@pytest.fixture(scope="module")
def emulator(tmp_path_factory: pytest.TempPathFactory, run_folder: Path) -> Emulator:
    return build_emulator(WATCHED, tmp_path_factory.mktemp("norms"), run_folder)


@pytest.fixture(scope="module")
def libraries(emulator: Emulator) -> dict[str, Path]:
    return emulator.build_all({str(each.clip): cuda_text(each) for each in STRUCTURES})


def case_of(structure: KernelStructure, library: Path) -> Case:
    random = np.random.default_rng(5)
    group = random_group(structure, random, SIZES)
    (arrays,) = random_arrays(UpdatePlan((group,)), 5)
    return Case(library, structure, group, arrays, Number((0.01,)))


def sums_of(case: Case, result: Result) -> tuple[np.ndarray, np.ndarray]:
    """The sums of squares of chunks and of tensors, which the workspace begins with."""
    tensors = case.group.tensors
    chunks = sum(-(-each.numel // chunk_elements()) for each in tensors)
    numbers = np.frombuffer(result.workspace, np.float64, chunks + len(tensors))
    return numbers[:chunks], numbers[chunks:]


@pytest.mark.parametrize("structure", STRUCTURES, ids=lambda each: str(each.clip))
def test_norms_are_those_of_float64(
    structure: KernelStructure, emulator: Emulator, libraries: dict[str, Path]
) -> None:
    case = case_of(structure, libraries[str(structure.clip)])
    (result,) = emulator.run(case)
    _, sums = sums_of(case, result)
    exact = [math.fsum(wide(grad).ravel() ** 2) for grad in case.arrays.grad]
    clipped = [each.need_clip for each in case.group.tensors]
    assert {True, False} == set(clipped)
    for norm_squared, wanted in zip(sums[clipped], np.array(exact)[clipped]):
        assert math.sqrt(norm_squared) == pytest.approx(math.sqrt(wanted), rel=1e-6, abs=0)
    assert not np.any(sums[np.invert(clipped)])


@pytest.mark.parametrize("structure", STRUCTURES, ids=lambda each: str(each.clip))
def test_norms_depend_neither_on_the_order_of_threads_nor_on_the_launch(
    structure: KernelStructure, emulator: Emulator, libraries: dict[str, Path]
) -> None:
    first = case_of(structure, libraries[str(structure.clip)])
    others = [
        replace(first, order=Order.DESCENDING),
        replace(first, order=Order.SHUFFLED, seed=1, most_blocks=1),
        replace(first, order=Order.SHUFFLED, seed=2, most_threads=32),
        replace(first, order=Order.INTERLEAVED, seed=3, most_blocks=7, most_threads=96),
    ]
    wanted, *results = emulator.run(first, *others)
    for result in results:
        assert_bitwise(UpdatePlan((first.group,)), [result.arrays], [wanted.arrays])
        for given, expected in zip(sums_of(first, result), sums_of(first, wanted)):
            assert given.tobytes() == expected.tobytes()
