"""What is measured: sets of parameters by their shapes, and what comes with the step."""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass

__all__ = ["QUICK", "SUITES", "VARIANTS", "Suite", "Variant"]

Shape = tuple[int, ...]


@dataclass(frozen=True)
class Suite:
    """A set of float32 parameters.

    Attributes:
        name: What it is called on the command line and in reports.
        shapes: The shape of each parameter.
    """

    name: str
    shapes: tuple[Shape, ...]

    @property
    def elements(self) -> int:
        """Number of elements of all parameters."""
        return sum(math.prod(shape) for shape in self.shapes)


@dataclass(frozen=True)
class Variant:
    """What a step does besides the update.

    Attributes:
        name: What it is called on the command line and in reports.
        title: The same for people.
        clip_norm: Bound of the global norm of the gradients; None: they are not clipped.
        weight_decay: Coefficient of the L2 term; None: there is none.
        bytes_per_element: Traffic of a step that reads and writes nothing that it need not.
    """

    name: str
    title: str
    clip_norm: float | None
    weight_decay: float | None
    bytes_per_element: int


def _resnet50() -> tuple[Shape, ...]:
    """Sixteen bottlenecks, with the affine parameters and six wide convolutions at the end."""
    stem: list[Shape] = [(64, 3, 7, 7), *[(64,)] * 60, (256, 64, 1, 1)]
    bottleneck: list[Shape] = [(64, 64, 3, 3), (512, 256, 1, 1), (256, 64, 1, 1)]
    tail: list[Shape] = [*[(512, 512, 3, 3)] * 6, (1000, 2048), (1000,)]
    return (*stem, *(bottleneck * 16)[:-1], *tail)


def _bert_base() -> tuple[Shape, ...]:
    """Two embeddings and twelve layers: four projections, a feed-forward pair, biases and norms."""
    layer: list[Shape] = [*[(768, 768)] * 4, (3072, 768), (768, 3072), *[(768,)] * 9, (3072,)]
    return ((30522, 768), (512, 768), *layer * 12)


#: By name, in the order of reports.
SUITES: Mapping[str, Suite] = {
    suite.name: suite
    for suite in (
        Suite("bert-base-like", _bert_base()),
        Suite("resnet50-like", _resnet50()),
        Suite("one-50M", ((50_000_000,),)),
        Suite("one-1M", ((1_000_000,),)),
        Suite("one-100k", ((100_000,),)),
        Suite("small-1000x1k", ((1024,),) * 1000),
        Suite("small-200x1k", ((1024,),) * 200),
    )
}

#: Suites that take little time and memory.
QUICK = ("one-1M", "one-100k", "small-200x1k")

VARIANTS: Mapping[str, Variant] = {
    variant.name: variant
    for variant in (
        Variant("plain", "the update alone", None, None, 28),
        Variant("clip-l2", "with global clip and L2", 1.0, 0.01, 32),
    )
}
