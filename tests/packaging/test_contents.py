"""Nothing that a user needs is left out of what is published."""

from __future__ import annotations

import email
import tarfile
import zipfile
from pathlib import Path

import pytest

from radam_codegen._version import __version__

#: Folder of the checkout: folder of the wheel.
_FOLDERS = {
    "radam_codegen": "radam_codegen",
    "runtime": "radam_codegen/runtime",
    "templates": "radam_codegen/templates",
    "tools": "radam_codegen/tools",
}


def _shipped(checkout: Path, folder: str) -> set[str]:
    return {
        path.relative_to(checkout).as_posix()
        for path in (checkout / folder).rglob("*")
        if path.is_file() and "__pycache__" not in path.parts
    }


@pytest.mark.parametrize("folder", sorted(_FOLDERS))
def test_the_wheel_holds_every_file(folder: str, checkout: Path, wheel: Path) -> None:
    with zipfile.ZipFile(wheel) as archive:
        names = set(archive.namelist())
    wanted = {_FOLDERS[folder] + name[len(folder) :] for name in _shipped(checkout, folder)}
    assert wanted
    assert wanted <= names


def test_the_wheel_holds_nothing_else(checkout: Path, wheel: Path) -> None:
    wanted = {
        inside + name[len(folder) :]
        for folder, inside in _FOLDERS.items()
        for name in _shipped(checkout, folder)
    }
    with zipfile.ZipFile(wheel) as archive:
        names = {name for name in archive.namelist() if ".dist-info/" not in name}
    assert names == wanted


def test_the_sdist_holds_what_builds_and_tests_it(checkout: Path, sdist: Path) -> None:
    with tarfile.open(sdist) as archive:
        files = [member.name for member in archive.getmembers() if member.isfile()]
    names = {name.split("/", 1)[1] for name in files}
    wanted = {"LICENSE", "Makefile", "README.md", "pyproject.toml", ".ci/run"}
    for folder in (*_FOLDERS, "tests", "docs"):
        wanted |= _shipped(checkout, folder)
    assert wanted <= names


def test_the_metadata_names_license_version_and_command(wheel: Path) -> None:
    with zipfile.ZipFile(wheel) as archive:
        info = f"radam_codegen-{__version__}.dist-info"
        metadata = email.message_from_bytes(archive.read(f"{info}/METADATA"))
        scripts = archive.read(f"{info}/entry_points.txt").decode()
        license_text = archive.read(f"{info}/licenses/LICENSE").decode()
    assert metadata["License-Expression"] == "Apache-2.0"
    assert metadata["Version"] == __version__
    assert "radam-codegen = radam_codegen.cli:main" in scripts
    assert "Apache License" in license_text
    # Paddle comes by an extra: a machine with a GPU has it under another name.
    required = [line for line in metadata.get_all("Requires-Dist") or [] if "extra ==" not in line]
    assert not any("paddle" in line for line in required)
