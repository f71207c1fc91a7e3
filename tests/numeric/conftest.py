"""Tests here that use Paddle build static programs."""

from __future__ import annotations

from collections.abc import Iterator

import paddle
import pytest


@pytest.fixture
def static_mode() -> Iterator[None]:
    paddle.enable_static()
    with paddle.utils.unique_name.guard():
        yield
    paddle.disable_static()
