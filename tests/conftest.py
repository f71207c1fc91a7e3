"""What every test gets: the IR it runs in, and a cache of its own run."""

from __future__ import annotations

import os
import shutil
import tempfile
from pathlib import Path

import pytest

_TESTS = Path(__file__).resolve().parent
_BOTH_IRS = (_TESTS / "program", _TESTS / "numeric")
_CACHE = "RADAM_CODEGEN_CACHE_DIR"
_own_cache = pytest.StashKey[str]()


def pytest_configure(config: pytest.Config) -> None:
    # One cache for a whole run, shared by its workers (they inherit the environment), empty at the
    # start: tests neither see nor leave anything in the user's own.
    if not hasattr(config, "workerinput"):
        config.stash[_own_cache] = tempfile.mkdtemp(prefix="radam_codegen_tests_")
        os.environ[_CACHE] = config.stash[_own_cache]


def pytest_unconfigure(config: pytest.Config) -> None:
    if _own_cache in config.stash:
        shutil.rmtree(config.stash[_own_cache], ignore_errors=True)


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    for item in items:
        inside = any(folder in item.path.parents for folder in _BOTH_IRS)
        if inside and item.get_closest_marker("either_ir") is None:
            item.add_marker(pytest.mark.both_irs)
