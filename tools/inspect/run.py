"""Inspecting: from a target to everything that is known of its kernels."""

from __future__ import annotations

import hashlib
import os
from dataclasses import replace

from radam_codegen.codegen import C_TARGET, CUDA_TARGET, render
from radam_codegen.config import Config, current
from radam_codegen.errors import ArgumentError
from radam_codegen.ir import build
from radam_codegen.ir.group import GroupIR
from radam_codegen.ir.plan import UpdatePlan
from radam_codegen.passes import structure_stages
from radam_codegen.toolchain.cpu import NATIVE
from radam_codegen.tools.inspect.assembly import hot_loops
from radam_codegen.tools.inspect.entries import Subject
from radam_codegen.tools.inspect.gpu_code import gpu_code
from radam_codegen.tools.inspect.gpu_loops import gpu_loops
from radam_codegen.tools.inspect.machine_code import machine_code
from radam_codegen.tools.inspect.model import (
    Assembly,
    BodyTraffic,
    InspectedKernel,
    InspectedSource,
    Inspection,
    Stage,
)
from radam_codegen.tools.inspect.source_map import is_made_from, map_source
from radam_codegen.tools.inspect.targets import find
from radam_codegen.tools.inspect.text import printable
from radam_codegen.tools.inspect.traffic import floor_of, traffic_of

__all__ = ["inspect"]

_TARGETS = {target.language: target for target in (C_TARGET, CUDA_TARGET)}


def inspect(
    target: str | os.PathLike[str] | UpdatePlan,
    *,
    kernel: str | None = None,
    language: str = "c",
    assembly: bool = False,
    config: Config | None = None,
) -> Inspection:
    """Look into kernels: the plan, the IR at every stage, the source, the machine code.

    Nothing of a target is run or loaded, and nothing is written into the cache. Paddle is not
    needed, not even for a saved program.

    Args:
        target: A plan or its JSON file; a saved static program, as the prefix that it was saved
            under or its file; the folder of an ahead-of-time bundle, of a cache, or of one entry;
            the key of a kernel in the cache, or how it begins; or the name of a kernel.
        kernel: Name of the one kernel to look at, or how its key begins; all when None.
        language: ``"c"`` or ``"cuda"``: what to render where the target holds no source.
        assembly: Whether to read the machine code, for which a source may be compiled. Of CUDA
            kernels, that of the newest architecture in the library, else the PTX of the source.
        config: The settings; those of the process when None.

    Returns:
        What was found; ``str()`` of it is a text, and ``to_json()`` is for programs.

    Raises:
        ArgumentError: The target is nothing that can be inspected, or has no such kernel.
        PlanError: It is a plan, or the name of a kernel, that cannot be read.
        ProgramError: It is a program that cannot be read, or has no step of ours.

    Examples:
        >>> import radam_codegen as rc
        >>> found = rc.inspect("radam_no_clip__f32_l2")
        >>> found.kernels[0].traffic[0].floor.total
        28
    """
    if language not in _TARGETS:
        raise ArgumentError(f"language is {language!r}, but must be {' or '.join(_TARGETS)}")
    settings = current() if config is None else config
    found = find(target, settings)
    chosen = [each for each in found.subjects if kernel is None or _is_called(each, kernel)]
    if not chosen and kernel is not None:
        names = dict.fromkeys(each.structure.name for each in found.subjects)
        raise ArgumentError(
            f"There is no kernel '{printable(kernel)}' there; there "
            f"{'is' if len(names) == 1 else 'are'} {', '.join(names)}."
        )
    title = "an UpdatePlan" if isinstance(target, UpdatePlan) else printable(os.fspath(target))
    return Inspection(
        title,
        found.kind,
        found.numbers,
        tuple(
            _inspect(
                each if each.entry is not None else replace(each, language=language),
                assembly,
                settings,
            )
            for each in chosen
        ),
        found.problems,
    )


def _is_called(subject: Subject, name: str) -> bool:
    key = "" if subject.entry is None else subject.entry.key
    return name == subject.structure.name or (bool(name) and key.startswith(name))


def _inspect(subject: Subject, assembly: bool, config: Config) -> InspectedKernel:
    structure = subject.structure
    stages, ir = _stages(subject)
    rendered = render(ir, _TARGETS[subject.language])
    text = rendered.text if subject.text is None else subject.text
    is_current = is_made_from(text, ir)
    source = InspectedSource(
        rendered.language,
        hashlib.sha256(text.encode()).hexdigest(),
        text == rendered.text,
        map_source(text, ir if is_current else None),
    )
    return InspectedKernel(
        structure.name,
        structure,
        subject.entry,
        tuple(
            BodyTraffic(
                body.tensor_class.name,
                traffic_of(body),
                floor_of(body.tensor_class, structure.clip),
            )
            for body in ir.bodies
        ),
        stages,
        ir,
        source,
        _assembly(subject, text, source, config) if assembly else None,
    )


def _stages(subject: Subject) -> tuple[tuple[Stage, ...], GroupIR]:
    stages: list[Stage] = []
    before = ""
    ir = None
    for each, ir in structure_stages(subject.structure):
        text = str(ir)
        summary = (build.__doc__ or "").partition("\n")[0] if each is None else each.summary
        name, exact = ("build", True) if each is None else (each.name, each.exact)
        stages.append(Stage(name, summary, exact, text, text != before))
        before = text
    assert ir is not None, "a kernel is built before it is lowered"
    return tuple(stages), ir


def _assembly(subject: Subject, text: str, source: InspectedSource, config: Config) -> Assembly:
    bodies = [each.name for each in subject.structure.classes]
    places = {
        line.number: (line.phase, line.body)
        for line in source.lines
        if line.phase is not None and line.phase != "scalar" and line.body is not None
    }
    if subject.language == "cuda":
        gpu = gpu_code(text, subject.library, config)
        return Assembly(gpu.origin, gpu_loops(gpu, bodies, places))
    cpu = NATIVE if subject.entry is None else subject.entry.cpu or NATIVE
    code = machine_code(text, subject.library, cpu, config)
    loops = hot_loops(code.routines, bodies, places)
    found = {(loop.phase, loop.body) for loop in loops}
    known = bool(loops) and all(body is not None for _, body in found)
    wanted = sorted(set(places.values())) if known else []
    return Assembly(code.origin, loops, tuple(each for each in wanted if each not in found))
