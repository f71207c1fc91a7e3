"""Where the files that are not Python lie: templates, the C header, the operator's source."""

from __future__ import annotations

from importlib import import_module
from pathlib import Path

__all__ = ["include_dir", "runtime_dir", "templates_dir"]


def _package_dir(name: str) -> Path:
    module = import_module(name)
    assert module.__file__ is not None, f"{name} is a regular package, so it has a file"
    return Path(module.__file__).resolve().parent


def templates_dir() -> Path:
    """Folder of the Jinja templates."""
    return _package_dir("radam_codegen.templates")


def runtime_dir() -> Path:
    """Folder of the C++ operator's source."""
    return _package_dir("radam_codegen.runtime")


def include_dir() -> Path:
    """Folder to give a compiler as ``-I`` for ``#include <radam_codegen/kernel.h>``."""
    return runtime_dir() / "include"
