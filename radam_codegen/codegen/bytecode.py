"""What Jinja makes of the templates, kept where Python keeps what it makes of modules.

Compiling the templates takes longer than all else that a process does before its first step with a
kernel that is in the cache. They are kept as ``.pyc`` files are: in ``__pycache__`` beside the
templates or under ``PYTHONPYCACHEPREFIX``, by whoever may write there, and not at all with
``PYTHONDONTWRITEBYTECODE``. Jinja compares the checksum of the template before it uses one.
"""

from __future__ import annotations

import contextlib
import hashlib
import importlib.util
import os
import sys
import tempfile
from pathlib import Path

import jinja2
from jinja2.bccache import Bucket

__all__ = ["TemplateBytecode"]


class TemplateBytecode(jinja2.BytecodeCache):
    """Compiled templates in ``__pycache__``.

    Args:
        folder: where the templates are.
        options: what of the environment has a part in the bytecode.
    """

    def __init__(self, folder: Path, options: object) -> None:
        self._folder = folder
        self._environment = f"{jinja2.__version__} {options!r}"

    def load_bytecode(self, bucket: Bucket) -> None:
        """Fill the bucket, if there is something for it; what is damaged counts as missing."""
        unusable = contextlib.suppress(OSError, EOFError, ValueError, TypeError)
        with unusable, self._file(bucket).open("rb") as file:
            bucket.load_bytecode(file)

    def dump_bytecode(self, bucket: Bucket) -> None:
        """Keep what is in the bucket, if that may be."""
        if sys.dont_write_bytecode:
            return
        path = self._file(bucket)
        with contextlib.suppress(OSError):
            path.parent.mkdir(parents=True, exist_ok=True)
            # Whole or not at all, as other processes may be reading.
            descriptor, name = tempfile.mkstemp(prefix=f"{path.name}.", dir=path.parent)
            try:
                with open(descriptor, "wb") as file:
                    bucket.write_bytecode(file)
                os.replace(name, path)
            except OSError:
                os.unlink(name)
                raise

    def _file(self, bucket: Bucket) -> Path:
        name = hashlib.sha256(f"{bucket.key} {self._environment}".encode()).hexdigest()
        return Path(importlib.util.cache_from_source(str(self._folder / f"{name[:32]}.py")))
