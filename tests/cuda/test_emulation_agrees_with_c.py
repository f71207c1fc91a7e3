"""Generated CUDA, executed on the CPU, and the C kernel agree to the last bit.

A kernel with a body for every class of tensors is compiled for each kind of clip, with a skip flag
and without: its bodies are those of every kernel that there is.
"""

from __future__ import annotations

import re
from collections.abc import Callable
from functools import cache
from pathlib import Path

import numpy as np
import pytest
from support.cuda_cases import (
    assert_as_in_c,
    build_c,
    cuda_text,
    offsets_in_step,
    offsets_of_their_own,
    random_group,
    tensor_of,
)
from support.cuda_emulation import WATCHED, Case, Emulator, Number, Order, build_emulator
from support.plans import random_arrays
from support.structures import CLASSES

from radam_codegen.ir.dtypes import DType
from radam_codegen.ir.plan import ClipKind, GroupPlan, KernelStructure, UpdatePlan
from radam_codegen.runtime import LoadedKernel
from radam_codegen.tools.inspect.traffic import floor_of

WIDE = [KernelStructure(clip, skip, CLASSES) for clip in ClipKind for skip in (False, True)]

#: Around the lengths of packets, warps and blocks.
SMALL = (0, 1, 2, 3, 5, 7, 8, 9, 15, 16, 17, 31, 33, 63, 65, 127, 257)
#: Longer than what a block updates, and than a chunk.
LONG = (4097, 9001, 16385, 33001)

LR = Number((0.01,))


def name_of(structure: KernelStructure) -> str:
    return f"{structure.clip}{'-skip' if structure.skip else ''}"


every_kernel = pytest.mark.parametrize("structure", WIDE, ids=name_of)


@pytest.fixture(scope="module")
def emulator(tmp_path_factory: pytest.TempPathFactory, run_folder: Path) -> Emulator:
    return build_emulator(WATCHED, tmp_path_factory.mktemp("watched"), run_folder)


@pytest.fixture(scope="module")
def libraries(emulator: Emulator) -> dict[KernelStructure, Path]:
    built = emulator.build_all({name_of(structure): cuda_text(structure) for structure in WIDE})
    return dict(zip(WIDE, built.values()))


@pytest.fixture(scope="module")
def c_kernel(tmp_path_factory: pytest.TempPathFactory) -> Callable[[KernelStructure], LoadedKernel]:
    folder = tmp_path_factory.mktemp("c")
    return cache(lambda structure: build_c(structure, folder))


@pytest.fixture
def make_case(libraries: dict[KernelStructure, Path]) -> Callable[..., Case]:
    def make(
        structure: KernelStructure,
        seed: int,
        long: tuple[int, ...] = (),
        offsets: Callable[..., list[list[int]]] | None = None,
        lr: Number = LR,
        **special: object,
    ) -> Case:
        random = np.random.default_rng(seed)
        sizes = [*random.choice(SMALL, 2 * len(structure.classes)).tolist(), *long]
        group = random_group(structure, random, sizes)
        (arrays,) = random_arrays(UpdatePlan((group,)), seed, None, special=bool(seed % 2))
        where = () if offsets is None else offsets(group, random)
        library = libraries[structure]
        return Case(library, structure, group, arrays, lr, offsets=where, seed=seed, **special)

    return make


@every_kernel
def test_any_order_alignment_and_launch(
    structure: KernelStructure,
    emulator: Emulator,
    make_case: Callable[..., Case],
    c_kernel: Callable[[KernelStructure], LoadedKernel],
) -> None:
    go_on = (False,)
    cases = [
        make_case(structure, 1, most_threads=64),
        make_case(structure, 2, LONG, offsets_in_step, order=Order.DESCENDING, found_inf=go_on),
        make_case(
            structure,
            3,
            offsets=offsets_of_their_own,
            lr=Number((1e-3, 0.1), DType.FLOAT64),
            order=Order.SHUFFLED,
            most_blocks=5,
            most_threads=32,
        ),
        make_case(structure, 5, offsets=offsets_in_step, order=Order.INTERLEAVED, most_threads=32),
    ]
    for case, result in zip(cases, emulator.run(*cases)):
        assert_as_in_c(c_kernel(structure), case, result)


@pytest.mark.parametrize("dtype", [DType.FLOAT64, DType.FLOAT32, DType.BFLOAT16, DType.FLOAT16])
def test_numbers_of_every_type_are_read_when_the_step_runs(
    dtype: DType,
    emulator: Emulator,
    make_case: Callable[..., Case],
    c_kernel: Callable[[KernelStructure], LoadedKernel],
) -> None:
    structure = WIDE[1]
    case = make_case(
        structure,
        10 + dtype.size,
        lr=Number((0.01, 0.3), dtype),
        weight_decay=Number((0.2, 0.05), dtype),
        at_run_time=tuple(range(0, 2 * len(CLASSES), 3)),
        most_threads=32,
    )
    (result,) = emulator.run(case)
    assert_as_in_c(c_kernel(structure), case, result)


