"""Distributions that are built here, and empty environments to install them into."""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
import sysconfig
from dataclasses import dataclass
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parents[2]


def run(*command: object, cwd: Path, **environment: str) -> str:
    """Run a command without any of this process's settings that could lead to the checkout."""
    done = subprocess.run(
        [str(word) for word in command],
        cwd=cwd,
        env={"PATH": os.environ["PATH"], "HOME": str(cwd), **environment},
        capture_output=True,
        text=True,
        check=False,
        timeout=300,
    )
    assert done.returncode == 0, f"{command}\n{done.stdout}\n{done.stderr}"
    return done.stdout


@dataclass(frozen=True)
class Environment:
    """A virtual environment of its own, in a folder of its own."""

    folder: Path
    #: What is installed in it: ``wheel`` or ``editable``.
    kind: str

    run = staticmethod(run)

    @property
    def python(self) -> Path:
        return self.folder / "bin" / "python"

    @property
    def command(self) -> Path:
        return self.folder / "bin" / "radam-codegen"

    def pip_install(self, *arguments: object) -> None:
        pip = (sys.executable, "-m", "pip", "--python", self.python, "install")
        offline = ("--no-deps", "--no-index", "--no-build-isolation", "--quiet")
        run(*pip, *offline, *arguments, cwd=self.folder)


@pytest.fixture(scope="session")
def third_party(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Links to everything that is installed beside this project, and to nothing of it.

    It stands in for a download of 250 MB. What these tests ask is what this project's own
    distribution brings along.
    """
    folder = tmp_path_factory.mktemp("third_party")
    for site in {sysconfig.get_path("purelib"), sysconfig.get_path("platlib")}:
        for entry in Path(site).iterdir():
            ours = entry.name.startswith(("radam_codegen", "__editable__"))
            if not ours and entry.suffix != ".pth":
                (folder / entry.name).symlink_to(entry)
    return folder


@pytest.fixture(scope="session")
def checkout(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A copy of the checkout without anything that was built in it."""
    folder = tmp_path_factory.mktemp("checkout") / "radam_codegen"
    ignore = shutil.ignore_patterns(".git", ".*cache", ".*env*", "*.egg-info", "build", "dist")
    shutil.copytree(ROOT, folder, ignore=ignore)
    return folder


@pytest.fixture(scope="session")
def distributions(checkout: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder with the sdist, and with the wheel that was built from that sdist."""
    folder = tmp_path_factory.mktemp("dist")
    run(sys.executable, "-m", "build", "--no-isolation", "--outdir", folder, checkout, cwd=folder)
    return folder


@pytest.fixture(scope="session")
def wheel(distributions: Path) -> Path:
    (path,) = distributions.glob("*.whl")
    return path


@pytest.fixture(scope="session")
def sdist(distributions: Path) -> Path:
    (path,) = distributions.glob("*.tar.gz")
    return path


def _environment(folder: Path, kind: str, third_party: Path) -> Environment:
    run(sys.executable, "-m", "venv", "--without-pip", folder, cwd=folder.parent)
    (site,) = folder.glob("lib/python*/site-packages")
    (site / "third_party.pth").write_text(f"{third_party}\n")
    return Environment(folder, kind)


@pytest.fixture(scope="session", params=["wheel", "editable"])
def environment(
    request: pytest.FixtureRequest,
    third_party: Path,
    checkout: Path,
    tmp_path_factory: pytest.TempPathFactory,
) -> Environment:
    """An environment into which the wheel, or the copy of the checkout, is installed."""
    kind = request.param
    made = _environment(tmp_path_factory.mktemp(kind) / "env", kind, third_party)
    if kind == "wheel":
        made.pip_install(request.getfixturevalue("wheel"))
    else:
        made.pip_install("--editable", checkout)
    return made
