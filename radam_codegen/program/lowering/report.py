"""What lowering found in a program, and what it made of it."""

from __future__ import annotations

from collections import Counter
from dataclasses import dataclass
from typing import Any

from radam_codegen.frontend.native.update import Left
from radam_codegen.ir.plan import GroupPlan, UpdatePlan
from radam_codegen.program.lowering.step_times import StepTimes

__all__ = ["FusedStep", "LoweringReport", "Memory", "counted"]


@dataclass(frozen=True)
class Memory:
    """Bytes before and after."""

    before: int
    after: int

    def __str__(self) -> str:
        return f"{self.before:,} -> {self.after:,} bytes"


@dataclass(frozen=True)
class FusedStep:
    """One fused operator.

    Attributes:
        plan: What it does, its tensors in their order.
        block: Index of its block in the program; 0 is the outermost.
        replaced: How many operators of each kind it stands for.
        notes: By parameter, what in front of the update was not taken in, and why.
    """

    plan: GroupPlan
    block: int
    replaced: tuple[tuple[str, int], ...]
    notes: tuple[tuple[str, str], ...]

    def to_json(self) -> dict[str, Any]:
        """The step as JSON values."""
        return {
            "kernel": self.plan.structure.name,
            "block": self.block,
            "parameters": [tensor.name for tensor in self.plan.tensors],
            "clip": self.plan.clip.kind.value,
            "replaced": dict(self.replaced),
            "notes": [{"parameter": name, "note": note} for name, note in self.notes],
        }

    def __str__(self) -> str:
        replaced = ", ".join(f"{count} {name}" for name, count in self.replaced)
        count = len(self.plan.tensors)
        lines = [
            f"fused: {self.plan.structure.name}, {count} parameter{'' if count == 1 else 's'}, "
            f"block {self.block}; in the place of {replaced}"
        ]
        lines += [f"  {name}: {note}" for name, note in self.notes]
        return "\n".join(lines)


@dataclass(frozen=True)
class LoweringReport:
    """The outcome of :func:`radam_codegen.lower`.

    Attributes:
        program: The lowered main program: the one that was given, or its copy.
        startup_program: The startup program that goes with it, None where none was given.
        optimize_ops: The fused operators, which ``Executor.run`` takes in ``fetch_list`` as it
            takes those that ``minimize`` returns.
        plans: What they do. One plan as a rule; more where a parameter is updated several times.
        steps: The fused operators, one by one.
        left: Updates that stay as they were, and why.
        converted: How many parameters' state was found in the scope and taken over; None where
            there was no state in it yet.
        state: Bytes of optimizer state of the parameters whose updates were fused.
        traffic: Bytes that their updates read and write in a step, clip and decay included.
        step_seconds: How long a run of the main program took before and after; None where
            ``time_steps`` did not ask for it, or nothing was fused.
    """

    program: Any
    startup_program: Any
    optimize_ops: tuple[Any, ...]
    plans: tuple[UpdatePlan, ...]
    steps: tuple[FusedStep, ...]
    left: tuple[Left, ...]
    converted: int | None
    state: Memory
    traffic: Memory
    step_seconds: StepTimes | None = None

    @property
    def matched(self) -> int:
        """How many native updates were fused."""
        return sum(len(step.plan.tensors) for step in self.steps)

    def to_json(self) -> dict[str, Any]:
        """The report as JSON values."""
        return {
            "matched": self.matched,
            "steps": [step.to_json() for step in self.steps],
            "left": [vars(each) for each in self.left],
            "converted": self.converted,
            "state": vars(self.state),
            "traffic": vars(self.traffic),
            "step_seconds": None if self.step_seconds is None else vars(self.step_seconds),
        }

    def __str__(self) -> str:
        """The report as text."""
        lines = [
            f"{self.matched} native RAdam update{'' if self.matched == 1 else 's'} became "
            f"{len(self.steps)} fused operator{'' if len(self.steps) == 1 else 's'}"
        ]
        lines += map(str, self.steps)
        lines += [
            f"left: {each.operator} of {each.parameter!r}: {each.reason}" for each in self.left
        ]
        if self.steps:
            lines.append(f"state: {self.state}")
            lines.append(f"traffic per step: {self.traffic}")
            if self.step_seconds is not None:
                lines.append(f"step: {self.step_seconds}")
            lines.append(
                "state in the scope: none yet"
                if self.converted is None
                else f"state in the scope: taken over for {self.converted} parameters"
            )
        return "\n".join(lines)


def counted(names: list[str]) -> tuple[tuple[str, int], ...]:
    """How often each name occurs, in the order of first occurrence."""
    return tuple(Counter(names).items())
