"""Structures of kernels: all there are, and a few that have everything."""

from __future__ import annotations

import itertools
import random
from collections.abc import Iterator

from radam_codegen.ir.plan import ClipKind, DecayKind, KernelStructure, TensorClass
from support.plans import DTYPES

__all__ = ["CLASSES", "SAMPLE", "every_structure"]

#: Every class of tensors.
CLASSES = tuple(
    sorted(TensorClass(*dtypes, decay) for dtypes, decay in itertools.product(DTYPES, DecayKind))
)


def every_structure() -> Iterator[KernelStructure]:
    """Every structure with one class of tensors."""
    for clip, skip, each in itertools.product(ClipKind, (False, True), CLASSES):
        yield KernelStructure(clip, skip, (each,))


def _sample() -> tuple[KernelStructure, ...]:
    found = []
    for number, clip in enumerate(ClipKind):
        classes = list(CLASSES)
        random.Random(number).shuffle(classes)
        if clip is not ClipKind.NONE:
            # A clip meets the gradient's type; decays and master weights come after it.
            classes = list({(each.param_dtype, each.grad_dtype): each for each in classes}.values())
        for skip in (False, True):
            found.append(KernelStructure(clip, skip, tuple(sorted(classes[skip::2]))))
        found.append(KernelStructure(clip, False, (CLASSES[0],)))
    return tuple(found)


#: A fixed sample, small enough to be compiled in every run of the tests: without a clip every class
#: of tensors, with each clip every pair of types; and one class by itself.
SAMPLE = _sample()
