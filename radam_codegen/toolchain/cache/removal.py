"""Taking folders out of the cache, safe against those who are reading them.

A folder is first renamed, so that nobody finds it half gone, and then deleted. A library that is
loaded stays loaded: its pages live as long as the process that mapped them.
"""

from __future__ import annotations

import contextlib
import shutil
import tempfile
from pathlib import Path

from radam_codegen.toolchain.cache.layout import (
    FAILED,
    KEY,
    KINDS,
    LOCKS,
    key_of_leftover,
    listed,
    prefix,
)
from radam_codegen.toolchain.cache.lock import try_to_hold

__all__ = ["delete", "limit_failed", "remove_entry", "remove_leftovers_of", "sweep_leftovers"]

#: Failed builds whose source and log are kept.
_MOST_FAILED = 16


def remove_entry(entry: Path, key: str) -> bool:
    """Take an entry out of the way, and then away; False when it was gone already.

    Raises:
        OSError: It cannot be moved.
    """
    aside = Path(tempfile.mkdtemp(prefix=prefix("old", key), dir=entry.parent))
    try:
        entry.rename(aside / entry.name)
    except FileNotFoundError:
        return False
    finally:
        delete(aside)
    return True


def delete(path: Path) -> None:
    """Delete a folder, a file or a link, as far as that is possible."""
    with contextlib.suppress(OSError):
        if path.is_dir() and not path.is_symlink():
            shutil.rmtree(path, ignore_errors=True)
        else:
            path.unlink()


def remove_leftovers_of(folder: Path, key: str) -> None:
    """Remove what dead builds of a key left in a folder of entries; its lock must be held."""
    for path in _leftovers(folder):
        if key_of_leftover(path) == key:
            delete(path)


def sweep_leftovers(root: Path) -> None:
    """Remove what dead builds left anywhere: all whose lock nobody holds."""
    found: dict[str, list[Path]] = {}
    for kind in KINDS:
        for path in _leftovers(root / kind):
            found.setdefault(key_of_leftover(path) or "", []).append(path)
    for path in listed(root / LOCKS):
        if path.suffix == ".holder":
            found.setdefault(path.stem, []).append(path)
    for key, paths in found.items():
        with contextlib.suppress(OSError), try_to_hold(root, key) as held:
            # Without locks there is no telling whether its builder lives.
            if held is not None and held.exclusive:
                for path in paths:
                    if path.suffix != ".holder":  # that one is ours by now, and goes with the lock
                        delete(path)


def limit_failed(root: Path) -> None:
    """Keep the newest of the builds that failed."""
    ages = []
    for path in listed(root / FAILED):
        if not KEY.fullmatch(path.name):
            continue
        with contextlib.suppress(OSError):
            ages.append((path.lstat().st_mtime, path))
    for _, path in sorted(ages, reverse=True)[_MOST_FAILED:]:
        delete(path)


def _leftovers(folder: Path) -> list[Path]:
    return [path for path in listed(folder) if key_of_leftover(path) is not None]
