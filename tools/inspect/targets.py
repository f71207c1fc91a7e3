"""Finding out what a target is, and which kernels and numbers it stands for."""

from __future__ import annotations

import os
import re
from collections.abc import Iterable
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Callable, TypeVar

from radam_codegen.config import Config
from radam_codegen.errors import ArgumentError, PlanError, ProgramError
from radam_codegen.frontend.saved_program import (
    is_saved_program,
    launches_of_document,
    read_launches,
)
from radam_codegen.ir.launch import LaunchSpec
from radam_codegen.ir.plan import KernelStructure, UpdatePlan
from radam_codegen.ir.structure_name import structure_from_name
from radam_codegen.toolchain.manifest import MANIFEST
from radam_codegen.toolchain.recipe import CUDA_KERNELS, KERNELS
from radam_codegen.toolchain.safe_json import read_json
from radam_codegen.tools.inspect.entries import Subject, read_entry
from radam_codegen.tools.inspect.launches import launches_text
from radam_codegen.tools.inspect.model import Numbers
from radam_codegen.tools.inspect.text import printable, shown

__all__ = ["Found", "find"]

#: What a saved file can be called besides its own name.
_SUFFIXES = ("", ".json", ".pdmodel")
#: Longest file that is read, in bytes.
_MOST_BYTES = 256 * 1024 * 1024
#: Fewest characters by which an entry of the cache may be named.
_SHORTEST_KEY = 4

_PLANS = "plans"

_T = TypeVar("_T")


@dataclass(frozen=True)
class Found:
    """What a target turned out to be."""

    kind: str
    subjects: tuple[Subject, ...]
    numbers: tuple[Numbers, ...] = ()
    #: What lies in a folder and cannot be shown, in a line each.
    problems: tuple[str, ...] = ()


def find(target: str | os.PathLike[str] | UpdatePlan, config: Config) -> Found:
    """Look at a target.

    Raises:
        ArgumentError: It is nothing that can be inspected.
        PlanError: It is a plan that cannot be read.
        ProgramError: It is a program that cannot be read, or has no step of ours.
    """
    if isinstance(target, UpdatePlan):
        return _of_plan(target, "plan")
    text = os.fspath(target)
    if not isinstance(text, str):
        raise ArgumentError(f"a target is text or a path, not {type(text).__name__}")
    try:
        return _of_text(text, config)
    except OSError as error:
        raise ArgumentError(f"{shown(text)} cannot be read: {error.strerror}.") from error


def _of_text(text: str, config: Config) -> Found:
    if not text or "\0" in text:
        raise ArgumentError(f"{shown(text)} is no target. {_ADVICE}")
    path = Path(text)
    if path.is_dir():
        return _of_folder(path)
    there = [each for each in (Path(f"{text}{suffix}") for suffix in _SUFFIXES) if _is_there(each)]
    if there and (there[0] == path or len(there) == 1):
        return _of_file(there[0])
    if there:
        raise ArgumentError(
            f"{shown(text)} stands for {' and '.join(shown(each.name) for each in there)}; name "
            "one of them."
        )
    if re.fullmatch(rf"[0-9a-f]{{{_SHORTEST_KEY},64}}", text):
        return _of_key(text, config)
    if text.startswith("radam"):
        return Found("name", (Subject(structure_from_name(text)),))
    raise ArgumentError(f"{shown(text)} is no file, no folder, no key and no kernel. {_ADVICE}")


_ADVICE = (
    "Give the JSON file of a plan (opt.plan.to_json()), a saved program as PREFIX, the folder of a "
    "bundle, the key of a cached kernel (or how it begins), or the name of a kernel."
)


def _is_there(path: Path) -> bool:
    try:
        return path.exists()
    except (OSError, ValueError):  # a name that is too long for any file
        return False


# ---- Files --------------------------------------------------------------------------------------


def _of_file(path: Path) -> Found:
    where = shown(str(path))
    if not path.is_file():
        raise ArgumentError(f"{where} is neither a file nor a folder.")
    with path.open("rb") as stream:
        content = stream.read(_MOST_BYTES + 1)
    if len(content) > _MOST_BYTES:
        raise ArgumentError(f"{where} is longer than any plan or program.")
    if content.lstrip()[:1] not in (b"{", b"["):
        if path.suffix == ".pdmodel":
            return _of_launches(read_launches(path))
        raise ArgumentError(f"{where} is neither a plan nor a saved program. {_ADVICE}")
    try:
        document = read_json(content)
    except ValueError as error:
        raise ArgumentError(
            f"{where} is not valid JSON ({error}), so neither a plan nor a saved program; it was "
            "cut short, or is another file."
        ) from None
    if is_saved_program(document):
        return _of_launches(launches_of_document(document, path))
    return _of_plan(_read_plan(path, content), "plan")


