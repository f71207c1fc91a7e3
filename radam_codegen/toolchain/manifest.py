"""The file that makes a folder of built files an entry of the cache.

It is written last and lists every file with its SHA-256. It is in one form only, with a digest of
itself, so that a single bit that differs anywhere in the entry is seen before anything is loaded.
"""

from __future__ import annotations

import errno
import hashlib
import json
import os
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from radam_codegen.toolchain.safe_json import open_regular, read_json, read_small

__all__ = ["FORMAT", "MANIFEST", "Fault", "find_fault", "read_manifest", "write_manifest"]

MANIFEST = "manifest.json"

#: Part of every key, so that versions of this package with other manifests never meet.
FORMAT = 1

#: No manifest comes near the one, no file of an entry near the other; longer ones are not read.
_MOST_MANIFEST_BYTES = 1 << 20
_MOST_FILE_BYTES = 256 << 20
_MOST_FILES = 1000

#: What a file says when it is not there, or not a file, rather than out of reach.
_GONE = frozenset({errno.ENOENT, errno.ELOOP, errno.ENOTDIR, errno.EISDIR})


class Fault(str):
    """What is wrong with an entry, as the end of a sentence.

    Attributes:
        unreadable: Whether its files are out of reach, so that nobody knows how they are.
    """

    unreadable = False


def write_manifest(folder: Path, key: str, facts: Mapping[str, Any]) -> None:
    """Write down every file of the folder with its SHA-256, and how the files were made.

    Args:
        folder: The entry; its files must be complete.
        key: The entry's key.
        facts: What to say about the build; JSON values, nothing that depends on the time.
    """
    files = {
        path.name: _sha256(path.name, folder)
        for path in sorted(folder.iterdir())
        if path.is_file() and path.name != MANIFEST
    }
    content = {"format": FORMAT, "key": key, "files": files, "build": dict(facts)}
    content = json.loads(json.dumps(content))  # as it will be read: lists and text for keys
    (folder / MANIFEST).write_bytes(_rendered(content))


def read_manifest(folder: Path) -> dict[str, Any]:
    """Read the manifest of an entry, whose files may be damaged all the same.

    Returns:
        ``format``, ``key``, ``files`` (SHA-256 by name), ``build`` (what the builder said) and
        ``sha256`` (of the rest).

    Raises:
        OSError: It cannot be read, or the folder or the manifest is a link.
        ValueError: It is not as it was written.
    """
    descriptor = _open_folder(folder)
    try:
        return _read_manifest(descriptor)
    finally:
        os.close(descriptor)


def find_fault(folder: Path, key: str) -> Fault | None:
    """Compare an entry with its manifest: every file, every bit.

    Links are not followed, be it the folder or a file in it.

    Returns:
        What is wrong with the entry; None when it can be used.
    """
    try:
        descriptor = _open_folder(folder)
    except OSError as error:
        return _unreadable(folder.name, error)
    try:
        return _find_fault(descriptor, key)
    finally:
        os.close(descriptor)


def _find_fault(folder: int, key: str) -> Fault | None:
    try:
        content = _read_manifest(folder)
    except OSError as error:
        return _unreadable(MANIFEST, error)
    except ValueError as error:
        return Fault(f"its manifest cannot be understood ({error})")
    if content["key"] != key:
        return Fault(f"its manifest is that of {content['key'][:64]!r}")
    files = content["files"]
    for name, digest in files.items():
        try:
            if _sha256(name, folder) != digest:
                return Fault(f"{name} is not as it was built")
        except OSError as error:
            return _unreadable(name, error)
        except ValueError:
            return Fault(f"{name} is too large")
    for name in sorted(os.listdir(folder)):
        if ".so" in name and name not in files:
            return Fault(f"it holds {name!r}, which its manifest does not list")
    return None


def _read_manifest(folder: int) -> dict[str, Any]:
    text = read_small(MANIFEST, _MOST_MANIFEST_BYTES, folder)
    content = read_json(text)
    if not isinstance(content, dict):
        raise ValueError("not an object")
    if content.get("format") != FORMAT:
        raise ValueError("not of this version's format")
    digest = content.pop("sha256", None)
    try:
        as_written = _rendered(content) == text
    except RecursionError:
        as_written = False
    if not as_written:
        raise ValueError("not as it was written")
    names = content.get("files")
    if not isinstance(names, dict) or not 0 < len(names) <= _MOST_FILES:
        raise ValueError("lists no files, or too many")
    if any(os.path.basename(name) != name or name in ("", ".", "..") for name in names):
        raise ValueError("names a file that lies elsewhere")
    if not isinstance(content.get("key"), str):
        raise ValueError("names no key")
    if not isinstance(content.get("build"), dict):
        raise ValueError("says nothing of the build")
    return {**content, "sha256": digest}


def _rendered(content: Mapping[str, Any]) -> bytes:
    """The one text of a manifest."""
    digest = hashlib.sha256(_dumped(content)).hexdigest()
    return _dumped({**content, "sha256": digest})


def _dumped(content: Mapping[str, Any]) -> bytes:
    text = json.dumps(content, indent=2, sort_keys=True, ensure_ascii=True) + "\n"
    return text.encode("ascii")


def _open_folder(folder: Path) -> int:
    return os.open(folder, os.O_RDONLY | os.O_DIRECTORY | os.O_NOFOLLOW | os.O_CLOEXEC)


def _unreadable(name: str, error: OSError) -> Fault:
    fault = Fault(f"{name} cannot be read ({error.strerror})")
    fault.unreadable = error.errno not in _GONE
    return fault


def _sha256(name: str, folder: int | Path) -> str:
    path, descriptor = (name, folder) if isinstance(folder, int) else (folder / name, None)
    with open_regular(path, descriptor) as file:
        if os.fstat(file).st_size > _MOST_FILE_BYTES:
            raise ValueError(f"{name} is too large")
        digest = hashlib.sha256()
        while block := os.read(file, 1 << 20):
            digest.update(block)
        return digest.hexdigest()
