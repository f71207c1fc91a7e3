"""Imports go one way only, and Paddle is imported in few places.

The order is that in which data travels; docs/architecture.md describes it.
"""

from __future__ import annotations

import ast
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parents[2]

#: From the bottom to the top; layers in one line stand beside each other.
ORDER = [
    ["_version"],
    ["errors"],
    ["_resources", "config"],
    ["ir"],
    ["passes", "frontend"],
    ["codegen"],
    ["toolchain"],
    ["runtime"],
    ["program"],
    ["optimizer"],
    ["tools"],
    ["cli"],
]
RANK = {layer: rank for rank, layers in enumerate(ORDER) for layer in layers}

#: Layers that may see less than all that is below them.
ONLY = {"frontend": {"errors", "config", "ir", "_version"}}

#: Packages of files that are not Python; _resources asks where they are.
DATA = {"templates"}

#: Layers that use the package as its users do.
MAY_IMPORT_THE_PACKAGE = {"tools", "cli"}

MAY_IMPORT_PADDLE = {"frontend", "program", "optimizer", "tools"}


def _sources() -> Iterator[tuple[str, Path]]:
    """Every Python file that is installed, with the layer that it belongs to."""
    package = ROOT / "radam_codegen"
    for path in sorted(package.rglob("*.py")):
        yield path.relative_to(package).with_suffix("").parts[0], path
    for folder in ("runtime", "templates", "tools"):
        for path in sorted((ROOT / folder).rglob("*.py")):
            yield folder, path


def _module(layer: str, path: Path) -> tuple[str, ...]:
    base = ROOT / "radam_codegen" if path.is_relative_to(ROOT / "radam_codegen") else ROOT
    parts = path.relative_to(base).with_suffix("").parts
    return ("radam_codegen", *parts)


def _imports(tree: ast.AST, module: tuple[str, ...]) -> Iterator[tuple[int, str]]:
    """Every module that is imported anywhere in a file, those only for type checking too."""
    for node in ast.walk(tree):
        if isinstance(node, ast.Import):
            for alias in node.names:
                yield node.lineno, alias.name
        elif isinstance(node, ast.ImportFrom):
            start = ".".join(module[: -node.level]) if node.level else ""
            base = ".".join(part for part in (start, node.module) if part)
            for alias in node.names:
                # `from radam_codegen import passes` imports the layer that its last name says.
                yield node.lineno, f"{base}.{alias.name}"


def _violations(layer: str, text: str, module: tuple[str, ...]) -> list[str]:
    found = []
    for line, name in _imports(ast.parse(text, feature_version=(3, 9)), module):
        top, _, rest = name.partition(".")
        if top == "paddle" and layer not in MAY_IMPORT_PADDLE:
            found.append(f"line {line}: {layer} may not import paddle")
        if top != "radam_codegen":
            continue
        target = rest.partition(".")[0]
        if target in DATA or target == layer or (not target and layer in MAY_IMPORT_THE_PACKAGE):
            continue
        if target not in RANK:
            # A name that the package itself hands out: that is how users see it, not layers.
            found.append(f"line {line}: {name}: import the module that defines it")
        elif layer in ONLY and target not in ONLY[layer]:
            found.append(f"line {line}: {layer} may not import {target}")
        elif RANK[target] >= RANK[layer]:
            found.append(f"line {line}: {layer} is below {target}")
    return found


SOURCES = [(layer, path) for layer, path in _sources() if layer not in ("__init__", *DATA)]


@pytest.mark.parametrize(
    ("layer", "path"), SOURCES, ids=[str(path.relative_to(ROOT)) for _, path in SOURCES]
)
def test_imports_go_down(layer: str, path: Path) -> None:
    assert layer in RANK, f"{layer} has no place in the order of layers: give it one here"
    assert _violations(layer, path.read_text(encoding="utf-8"), _module(layer, path)) == []


@pytest.mark.parametrize(
    ("layer", "text"),
    [
        ("ir", "from radam_codegen.passes.fold import Fold"),
        ("ir", "from radam_codegen import passes"),
        ("ir", "from ..passes import fold"),
        ("ir", "import radam_codegen.passes.fold"),
        ("ir", "def f():\n    import paddle"),
        ("toolchain", "import paddle.utils.cpp_extension"),
        ("toolchain", "from paddle import utils"),
        ("frontend", "from radam_codegen.passes import run"),
        ("passes", "from radam_codegen.frontend import read"),
        ("codegen", "if TYPE_CHECKING:\n    from radam_codegen.optimizer import RAdam"),
        ("program", "from radam_codegen import RAdam"),
        ("program", "import radam_codegen"),
    ],
)
def test_sees_what_is_forbidden(layer: str, text: str) -> None:
    assert len(_violations(layer, text, ("radam_codegen", layer, "here"))) == 1


@pytest.mark.parametrize(
    ("layer", "text"),
    [
        ("passes", "from radam_codegen.ir.ops import Op"),
        ("passes", "from .fold import Fold"),
        ("codegen", "from radam_codegen import errors"),
        ("program", "import paddle"),
        ("tools", "from radam_codegen.optimizer import RAdam"),
        ("tools", "import radam_codegen"),
    ],
)
def test_lets_pass_what_is_allowed(layer: str, text: str) -> None:
    assert _violations(layer, text, ("radam_codegen", layer, "here")) == []


_BLOCK_PADDLE = """
import sys

class Blocker:
    def find_spec(self, name, path=None, target=None):
        if name.partition(".")[0] == "paddle":
            raise ModuleNotFoundError(f"{name} is blocked", name=name)

sys.meta_path.insert(0, Blocker())
"""


def _run(code: str) -> str:
    done = subprocess.run(
        [sys.executable, "-c", code], capture_output=True, text=True, check=False, timeout=120
    )
    assert done.returncode == 0, done.stderr
    return done.stdout


def _modules_without_paddle() -> list[str]:
    names = []
    for layer, path in SOURCES:
        # A tool asks for Paddle when it is called, not when it is imported.
        if layer == "tools" or layer not in MAY_IMPORT_PADDLE:
            names.append(".".join(_module(layer, path)).replace(".__init__", ""))
    return names


def test_works_without_paddle() -> None:
    names = _modules_without_paddle()
    assert "radam_codegen.ir.plan" in names
    assert "radam_codegen.tools.demo.run" in names
    code = _BLOCK_PADDLE + "import importlib\nimport radam_codegen\n"
    code += f"for name in {names!r}:\n    importlib.import_module(name)\n"
    _run(code)


def test_importing_the_package_is_cheap() -> None:
    loaded = _run(
        "import sys\nbefore = set(sys.modules)\nimport radam_codegen\n"
        "print(*sorted(name for name in set(sys.modules) - before))"
    ).split()
    heavy = {name.partition(".")[0] for name in loaded} & {
        *("cffi", "click", "jinja2", "numpy", "paddle", "platformdirs", "rich")
    }
    assert heavy == set()
    assert {name for name in loaded if name.startswith("radam_codegen")} == {
        "radam_codegen",
        "radam_codegen._version",
        "radam_codegen.config",
        "radam_codegen.errors",
    }