def _read_plan(path: Path, content: bytes) -> UpdatePlan:
    try:
        return UpdatePlan.from_json(content.decode("utf-8"))
    except (PlanError, UnicodeDecodeError) as error:
        raise PlanError(f"{shown(str(path))} is no plan: {error}") from None


def _of_plan(plan: UpdatePlan, title: str) -> Found:
    structures = [group.structure for group in plan.groups]
    numbers = Numbers(
        title,
        str(plan),
        launches_text([LaunchSpec.from_group(group) for group in plan.groups]),
        tuple(each.name for each in structures),
    )
    return Found("plan", _by_structure(structures), (numbers,))


def _of_launches(launches: tuple[LaunchSpec, ...]) -> Found:
    structures = [launch.structure for launch in launches]
    text = launches_text(launches)
    numbers = Numbers("program", text, text, tuple(each.name for each in structures))
    return Found("program", _by_structure(structures), (numbers,))


def _by_structure(structures: Iterable[KernelStructure]) -> tuple[Subject, ...]:
    return tuple(Subject(each) for each in dict.fromkeys(structures))


# ---- Folders ------------------------------------------------------------------------------------


def _of_folder(folder: Path) -> Found:
    kinds = [path for path in (folder / KERNELS, folder / CUDA_KERNELS) if path.is_dir()]
    if (folder / MANIFEST).is_file() and not kinds:
        return Found("entry", (read_entry(folder.resolve()),))
    # A name with a dot is that of an entry in the making, or on its way out.
    entries = [
        each
        for kind in kinds
        for each in sorted(kind.iterdir())
        if not each.name.startswith(".") and each.is_dir()
    ]
    if not entries:
        raise ArgumentError(
            f"{shown(str(folder))} holds no kernels: it has no kernels/<key>/{MANIFEST}. {_ADVICE}"
        )
    problems: list[str] = []
    subjects = [each for path in entries for each in _tried(read_entry, path, problems)]
    plans = sorted((folder / _PLANS).glob("*.json"))
    numbers = [
        replace(each, title=f"{_PLANS}/{printable(path.name)}")
        for path in plans
        for found in _tried(_of_file, path, problems)
        for each in found.numbers
    ]
    if not subjects:
        raise ArgumentError(problems[0])
    return Found("bundle", tuple(sorted(subjects, key=_order)), tuple(numbers), tuple(problems))


def _tried(read: Callable[[Path], _T], path: Path, problems: list[str]) -> list[_T]:
    """What ``read`` makes of one of many files; nothing, and a problem more, where it cannot."""
    try:
        return [read(path)]
    except (ArgumentError, PlanError, ProgramError) as error:
        problems.append(str(error))
    except OSError as error:
        problems.append(f"{shown(str(path))} cannot be read: {error.strerror}.")
    return []


def _order(subject: Subject) -> tuple[str, str, str, str]:
    entry = subject.entry
    place = (entry.cpu, entry.key) if entry else ("", "")
    return (subject.structure.name, subject.language, *place)


def _of_key(prefix: str, config: Config) -> Found:
    roots = [config.cache_dir] if config.aot is None else [config.aot, config.cache_dir]
    found: dict[str, Path] = {}
    for root in roots:
        for kind in (KERNELS, CUDA_KERNELS):
            for path in (root / kind).glob(f"{prefix}*"):
                found.setdefault(path.name, path)
    if len(found) == 1:
        return Found("entry", (read_entry(*found.values()),))
    where = f"in {' or '.join(shown(str(root)) for root in roots)}"
    if found:
        raise ArgumentError(
            f"{prefix!r} begins {len(found)} keys {where}: {', '.join(sorted(found)[:8])}"
            f"{', ...' if len(found) > 8 else ''}; give more of it."
        )
    raise ArgumentError(f"No kernel {where} has a key that begins with {prefix!r}. {_ADVICE}")
