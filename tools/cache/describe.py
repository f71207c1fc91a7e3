"""Entries of the cache in words, and as JSON values."""

from __future__ import annotations

from collections.abc import Sequence
from datetime import datetime
from pathlib import Path
from typing import Any

from radam_codegen.toolchain.cache import Stats, Stored
from radam_codegen.toolchain.cache.counters import NAMES
from radam_codegen.toolchain.manifest import find_fault, read_manifest

__all__ = ["amount", "detail", "details", "figures", "summary", "table"]


def summary(entry: Stored) -> dict[str, Any]:
    """An entry as JSON values: where it is, and what."""
    return {
        "key": entry.key,
        "kind": entry.kind,
        "what": _what(entry),
        "size": entry.size,
        "used": entry.used,
        "folder": str(entry.folder),
    }


def detail(entry: Stored) -> dict[str, Any]:
    """The same with the manifest, and with what is wrong with the entry."""
    fault = find_fault(entry.folder, entry.key)
    return {
        **summary(entry),
        "fault": None if fault is None else str(fault),
        "manifest": _manifest(entry),
    }


def table(root: Path, entries: Sequence[Stored]) -> str:
    """Entries, one per line."""
    if not entries:
        return f"{root} is empty"
    lines = [f"{'key':32}  {'kind':12}  {'size':>9}  {'last used':16}  what"]
    for entry in entries:
        lines.append(
            f"{entry.key}  {entry.kind:12}  {amount(entry.size):>9}  {_time(entry.used):16}  "
            f"{_what(entry)}"
        )
    total = amount(sum(entry.size for entry in entries))
    return "\n".join([*lines, f"{len(entries)} entries, {total}, in {root}"])


def details(shown: dict[str, Any]) -> str:
    """What :func:`detail` found, in lines."""
    lines = [
        f"key        {shown['key']}",
        f"what       {shown['what']}",
        f"folder     {shown['folder']}",
        f"size       {amount(shown['size'])}",
        f"last used  {_time(shown['used'])}",
        f"state      {'as it was built' if shown['fault'] is None else shown['fault']}",
    ]
    manifest = shown["manifest"] or {"files": {}, "build": {}}
    for name, digest in manifest["files"].items():
        lines.append(f"file       {digest}  {name}")
    for name, value in manifest["build"].items():
        text = " ".join(map(str, value)) if isinstance(value, list) else str(value)
        lines.append(f"{name}:")
        lines += [f"    {line}" for line in text.splitlines() or [""]]
    return "\n".join(lines)


def figures(root: Path, limit: int, found: Stats) -> str:
    """The figures of a cache, in lines."""
    lines = [
        f"cache       {root}",
        f"entries     {found.entries}",
        f"size        {amount(found.size)} of at most {amount(limit)}",
        f"failed      {found.failed} builds, whose source and log are kept",
    ]
    width = len(str(max(found.counts.values())))
    for name, number in found.counts.items():
        lines.append(f"{name:10}  {number:{width}}  {NAMES[name]}")
    return "\n".join(lines)


def amount(size: int) -> str:
    """Bytes, for people."""
    value, units = float(size), ["B", "KiB", "MiB", "GiB", "TiB"]
    while value >= 1024 and len(units) > 1:
        value /= 1024
        units.pop(0)
    return f"{value:.0f} B" if units[0] == "B" else f"{value:.1f} {units[0]}"


def _manifest(entry: Stored) -> dict[str, Any] | None:
    try:
        return read_manifest(entry.folder)
    except (OSError, ValueError):
        return None


def _what(entry: Stored) -> str:
    manifest = _manifest(entry)
    build = {} if manifest is None else manifest["build"]
    if "paddle" in build:
        return f"operator for Paddle {build['paddle']}"
    return str(build.get("name", "damaged" if manifest is None else "unnamed"))


def _time(seconds: float) -> str:
    return datetime.fromtimestamp(seconds).strftime("%Y-%m-%d %H:%M") if seconds else "unknown"
