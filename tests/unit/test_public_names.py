from __future__ import annotations

import ast
import importlib
import importlib.metadata
from pathlib import Path

import pytest

import radam_codegen

#: Loading names from these modules loads Paddle.
_NEED_PADDLE = ("radam_codegen.optimizer", "radam_codegen.program")


def _needs_paddle(name: str) -> bool:
    return radam_codegen._HOME.get(name, "").startswith(_NEED_PADDLE)


def _public_names() -> list[object]:
    return [
        pytest.param(name, marks=pytest.mark.both_irs if _needs_paddle(name) else ())
        for name in radam_codegen.__all__
    ]


@pytest.mark.parametrize("name", _public_names())
def test_every_public_name_can_be_loaded(name: str) -> None:
    value = getattr(radam_codegen, name)
    assert value is not None
    home = radam_codegen._HOME.get(name)
    if home is not None:
        assert value is getattr(importlib.import_module(home), name)


def test_type_checkers_see_the_names_that_there_are() -> None:
    tree = ast.parse(Path(radam_codegen.__file__).read_text(encoding="utf-8"))
    (typed,) = (node for node in tree.body if isinstance(node, ast.If))
    seen = {
        alias.name: node.module
        for node in typed.body
        if isinstance(node, ast.ImportFrom)
        for alias in node.names
    }
    assert seen == radam_codegen._HOME
    assert set(radam_codegen.__all__) == {*seen, "__version__", "config"}


def test_dir_lists_names_that_are_not_loaded_yet() -> None:
    assert set(radam_codegen.__all__) <= set(dir(radam_codegen))


def test_an_unknown_name_is_an_attribute_error() -> None:
    with pytest.raises(AttributeError, match="no attribute 'Radam'"):
        _ = radam_codegen.Radam


def test_the_installed_version_is_the_one_in_the_code() -> None:
    assert importlib.metadata.version("radam-codegen") == radam_codegen.__version__
