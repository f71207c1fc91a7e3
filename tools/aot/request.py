"""What is asked for: from plans, programs and names to structures of kernels."""

from __future__ import annotations

import os
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Union

from radam_codegen.errors import ArgumentError, PlanError
from radam_codegen.frontend.saved_program import read_launches
from radam_codegen.ir.every_structure import every_structure
from radam_codegen.ir.plan import KernelStructure, UpdatePlan
from radam_codegen.ir.structure_name import structure_from_name
from radam_codegen.toolchain.cpu import check_cpu, default_cpus

__all__ = ["Pathlike", "Request", "gather"]

Pathlike = Union[str, "os.PathLike[str]"]

_TARGETS = ("c", "cuda")
_MOST_PLAN_BYTES = 256 << 20


@dataclass(frozen=True)
class Request:
    """What a bundle is asked to have.

    Attributes:
        structures: Kernels by name, in the order in which they were asked for.
        plans: The plans that some of them came from, as JSON.
        cpus: CPUs to compile each for; none where no C is wanted.
        targets: ``"c"``, ``"cuda"`` or both.
        architectures: GPUs to compile each for; none: the usual ones.
    """

    structures: dict[str, KernelStructure]
    plans: tuple[str, ...]
    cpus: tuple[str, ...]
    targets: tuple[str, ...]
    architectures: tuple[int, ...]


def gather(
    *,
    plans: Iterable[UpdatePlan | Pathlike],
    kernels: Iterable[str],
    programs: Iterable[Pathlike],
    everything: bool,
    cpus: Sequence[str],
    targets: Sequence[str],
    architectures: Sequence[int],
) -> Request:
    """Read all that is named, so that nothing is compiled where one of them is wrong.

    Raises:
        ArgumentError: A file cannot be read, or there is no such CPU or target.
        PlanError: A plan is none, or no kernel has such a name.
        ProgramError: A program cannot be read, or has no step of ours.
    """
    if not targets:
        raise ArgumentError("no target is named; there are 'c' and 'cuda'")
    for target in targets:
        if target not in _TARGETS:
            raise ArgumentError(f"there is no target {target!r}; there are 'c' and 'cuda'")
    if cpus and "c" not in targets:
        raise ArgumentError("a CPU is named, but no C is asked for: name the target 'c', too")
    if architectures and "cuda" not in targets:
        raise ArgumentError(
            "an architecture of GPUs is named, but no CUDA is asked for: name the target 'cuda'"
        )
    read = [plan if isinstance(plan, UpdatePlan) else _read_plan(Path(plan)) for plan in plans]
    structures = [group.structure for plan in read for group in plan.groups]
    structures += [structure_from_name(name) for name in kernels]
    structures += [each.structure for path in programs for each in read_launches(Path(path))]
    structures += every_structure() if everything else ()
    return Request(
        {each.name: each for each in structures},
        tuple(dict.fromkeys(plan.to_json() for plan in read)),
        tuple(dict.fromkeys(check_cpu(name) for name in cpus or default_cpus()))
        if "c" in targets
        else (),
        tuple(targets),
        tuple(architectures),
    )


def _read_plan(path: Path) -> UpdatePlan:
    try:
        with path.open("rb") as stream:
            content = stream.read(_MOST_PLAN_BYTES + 1)
        if len(content) > _MOST_PLAN_BYTES:
            raise ValueError("it is too long for a plan")
        text = content.decode("utf-8")
    except (OSError, ValueError) as error:
        reason = error.strerror if isinstance(error, OSError) else error
        raise ArgumentError(f"the plan {str(path)!r} cannot be read: {reason}") from None
    try:
        return UpdatePlan.from_json(text)
    except PlanError as error:
        raise PlanError(f"{str(path)!r}: {error}") from None
