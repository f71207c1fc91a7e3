"""Writing kernels as a tree of plain C, perhaps with CUDA beside it."""

from __future__ import annotations

import contextlib
import json
import shutil
import tempfile
from collections.abc import Iterator, Mapping
from pathlib import Path

from radam_codegen._version import __version__
from radam_codegen.codegen import CUDA_TARGET, render
from radam_codegen.codegen.standalone import standalone_files
from radam_codegen.errors import ArtifactError
from radam_codegen.ir.plan import KernelStructure
from radam_codegen.passes import lower_structure

__all__ = ["CONTENTS", "write_standalone"]

#: File that lists the kernels; a folder that has it is a tree of ours.
CONTENTS = "kernels.json"


def write_standalone(
    folder: Path, structures: Mapping[str, KernelStructure], *, cuda: bool = False
) -> None:
    """Write the tree; one that is there is replaced as a whole.

    Args:
        folder: A new or empty folder, or a tree that was written earlier.
        structures: Kernels by name, at least one.
        cuda: Whether to write CUDA sources, too.

    Raises:
        ArtifactError: The folder holds something else, or cannot be written.
    """
    lowered = [(each, lower_structure(each)) for each in structures.values()]
    kernels = [(structure, render(ir)) for structure, ir in lowered]
    in_cuda = {structure.name: render(ir, CUDA_TARGET) for structure, ir in lowered if cuda}
    files = standalone_files(kernels, in_cuda)
    listed = {source.name: source.sha256 for _, source in kernels}
    contents = {"format": 1, "version": __version__, "kernels": listed}
    files[CONTENTS] = f"{json.dumps(contents, indent=1, sort_keys=True)}\n"
    folder = folder.absolute()
    try:
        if folder.exists() and any(folder.iterdir()) and not (folder / CONTENTS).is_file():
            raise ArtifactError(
                f"{folder} is not empty, and was not written by `radam-codegen aot --standalone`. "
                "Name another folder."
            )
        folder.parent.mkdir(parents=True, exist_ok=True)
        with _temporary(folder) as new:
            for name, text in files.items():
                path = new / "tree" / name
                path.parent.mkdir(parents=True, exist_ok=True)
                path.write_bytes(text.encode("utf-8"))
            if folder.exists():
                folder.rename(new / "old")
            (new / "tree").rename(folder)
    except OSError as error:
        raise ArtifactError(f"{folder} cannot be written: {error}") from error


@contextlib.contextmanager
def _temporary(folder: Path) -> Iterator[Path]:
    """A folder on the same file system, gone in the end."""
    path = Path(tempfile.mkdtemp(prefix=f".new-{folder.name[:100]}-", dir=folder.parent))
    try:
        yield path
    finally:
        shutil.rmtree(path, ignore_errors=True)
