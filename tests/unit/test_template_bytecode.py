"""Compiled templates are kept between processes, and change nothing about what is rendered."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

# Without writing bytecode, so that files appear for templates alone.
RENDER = """
import hashlib, sys
from radam_codegen.codegen.render import environment, render
from radam_codegen.ir.every_structure import every_structure
from radam_codegen.passes import lower_structure
compiled = []
compile = environment()._compile
environment()._compile = lambda *given: compiled.append(given) or compile(*given)
sys.dont_write_bytecode = {dont_write}
text = render(lower_structure(next(iter(every_structure())))).text
print(len(compiled), hashlib.sha256(text.encode()).hexdigest())
"""


def rendered(kept: Path, *, dont_write: bool = False) -> tuple[int, str]:
    """How many templates a process compiles, and the digest of what it renders."""
    done = subprocess.run(
        [sys.executable, "-B", "-c", RENDER.format(dont_write=dont_write)],
        env={**os.environ, "PYTHONPYCACHEPREFIX": str(kept)},
        capture_output=True,
        text=True,
        check=True,
        timeout=120,
    )
    compiled, digest = done.stdout.split()
    return int(compiled), digest


def files(kept: Path) -> list[Path]:
    return sorted(kept.rglob("templates/*.pyc"))


def test_the_next_process_compiles_nothing(tmp_path: Path) -> None:
    kept = tmp_path / "kept"
    compiled, digest = rendered(kept, dont_write=True)
    assert compiled > 5
    assert files(kept) == [], "PYTHONDONTWRITEBYTECODE counts for templates, too"
    assert rendered(kept) == (compiled, digest)
    assert len(files(kept)) == compiled
    assert rendered(kept) == (0, digest)
    damaged = files(kept)
    for index, path in enumerate(damaged):
        content = path.read_bytes()
        path.write_bytes([b"", content[:-20], b"rubbish", bytes(len(content))][index % 4])
    assert rendered(kept) == (compiled, digest)
    assert rendered(kept) == (0, digest)


def test_a_file_in_the_folders_place(tmp_path: Path) -> None:
    kept = tmp_path / "kept"
    kept.write_text("")
    compiled, _ = rendered(kept)
    assert compiled > 5
