"""The structures of kernel that a bundle has that is made for any program."""

from __future__ import annotations

import itertools
from dataclasses import replace

from radam_codegen.ir.plan import ClipKind, DecayKind, KernelStructure
from radam_codegen.ir.structure_name import tensor_classes

__all__ = ["every_structure"]


def every_structure() -> tuple[KernelStructure, ...]:
    """List the structures of kernel, in a fixed order.

    These are, for every clip, with and without a flag that skips the step: every class of tensors
    (parameter's and gradient's type, master weight, decay) by itself; and every class that has a
    decay together with the same one without, as in a model whose biases are not decayed.

    A group can mix classes in any other way, too. Such a kernel is asked for by its plan or by its
    name: all mixtures are more than could ever be compiled.

    Examples:
        >>> from radam_codegen.ir.every_structure import every_structure
        >>> len(every_structure())
        616
    """
    alone = [(each,) for each in tensor_classes()]
    decayed = [each for each in tensor_classes() if each.decay is not DecayKind.NONE]
    mixed = [tuple(sorted((each, replace(each, decay=DecayKind.NONE)))) for each in decayed]
    return tuple(
        KernelStructure(clip, skip, classes)
        for classes, clip, skip in itertools.product((*alone, *mixed), ClipKind, (False, True))
    )
