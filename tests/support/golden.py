"""Texts that are kept, to see what a change does to them."""

from __future__ import annotations

import difflib
import os
import re
from pathlib import Path

__all__ = ["assert_golden", "without_hashes"]

_FOLDER = Path(__file__).resolve().parent.parent / "golden" / "expected"
_UPDATE = "UPDATE_GOLDEN"


def assert_golden(name: str, text: str) -> None:
    """Demand that a text is what ``tests/golden/expected/<name>`` holds.

    With ``UPDATE_GOLDEN=1`` in the environment the file is written instead: read its diff.
    """
    path = _FOLDER / name
    if os.environ.get(_UPDATE) == "1":
        path.write_text(text, encoding="utf-8", newline="\n")
    expected = path.read_text(encoding="utf-8") if path.exists() else ""
    if text != expected:
        lines = difflib.unified_diff(
            expected.splitlines(), text.splitlines(), f"expected/{name}", "now", lineterm="", n=2
        )
        shown = "\n".join(list(lines)[:80])
        raise AssertionError(
            f"{name} differs from what is kept; where that is meant, {_UPDATE}=1 writes it anew:\n"
            + shown
        )


def without_hashes(text: str) -> str:
    """Blank out hashes, and the version: they change with every edit of a template."""
    text = re.sub(r"\b[0-9a-f]{64}\b", "<sha256>", text)
    return re.sub(r"(radam_codegen) \d+\.\d+\.\S+$", r"\1 <version>.", text, flags=re.M)
