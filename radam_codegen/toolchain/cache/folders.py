"""Who may write to the folder of the cache: code that this process runs comes out of it."""

from __future__ import annotations

import os
import stat
from pathlib import Path

from radam_codegen.errors import ArtifactError

__all__ = ["check_folders", "make_folders"]


def make_folders(root: Path, kind: str) -> None:
    """Make what is missing, for this user alone, and check the rest.

    Raises:
        OSError: They cannot be made.
        ArtifactError: See :func:`check_folders`.
    """
    (root / kind).parent.mkdir(mode=0o700, parents=True, exist_ok=True)
    (root / kind).mkdir(mode=0o700, exist_ok=True)
    check_folders(root, kind)


def check_folders(root: Path, kind: str) -> None:
    """Refuse a cache that another user could put code into. What is missing is fine.

    Root is no other user here: whoever is root needs no cache to run code. But a process of root
    does not take code from somebody else's folder, and that may be a home mounted in a container.

    Raises:
        ArtifactError: Another user owns the cache, or can write to it.
    """
    for folder in (root, root / kind):
        try:
            status = os.stat(folder)
        except OSError:
            continue  # where it is needed, it is missing or out of reach for a reason that is told
        user = os.geteuid()
        if status.st_uid not in (user, 0):
            raise ArtifactError(
                f"The cache {folder} belongs to user {status.st_uid}, who could have this process, "
                f"of user {user}, run any code. Set RADAM_CODEGEN_CACHE_DIR to a folder of user "
                f"{user}, or give this one away: chown -R {user} {root}"
            )
        if status.st_mode & (stat.S_IWGRP | stat.S_IWOTH):
            mode = stat.S_IMODE(status.st_mode)
            raise ArtifactError(
                f"Other users can write to the cache {folder} (its mode is {mode:04o}), and so "
                "could have this process run any code. Remove it, or, if you trust what is in it: "
                f"chmod go-w {folder}. Or set RADAM_CODEGEN_CACHE_DIR to another folder."
            )
