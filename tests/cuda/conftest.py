"""Which CUDA kernels are tested: a few, or, with ``--every-structure``, all that there are."""

from __future__ import annotations

import pytest
from support.cuda_structures import QUICK
from support.structures import every_structure

_OPTION = "--every-structure"


def pytest_addoption(parser: pytest.Parser) -> None:
    parser.addoption(
        _OPTION,
        action="store_true",
        help="compile and check CUDA kernels of every structure, not of a few only",
    )


def pytest_generate_tests(metafunc: pytest.Metafunc) -> None:
    if "built_structure" in metafunc.fixturenames:
        # The option is not there where this folder is only one of those that are collected.
        everything = metafunc.config.getoption(_OPTION, default=False)
        structures = tuple(every_structure()) if everything else QUICK
        # By structure, so that what was read of one library is not kept for long.
        metafunc.parametrize(
            "built_structure", structures, ids=lambda each: each.name, scope="module"
        )
