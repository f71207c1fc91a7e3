"""Tests here build static programs."""

from __future__ import annotations

from collections.abc import Iterator

import paddle
import pytest

from radam_codegen.program.executor_hook import install_executor_hook
from radam_codegen.program.pruning import PruneCache, prune_cache


@pytest.fixture
def static_mode() -> Iterator[None]:
    paddle.enable_static()
    yield
    paddle.disable_static()


@pytest.fixture
def cache(static_mode: None) -> Iterator[PruneCache]:
    """The process's cache, empty and counting from zero, with the hook in place."""
    install_executor_hook()
    prune_cache.clear()
    yield prune_cache
    prune_cache.clear()
