"""What an inspection finds: frozen, and the same for the same input."""

from __future__ import annotations

import json
from dataclasses import asdict, dataclass
from typing import Any

from radam_codegen.ir.group import GroupIR
from radam_codegen.ir.plan import KernelStructure
from radam_codegen.tools.inspect.assembly import HotLoop
from radam_codegen.tools.inspect.source_map import SourceLine
from radam_codegen.tools.inspect.traffic import Traffic

__all__ = [
    "Assembly",
    "BodyTraffic",
    "CacheEntry",
    "InspectedKernel",
    "InspectedSource",
    "Inspection",
    "Numbers",
    "Stage",
    "assembly_document",
]


@dataclass(frozen=True)
class Numbers:
    """What one plan or program says besides the structure of its kernels.

    Attributes:
        title: Where it stands, such as ``"plan"`` or ``"plans/main.json"``.
        text: All of it, to be read.
        launches: The same without what a saved program does not hold: names and shapes.
        kernels: Name of the kernel that each group runs.
    """

    title: str
    text: str
    launches: str
    kernels: tuple[str, ...]


@dataclass(frozen=True)
class CacheEntry:
    """The folder in a cache or a bundle that holds a kernel.

    Attributes:
        key: Its key.
        folder: Where it is.
        cpu: What it was compiled for; empty where its manifest does not say.
        compiler: The compiler's version; empty where its manifest does not say.
        fault: What is wrong with its files; None where they are as they were built.
    """

    key: str
    folder: str
    cpu: str
    compiler: str
    fault: str | None


@dataclass(frozen=True)
class Stage:
    """The IR at one stage of the lowering.

    Attributes:
        name: ``"build"``, or the pass that led here.
        summary: What happened, in a line.
        exact: Whether every result keeps every bit; otherwise roundings moved.
        text: The IR as text.
        changed: Whether it differs from the stage before.
    """

    name: str
    summary: str
    exact: bool
    text: str
    changed: bool


@dataclass(frozen=True)
class BodyTraffic:
    """Bytes per element that one class of tensors moves: by the IR, and at least."""

    body: str
    ir: Traffic
    floor: Traffic


@dataclass(frozen=True)
class InspectedSource:
    """A generated source, line by line.

    Attributes:
        language: ``"c"`` or ``"cuda"``.
        sha256: Hash of the text.
        as_rendered: Whether this version of the package renders the very same text; True where the
            text was rendered just now.
        lines: Every line, with the operation that it implements. Where the source was made from
            another IR than this version's, the operations are those of its own comments.
    """

    language: str
    sha256: str
    as_rendered: bool
    lines: tuple[SourceLine, ...]


@dataclass(frozen=True)
class Assembly:
    """The machine code's loops over elements.

    Attributes:
        origin: Where the machine code comes from; or why there is none.
        loops: The loops; none where there is no machine code.
        merged: Phase and body of what has no loop of its own: compilers make one of two functions
            that are the same.
    """

    origin: str
    loops: tuple[HotLoop, ...]
    merged: tuple[tuple[str, str], ...] = ()


@dataclass(frozen=True)
class InspectedKernel:
    """One kernel, from its structure to its machine code.

    Attributes:
        name: Its name.
        structure: What shapes it.
        entry: Where it lies in a cache or a bundle; None where the target was none.
        traffic: Bytes per element, class by class.
        stages: The IR as built, and after each pass.
        ir: The IR that is rendered.
        source: Its source.
        assembly: Its machine code; None where it was not asked for.
    """

    name: str
    structure: KernelStructure
    entry: CacheEntry | None
    traffic: tuple[BodyTraffic, ...]
    stages: tuple[Stage, ...]
    ir: GroupIR
    source: InspectedSource
    assembly: Assembly | None

    @property
    def title(self) -> str:
        """Its name, with its key where it has one."""
        return self.name if self.entry is None else f"{self.name} ({self.entry.key[:12]})"


@dataclass(frozen=True)
class Inspection:
    """What was found at a target.

    Attributes:
        target: The target as it was given.
        kind: ``"plan"``, ``"program"``, ``"bundle"``, ``"entry"`` or ``"name"``.
        numbers: What its plans or programs say.
        kernels: Its kernels.
        problems: What lies in a folder and cannot be shown, in a line each.
    """

    target: str
    kind: str
    numbers: tuple[Numbers, ...]
    kernels: tuple[InspectedKernel, ...]
    problems: tuple[str, ...] = ()

    def to_json(self) -> str:
        """Everything as JSON text; equal inspections give equal text."""
        return json.dumps(self.document(), indent=1, sort_keys=True, allow_nan=False) + "\n"

    def document(self) -> dict[str, Any]:
        """Everything as JSON takes it."""
        return {
            "format": "radam_codegen.inspection",
            "version": 1,
            "target": self.target,
            "kind": self.kind,
            "numbers": [asdict(each) for each in self.numbers],
            "kernels": [_kernel(each) for each in self.kernels],
            "problems": list(self.problems),
        }

    def __str__(self) -> str:
        # What shows inspections imports this module.
        from radam_codegen.tools.inspect.report import plain_text

        return plain_text(self)


def _kernel(kernel: InspectedKernel) -> dict[str, Any]:
    return {
        "name": kernel.name,
        "structure": asdict(kernel.structure),
        "entry": None if kernel.entry is None else asdict(kernel.entry),
        "traffic": [asdict(each) for each in kernel.traffic],
        "stages": [asdict(each) for each in kernel.stages],
        "source": asdict(kernel.source),
        "assembly": None if kernel.assembly is None else assembly_document(kernel.assembly),
    }


def assembly_document(assembly: Assembly) -> dict[str, Any]:
    """Counts and instructions as JSON takes them."""
    return {
        "origin": assembly.origin,
        "merged": [list(each) for each in assembly.merged],
        "loops": [
            {
                "phase": loop.phase,
                "body": loop.body,
                "main": loop.is_main,
                **asdict(loop.counts),
                "bytes_per_element": loop.counts.bytes_per_element,
                "code": [
                    {"instruction": str(each), "line": each.line} for each in loop.instructions
                ],
            }
            for loop in assembly.loops
        ],
    }
