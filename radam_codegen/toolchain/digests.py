"""SHA-256 of files that are large and rarely change: the programs that a compile runs."""

from __future__ import annotations

import contextlib
import hashlib
import json
from pathlib import Path

from radam_codegen.toolchain.forks import ForkSafeLock

__all__ = ["MEMO", "file_sha256", "remove_unfinished"]

#: File in the cache folder that remembers digests from process to process.
MEMO = "digests.json"

#: More than the compilers of any machine; what is over it is from programs that are gone.
_MOST_REMEMBERED = 256

_known: dict[str, str] = {}
_lock = ForkSafeLock()


def file_sha256(path: Path, memo_folder: Path) -> str:
    """SHA-256 of a file's content, in hexadecimal.

    A compiler proper has some 35 MB. Its digest is remembered, in the process and in a file, until
    the file's size, inode or one of its times differs.

    Args:
        path: What to read, links followed.
        memo_folder: The folder of the cache. Where it cannot be read or written, only this process
            remembers.

    Raises:
        OSError: The file cannot be read.
    """
    status = path.stat()
    state = f"{status.st_size}:{status.st_ino}:{status.st_mtime_ns}:{status.st_ctime_ns}:{path}"
    with _lock:
        if state not in _known:
            memo = memo_folder / MEMO
            remembered = _read(memo)
            if state in remembered:
                _known[state] = remembered[state]
            else:
                _known[state] = _digest(path)
                _write(memo, {**remembered, state: _known[state]})
        return _known[state]


def _digest(path: Path) -> str:
    digest = hashlib.sha256()
    with path.open("rb") as stream:
        for block in iter(lambda: stream.read(1 << 20), b""):
            digest.update(block)
    return digest.hexdigest()


def _read(memo: Path) -> dict[str, str]:
    try:
        content = json.loads(memo.read_text(encoding="utf-8"))
    except (OSError, ValueError, RecursionError):
        return {}
    if not isinstance(content, dict):
        return {}
    return {state: digest for state, digest in content.items() if isinstance(digest, str)}


def remove_unfinished(memo_folder: Path) -> None:
    """Remove what a process left that was killed while it wrote digests.

    One that writes just now loses no more than what it would have remembered.
    """
    with contextlib.suppress(OSError):
        _unfinished(memo_folder).unlink()


def _unfinished(memo_folder: Path) -> Path:
    return memo_folder / f".new-{MEMO}"


def _write(memo: Path, content: dict[str, str]) -> None:
    newest = dict(list(content.items())[-_MOST_REMEMBERED:])
    # A digest that is not remembered, or that two processes garbled, costs time and nothing else.
    try:
        memo.parent.mkdir(mode=0o700, parents=True, exist_ok=True)
        new = _unfinished(memo.parent)
        new.write_text(json.dumps(newest, indent=1), encoding="utf-8")
        new.replace(memo)
    except (OSError, UnicodeEncodeError):
        remove_unfinished(memo.parent)
