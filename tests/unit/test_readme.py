"""What the documents say is so: their tests, links and settings exist, their example runs."""

from __future__ import annotations

import ast
import os
import re
import subprocess
import sys
from pathlib import Path

import pytest

from radam_codegen.config import SETTINGS

ROOT = Path(__file__).resolve().parents[2]
DOCUMENTS = [ROOT / "README.md", ROOT / "CONTRIBUTING.md", *sorted((ROOT / "docs").rglob("*.md"))]


def _text(document: Path) -> str:
    return document.read_text(encoding="utf-8")


def _named_tests() -> list[str]:
    pattern = r"tests/[\w/]+\.py(?:::\w+)?"
    return sorted({name for path in DOCUMENTS for name in re.findall(pattern, _text(path))})


@pytest.mark.parametrize("name", _named_tests())
def test_every_test_that_is_named_exists(name: str) -> None:
    file, _, function = name.partition("::")
    tree = ast.parse(_text(ROOT / file))
    if function:
        assert function in {node.name for node in tree.body if isinstance(node, ast.FunctionDef)}


def test_the_readme_names_tests() -> None:
    assert any("::" in name for name in _named_tests())


@pytest.mark.parametrize("document", DOCUMENTS, ids=lambda path: path.name)
def test_links_lead_somewhere(document: Path) -> None:
    targets = re.findall(r"\]\(([^)#]+)[^)]*\)", _text(document))
    inside = [target for target in targets if not target.startswith("https://")]
    assert [target for target in inside if not (document.parent / target).exists()] == []


def test_every_fault_names_the_test_that_shows_it() -> None:
    table = _text(ROOT / "docs" / "reliability.md").split("\n## Faults\n")[1].split("\n## ")[0]
    rows = [line for line in table.splitlines() if line.startswith("| ") and "**" not in line][1:]
    assert len(rows) > 30
    assert [row for row in rows if "`tests/" not in row.split(" | ")[-1]] == []


def test_the_table_of_settings_is_complete() -> None:
    listed = set(re.findall(r"^\| `([A-Z_]+)` \|", _text(ROOT / "README.md"), re.MULTILINE))
    assert listed == {setting.variable for setting in SETTINGS}


@pytest.mark.both_irs
def test_the_example_runs(tmp_path: Path) -> None:
    (example, *_) = re.findall(r"```python\n(.*?)```", _text(ROOT / "README.md"), re.DOTALL)
    check = "\nassert value < 0.05, value\n"
    done = subprocess.run(
        [sys.executable, "-c", example + check],
        cwd=tmp_path,
        env=dict(os.environ),
        capture_output=True,
        text=True,
        check=False,
        timeout=300,
    )
    assert done.returncode == 0, done.stderr
    assert done.stdout.rstrip().endswith("kernel.c")
