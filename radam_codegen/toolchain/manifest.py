"""The file that makes a folder of built files an entry of the cache."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any

__all__ = ["MANIFEST", "find_fault", "write_manifest"]

MANIFEST = "manifest.json"

_FORMAT = 1


def write_manifest(folder: Path, key: str, facts: Mapping[str, Any]) -> None:
    """Write down every file of the folder with its SHA-256, and how the files were made.

    Args:
        folder: The entry; its files must be complete.
        key: The entry's key.
        facts: What to say about the build; JSON values, nothing that depends on the time.
    """
    files = {
        path.name: _sha256(path)
        for path in sorted(folder.iterdir())
        if path.is_file() and path.name != MANIFEST
    }
    content = {"format": _FORMAT, "key": key, "files": files, "build": dict(facts)}
    text = json.dumps(content, indent=2, sort_keys=True, ensure_ascii=True) + "\n"
    (folder / MANIFEST).write_text(text, encoding="ascii")


def find_fault(folder: Path, key: str) -> str | None:
    """Compare an entry with its manifest.

    Returns:
        What is wrong with the entry; None when it can be used.
    """
    try:
        content = json.loads((folder / MANIFEST).read_text(encoding="ascii"))
        if content["format"] != _FORMAT:
            return f"its manifest has the format {content['format']!r}"
        if content["key"] != key:
            return f"its manifest is that of {content['key']!r}"
        files = content["files"]
        if not files:
            return "its manifest lists no files"
        for name, digest in files.items():
            if Path(name).name != name:
                return f"its manifest names {name!r}, which lies elsewhere"
            if _sha256(folder / name) != digest:
                return f"{name} is not as it was built"
    except OSError as error:
        return f"{Path(error.filename or MANIFEST).name} cannot be read ({error.strerror})"
    except (ValueError, KeyError, TypeError, AttributeError):
        return "its manifest cannot be understood"
    return None


def _sha256(path: Path) -> str:
    return hashlib.sha256(path.read_bytes()).hexdigest()