@every_kernel
def test_a_flag_on_the_device_skips_a_step_where_there_is_a_skip_flag(
    structure: KernelStructure,
    emulator: Emulator,
    make_case: Callable[..., Case],
    c_kernel: Callable[[KernelStructure], LoadedKernel],
) -> None:
    skipped = make_case(structure, 20, found_inf=(True,), most_threads=32)
    resumed = make_case(structure, 21, lr=Number((0.1, 0.1)), found_inf=(True, False))
    results = emulator.run(skipped, resumed)
    for case, result in zip((skipped, resumed), results):
        assert_as_in_c(c_kernel(structure), case, result)
    assert np.array_equal(results[0].arrays.step, skipped.arrays.step + (not structure.skip))
    assert np.array_equal(results[1].arrays.step, resumed.arrays.step + 2 - structure.skip)


@every_kernel
def test_as_many_launches_as_the_tensors_need(
    structure: KernelStructure, emulator: Emulator, make_case: Callable[..., Case]
) -> None:
    case = make_case(structure, 30)
    numels = [tensor.numel for tensor in case.group.tensors]
    assert len(numels) == 88
    (result,) = emulator.run(case)
    phases = 4 if structure.clip in (ClipKind.NORM, ClipKind.GLOBAL_NORM) else 2
    assert result.launches == 2 * phases  # 48 tensors each


def test_a_launch_that_is_refused_ends_the_step(
    emulator: Emulator, make_case: Callable[..., Case]
) -> None:
    cases = [make_case(WIDE[4], 40, failing_launch=3), make_case(WIDE[4], 40, less_workspace=1)]
    refused, too_little = emulator.run(*cases)
    assert (refused.status, refused.launches) == (701, 3)
    assert (too_little.status, too_little.launches) == (1, 0)


def test_the_loop_moves_packets_of_16_bytes_and_each_array_once(
    emulator: Emulator, libraries: dict[KernelStructure, Path]
) -> None:
    numel, structure = 4096, WIDE[0]
    cases = []
    for each in CLASSES:
        group = GroupPlan((tensor_of(0, each, numel),))
        (arrays,) = random_arrays(UpdatePlan((group,)), 1)
        cases.append(Case(libraries[structure], structure, group, arrays, Number((0.1,))))
    for each, result in zip(CLASSES, emulator.run(*cases)):
        assert result.packets == floor_of(each, structure.clip).each * numel // 16, each.name
        # Each of a block's threads reads the tensor's record.
        assert result.singles < 2 * 256, each.name


# ---- Every other kernel --------------------------------------------------------------------------

#: What begins the pieces of a file that tell its kernel's bodies apart, or are computed for all.
GLUE = (
    "/* radam_",  # the header
    "#define BLOCK_THREADS",
    "/* Computed once per group. */",
    "/* One record per tensor",
    "static __device__ group_values values_of_group",
    'extern "C" __global__',
    "/* One partial sum per chunk.",
    "/* What each tensor adds to the group's sum",
    "/* One sum per tensor",
    "const radam_cuda_kernel *radam_codegen_cuda_kernel",
)


def pieces(structure: KernelStructure) -> list[str]:
    return [piece.strip() for piece in cuda_text(structure).split("\n\n")]


def code_of(piece: str) -> list[str]:
    """Lines of a piece without what numbers a body, or depends on how many there are."""
    return re.sub(r"(?<=case )\d+|(?<=__launch_bounds__).*", "", piece).splitlines()


def is_part_of(lines: list[str], whole: list[str]) -> bool:
    rest = iter(whole)
    return all(line in rest for line in lines)


@pytest.mark.parametrize("structure", WIDE, ids=name_of)
def test_kernels_of_one_class_are_made_of_what_was_run(
    structure: KernelStructure, request: pytest.FixtureRequest
) -> None:
    whole = pieces(structure)
    glue = [code_of(piece) for piece in whole if piece.startswith(GLUE)]
    everything = request.config.getoption("--every-structure", default=False)
    for each in CLASSES if everything else CLASSES[WIDE.index(structure) % 4 :: 4]:
        single = KernelStructure(structure.clip, structure.skip, (each,))
        own = [piece for piece in pieces(single) if piece not in whole]
        for piece in own[1:-1]:  # without the header and the description
            assert piece.startswith(GLUE), piece
            assert any(is_part_of(code_of(piece), lines) for lines in glue), piece
