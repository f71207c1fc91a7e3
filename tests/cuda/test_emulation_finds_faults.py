"""Single faults planted in a generated kernel: the emulation finds each, and says what it is."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import pytest
from support.agreement import assert_bitwise
from support.cuda_cases import build_c, cuda_text, in_c
from support.cuda_emulation import WATCHED, EmulationError, Emulator, build_emulator
from support.cuda_mutants import MUTANTS, STRUCTURE, WRONG, gauntlet

from radam_codegen.ir.interpret import GroupArrays
from radam_codegen.ir.plan import UpdatePlan

CASES = gauntlet()


@pytest.fixture(scope="module")
def emulator(tmp_path_factory: pytest.TempPathFactory, run_folder: Path) -> Emulator:
    return build_emulator(WATCHED, tmp_path_factory.mktemp("faults"), run_folder)


@pytest.fixture(scope="module")
def libraries(emulator: Emulator) -> dict[str, Path]:
    text = cuda_text(STRUCTURE)
    texts = {f"mutant_{k}": each.plant(text) for k, each in enumerate(MUTANTS) if each.fits(text)}
    return emulator.build_all({"as_generated": text, **texts})


@pytest.fixture(scope="module")
def expected(tmp_path_factory: pytest.TempPathFactory) -> list[GroupArrays]:
    kernel = build_c(STRUCTURE, tmp_path_factory.mktemp("c"))
    return [in_c(kernel, case) for case in CASES]


def run(emulator: Emulator, library: Path, expected: list[GroupArrays]) -> None:
    results = emulator.run(*(replace(case, library=library) for case in CASES))
    for case, result, wanted in zip(CASES, results, expected):
        assert_bitwise(UpdatePlan((case.group,)), [result.arrays], [wanted])


def test_the_kernel_as_it_is_generated_has_no_fault(
    emulator: Emulator,
    libraries: dict[str, Path],
    expected: list[GroupArrays],
) -> None:
    run(emulator, libraries["as_generated"], expected)


@pytest.mark.parametrize("number", range(len(MUTANTS)), ids=lambda k: str(MUTANTS[k]))
def test_a_fault_is_found(
    number: int,
    emulator: Emulator,
    libraries: dict[str, Path],
    expected: list[GroupArrays],
) -> None:
    assert MUTANTS[number].fits(cuda_text(STRUCTURE)), "the kernel has no such code any more"
    found = AssertionError if MUTANTS[number].finding == WRONG else EmulationError
    with pytest.raises(found, match=MUTANTS[number].finding):
        run(emulator, libraries[f"mutant_{number}"], expected)
