"""Random groups for emulated CUDA kernels, and what the C kernel makes of them."""

from __future__ import annotations

import subprocess
from collections.abc import Sequence
from dataclasses import replace
from functools import cache
from pathlib import Path

import numpy as np

from radam_codegen._resources import include_dir
from radam_codegen.codegen import C_TARGET, CUDA_TARGET, render
from radam_codegen.ir.group import GroupIR
from radam_codegen.ir.interpret import GroupArrays
from radam_codegen.ir.plan import (
    Clip,
    ClipKind,
    Decay,
    DecayKind,
    GroupPlan,
    KernelStructure,
    TensorClass,
    TensorPlan,
    UpdatePlan,
)
from radam_codegen.passes import lower_structure
from radam_codegen.runtime import LoadedKernel, load_kernel
from support.agreement import assert_bitwise
from support.cuda_emulation import Case, Result
from support.kernel_runner import run_kernel

__all__ = [
    "assert_as_in_c",
    "build_c",
    "cuda_text",
    "decay_of",
    "in_c",
    "offsets_in_step",
    "offsets_of_their_own",
    "random_group",
    "tensor_of",
]

_CLIPS = {
    ClipKind.NONE: Clip(),
    ClipKind.VALUE: Clip(ClipKind.VALUE, 0.5, -0.25),
    ClipKind.NORM: Clip(ClipKind.NORM, 0.5),
    ClipKind.GLOBAL_NORM: Clip(ClipKind.GLOBAL_NORM, 0.75),
}
_SLOTS = 5


@cache
def _lowered(structure: KernelStructure) -> GroupIR:
    return lower_structure(structure)


@cache
def cuda_text(structure: KernelStructure) -> str:
    """The generated file of a structure."""
    return render(_lowered(structure), CUDA_TARGET).text


def build_c(structure: KernelStructure, folder: Path) -> LoadedKernel:
    """Compile the C kernel of a structure: quickly, as its results do not depend on how well."""
    source = folder / f"{structure.name[:80]}.c"
    source.write_text(render(_lowered(structure)).text, encoding="utf-8")
    library = source.with_suffix(".c.so")
    command = ["gcc", *C_TARGET.flags, "-O0", "-fPIC", "-shared", "-I", str(include_dir())]
    subprocess.run([*command, "-o", str(library), str(source), "-lm"], check=True)
    return load_kernel(library)


def decay_of(each: TensorClass, coefficient: float) -> Decay:
    """The decay of a class with a coefficient, where the class has one."""
    return Decay() if each.decay is DecayKind.NONE else Decay(each.decay, coefficient)


def tensor_of(index: int, each: TensorClass, numel: int, **special: object) -> TensorPlan:
    """A tensor of a class."""
    plan = TensorPlan(
        name=f"p{index}",
        shape=(numel,),
        param_dtype=each.param_dtype,
        grad_dtype=each.grad_dtype,
        moment_dtype=each.moment_dtype,
        master=each.master,
        decay=decay_of(each, 0.1),
    )
    return replace(plan, **special)


def random_group(
    structure: KernelStructure, random: np.random.Generator, sizes: Sequence[int]
) -> GroupPlan:
    """A group with a tensor per size, of all classes in turn; a third of them are not clipped."""
    classes = [structure.classes[k % len(structure.classes)] for k in range(len(sizes))]
    tensors = tuple(
        tensor_of(
            index,
            classes[place],
            sizes[place],
            decay=decay_of(classes[place], float(random.choice((0.0, 1e-4, 0.3)))),
            lr_scale=float(random.choice((1.0, 0.5, 2.0))),
            need_clip=bool(random.integers(3)),
        )
        for index, place in enumerate(random.permutation(len(sizes)))
    )
    return GroupPlan(
        tensors,
        beta1=float(random.choice((0.9, 0.0, 1 - 1e-9))),
        beta2=float(random.choice((0.999, 0.9, 1 - 1e-8, 1 - 1e-10))),
        clip=_CLIPS[structure.clip],
        skip=structure.skip,
    )


def offsets_of_their_own(group: GroupPlan, random: np.random.Generator) -> list[list[int]]:
    """Each array as even as its elements, and no more."""
    return random.integers(0, 16, (len(group.tensors), _SLOTS)).tolist()


def offsets_in_step(group: GroupPlan, random: np.random.Generator) -> list[list[int]]:
    """The arrays of a tensor reach a multiple of 16 bytes at the same element, not their first."""
    return np.repeat(random.integers(0, 16, (len(group.tensors), 1)), _SLOTS, axis=1).tolist()


def in_c(kernel: LoadedKernel, case: Case) -> GroupArrays:
    """What the C kernel leaves behind."""
    arrays = case.arrays
    for step, lr in enumerate(case.lr.rounded):
        tensors = list(case.group.tensors)
        if case.weight_decay is not None:
            for index in case.at_run_time:
                decay = decay_of(tensors[index].tensor_class, case.weight_decay.rounded[step])
                tensors[index] = replace(tensors[index], decay=decay)
        group = replace(case.group, tensors=tuple(tensors))
        found_inf = case.found_inf is not None and case.found_inf[step]
        arrays = run_kernel(kernel, case.structure, group, arrays, lr, found_inf, case.seed)
    return arrays


def assert_as_in_c(kernel: LoadedKernel, case: Case, result: Result) -> None:
    """Demand the bits that the C kernel computes."""
    assert result.status == 0
    assert_bitwise(UpdatePlan((case.group,)), [result.arrays], [in_c(kernel, case)])
