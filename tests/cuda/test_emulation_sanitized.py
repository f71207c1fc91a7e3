"""Generated CUDA, executed on the CPU under AddressSanitizer and UndefinedBehaviorSanitizer."""

from __future__ import annotations

from dataclasses import replace
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
)
from support.cuda_emulation import (
    SANITIZED,
    Case,
    EmulationError,
    Emulator,
    Number,
    Order,
    build_emulator,
)
from support.cuda_mutants import MUTANTS, STRUCTURE, gauntlet
from support.plans import random_arrays
from support.structures import CLASSES, SAMPLE

from radam_codegen.ir.plan import ClipKind, KernelStructure, UpdatePlan

#: Each kind of clip with every pair of types, and the kernel of the faults.
STRUCTURES = (
    KernelStructure(ClipKind.NONE, True, CLASSES[1::7]),
    *(each for each in SAMPLE if 1 < len(each.classes) < 10),
    STRUCTURE,
)


@pytest.fixture(scope="module")
def emulator(tmp_path_factory: pytest.TempPathFactory, run_folder: Path) -> Emulator:
    return build_emulator(SANITIZED, tmp_path_factory.mktemp("sanitized"), run_folder)


def name_of(structure: KernelStructure) -> str:
    return f"{structure.clip}{'-skip' if structure.skip else ''}-{len(structure.classes)}"


@pytest.fixture(scope="module")
def libraries(emulator: Emulator) -> dict[str, Path]:
    return emulator.build_all({name_of(each): cuda_text(each) for each in STRUCTURES})


@pytest.mark.parametrize("structure", STRUCTURES, ids=name_of)
def test_nothing_is_undefined_or_out_of_bounds(
    structure: KernelStructure, emulator: Emulator, libraries: dict[str, Path], tmp_path: Path
) -> None:
    random = np.random.default_rng(len(structure.classes))
    cases = []
    for order in (Order.DESCENDING, Order.SHUFFLED, Order.INTERLEAVED):
        # Once more tensors than one launch takes.
        many = order is Order.SHUFFLED and structure is STRUCTURE
        sizes = random.integers(0, 5 if many else 70, 401 if many else 30).tolist()
        group = random_group(structure, random, [*sizes, 4103])
        (arrays,) = random_arrays(UpdatePlan((group,)), 2, None, special=True)
        place = offsets_of_their_own if order is Order.DESCENDING else offsets_in_step
        case = Case(
            libraries[name_of(structure)],
            structure,
            group,
            arrays,
            Number((0.01,)),
            found_inf=(False,),
            offsets=place(group, random),
            order=order,
            most_threads=32,
        )
        cases.append(case)
    kernel = build_c(structure, tmp_path)
    for case, result in zip(cases, emulator.run(*cases)):
        assert_as_in_c(kernel, case, result)


@pytest.mark.parametrize(
    ("mutant", "finding"),
    [
        ("unguarded end", "AddressSanitizer: use-after-poison"),
        ("packets from any address", "runtime error: .* misaligned address"),
    ],
)
def test_a_fault_is_found(mutant: str, finding: str, emulator: Emulator) -> None:
    text = cuda_text(STRUCTURE)
    planted = next(each for each in MUTANTS if each.name == mutant).plant(text)
    library = emulator.build(mutant.replace(" ", "_"), planted)
    case = gauntlet()[0]
    with pytest.raises(EmulationError, match=finding):
        emulator.run(replace(case, library=library))
