"""Which CUDA kernels are tested: a few, or, with ``--every-structure``, all that there are."""

from __future__ import annotations

import itertools

import pytest
from support.cuda_structures import OTHERS, QUICK
from support.structures import CLASSES, every_structure

from radam_codegen.ir.plan import ClipKind, KernelStructure

_OPTION = "--every-structure"


def pytest_addoption(parser: pytest.Parser) -> None:
    parser.addoption(
        _OPTION,
        action="store_true",
        help="compile and check CUDA kernels of every structure, not of a few only",
    )


def pytest_generate_tests(metafunc: pytest.Metafunc) -> None:
    # The option is not there where this folder is only one of those that are collected.
    everything = metafunc.config.getoption(_OPTION, default=False)
    kinds = itertools.product(ClipKind, (False, True))
    every_class = [KernelStructure(clip, skip, CLASSES) for clip, skip in kinds]
    for name, some, others in (
        ("built_structure", QUICK, every_structure()),
        ("wide_structure", (OTHERS,), every_class),
    ):
        if name in metafunc.fixturenames:
            structures = list(others if everything else some)
            # By structure, so that what was read of one library is not kept for long.
            metafunc.parametrize(name, structures, ids=_name, scope="module")


def _name(structure: KernelStructure) -> str:
    return structure.name if len(structure.classes) < len(CLASSES) else f"{structure.name[:40]}..."
