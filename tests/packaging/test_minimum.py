"""constraints-minimum.txt says what pyproject.toml does."""

from __future__ import annotations

from pathlib import Path

from packaging.requirements import Requirement
from packaging.utils import canonicalize_name
from packaging.version import Version
from setuptools.config.pyprojecttoml import read_configuration

ROOT = Path(__file__).resolve().parents[2]
#: Extras that the tests are run with, of those that name packages.
EXTRAS = ("paddle", "demo", "bench", "dev")


def declared() -> dict[str, Version]:
    """The least version of every dependency."""
    project = read_configuration(ROOT / "pyproject.toml", expand=False)["project"]
    lines = [*project["dependencies"]]
    lines += [line for extra in EXTRAS for line in project["optional-dependencies"][extra]]
    found = {}
    for each in map(Requirement, lines):
        if each.name != project["name"]:
            (bound,) = each.specifier
            assert bound.operator in (">=", "=="), each
            found[canonicalize_name(each.name)] = Version(bound.version)
    return found


def constraints() -> list[Requirement]:
    lines = (ROOT / "constraints-minimum.txt").read_text(encoding="utf-8").splitlines()
    return [Requirement(line) for line in lines if line and not line.startswith("#")]


def pinned(name: str, python: str) -> list[Version]:
    """What is installed of a package with a Python."""
    return [
        Version(bound.version)
        for each in constraints()
        if each.name == name
        and (each.marker is None or each.marker.evaluate({"python_version": python}))
        for bound in each.specifier
    ]


def test_each_dependency_is_there_at_its_minimum() -> None:
    assert {each.name for each in constraints()} == set(declared())
    for name, minimum in declared().items():
        oldest = "3.10" if name == "mypy" else "3.9"
        assert pinned(name, oldest)[0].release[:2] == minimum.release[:2], name
        for python in ("3.10", "3.11", "3.12", "3.13"):
            (version,) = pinned(name, python)
            assert version >= minimum, (name, python)
        # A marker is for a Python that the minimum has no wheel for.
        plain = [each for each in constraints() if each.name == name and each.marker is None]
        assert not plain or len([each for each in constraints() if each.name == name]) == 1
