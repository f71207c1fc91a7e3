"""What is found in a program: updates, what belongs to them, and what is left."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field

from radam_codegen.frontend.native.graph import Block, Flow, Operator
from radam_codegen.ir.plan import Clip, Decay

__all__ = ["ACCUMULATORS", "Left", "Match", "Run", "Update"]

#: State of native RAdam per parameter, all of the parameter's shape.
ACCUMULATORS = ("moment1", "moment2", "beta1_pow", "beta2_pow", "rho")


@dataclass(frozen=True, eq=False)
class Update:
    """One native RAdam operator, and the operators in front of it that belong to it."""

    operator: Operator
    block: Block
    param: Flow
    #: As it was before what is in ``absorbed``.
    grad: Flow
    #: Without ``lr_scale``.
    learning_rate: Flow
    #: By kind: :data:`ACCUMULATORS`.
    state: Mapping[str, Flow]
    beta1: float
    beta2: float
    epsilon: float
    lr_scale: float = 1.0
    decay: Decay = field(default_factory=Decay)
    clip: Clip = field(default_factory=Clip)
    #: What computes the factor of a clip by global norm, whose gradients are clipped together.
    clip_set: Operator | None = None
    #: Operators that are in the way of nobody else, of the clip, the decay, the learning rate.
    absorbed: tuple[Operator, ...] = ()
    #: What in front of it was not taken in, and why.
    notes: tuple[str, ...] = ()

    @property
    def name(self) -> str:
        """Name of the parameter."""
        return self.param.name

    @property
    def own(self) -> frozenset[str]:
        """Memory that belongs to the update: the parameter and its state."""
        return frozenset([self.param.storage, *(flow.storage for flow in self.state.values())])


@dataclass(frozen=True, eq=False)
class Run:
    """Updates that one fused operator can do, where the last one of them stands."""

    updates: tuple[Update, ...]
    #: Which optimizer's state, as far as a program tells: it has a parameter once.
    owner: int = 0

    @property
    def block(self) -> Block:
        """Where it is."""
        return self.updates[0].block

    @property
    def last(self) -> Operator:
        """The last update's operator, whose place the fused one takes."""
        return max((update.operator for update in self.updates), key=lambda op: op.position)

    @property
    def clip(self) -> Clip:
        """The clip of those that are clipped."""
        return next((each.clip for each in self.updates if each.clip != Clip()), Clip())

    @property
    def removed(self) -> tuple[Operator, ...]:
        """Operators whose work the fused one does, in the program's order."""
        found = {op for update in self.updates for op in (update.operator, *update.absorbed)}
        return tuple(sorted(found, key=lambda op: op.position))


@dataclass(frozen=True)
class Left:
    """An update that stays as it is."""

    operator: str
    parameter: str
    reason: str


@dataclass(frozen=True, eq=False)
class Match:
    """All that was found in a program."""

    runs: tuple[Run, ...]
    left: tuple[Left, ...]
