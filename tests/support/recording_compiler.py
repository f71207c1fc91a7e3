"""A compiler that hands out again what it made before, for tests of what happens around it."""

from __future__ import annotations

from pathlib import Path

__all__ = ["make_recording_compiler"]

# Libraries depend on the command and the source alone: that they do, tests/toolchain shows.
_SCRIPT = """#!/bin/sh
case " $* " in
*" kernel.c -o kernel.so "*) source=kernel.c library=kernel.so;;
*" operator.cc -o operator.so "*) source=operator.cc library=operator.so;;
*) exec {compiler} "$@";;
esac
made={folder}/$({{ echo "$*"; cat $source; }} | sha256sum | cut -c -64)
[ -e $made ] && exec cp $made $library
{compiler} "$@" && cp $library $made.$$ && mv $made.$$ $made
"""


def make_recording_compiler(folder: Path, compiler: str, name: str = "recording") -> str:
    """Write a script that runs a compiler once per source and command; return its command.

    Args:
        folder: Where the script goes, and what the compiler made; without spaces. Scripts of
            several names may share it.
        compiler: The real one.
        name: The script's name.
    """
    folder.mkdir(parents=True, exist_ok=True)
    path = folder / name
    path.write_text(_SCRIPT.format(folder=folder, compiler=compiler), encoding="utf-8")
    path.chmod(0o755)
    return str(path)
