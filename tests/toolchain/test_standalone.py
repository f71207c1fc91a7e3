"""Standalone sources build a library with CMake, and a C program gets the bits that Python gets."""

from __future__ import annotations

import shutil
import struct
import subprocess
import sys
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from support.kernel_runner import run_kernel
from support.plans import random_arrays

import radam_codegen as rc
from radam_codegen._resources import include_dir
from radam_codegen.codegen import render
from radam_codegen.config import current
from radam_codegen.errors import ArgumentError, ArtifactError
from radam_codegen.ir.interpret import GroupArrays
from radam_codegen.ir.plan import (
    Clip,
    ClipKind,
    Decay,
    DecayKind,
    GroupPlan,
    KernelStructure,
    TensorPlan,
    UpdatePlan,
)
from radam_codegen.ir.structure_name import structure_from_name, tensor_classes
from radam_codegen.passes import lower_structure
from radam_codegen.runtime import load_kernel
from radam_codegen.toolchain import build_kernel

#: Every class of tensors in one kernel: its name is longer than that of any file may be.
MANY = KernelStructure(ClipKind.NONE, False, tensor_classes()).name
NAMES = (
    MANY,
    "radam_clip_global_norm_skip__bf16_master_l2__f32_no_decay",
    "radam_clip_norm__f64_l1",
    "radam_clip_value__f16_grad_f32_decoupled",
)
STEPS = 3
SIZES = (1, 7, 16384, 20011, 0, 67)


@pytest.fixture(scope="module")
def tree(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("standalone") / "sources"
    result = rc.aot(folder, kernels=NAMES, standalone=True)
    assert (result.good, result.kernels, result.compiled) == (True, NAMES, 0)
    return folder


@pytest.fixture(scope="module")
def program(tree: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A program that is linked with nothing but the library."""
    build = tmp_path_factory.mktemp("build")
    cmake = shutil.which("cmake") or str(Path(sys.executable).with_name("cmake"))
    flags = "-Wall -Wextra -Wconversion -Werror"
    run(cmake, "-S", str(tree), "-B", str(build), f"-DCMAKE_C_FLAGS={flags}")
    run(cmake, "--build", str(build))
    assert run(str(build / "radam_example"), "10").startswith("radam_")
    source = Path(__file__).resolve().parents[1] / "support" / "standalone_step.c"
    linked = ["-I", str(tree / "include"), str(source), str(build / "libradam_kernels.a"), "-lm"]
    run("cc", "-std=c11", "-O1", *linked, "-o", str(build / "step"))
    return build / "step"


def run(*command: str) -> str:
    done = subprocess.run(
        command, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True, check=False
    )
    assert done.returncode == 0, done.stdout
    return done.stdout


def group_of(structure: KernelStructure) -> GroupPlan:
    tensors = tuple(
        TensorPlan(
            f"{number} {size}",
            (size,),
            each.param_dtype,
            each.grad_dtype,
            each.moment_dtype,
            each.master,
            0.5,
            Decay() if each.decay is DecayKind.NONE else Decay(each.decay, 0.1),
            number % 3 != 0,
        )
        for number, (each, size) in enumerate(
            (each, SIZES[index % len(SIZES)])
            for index, each in enumerate((*structure.classes, *structure.classes[:1]) * 2)
        )
        if number < 64
    )
    clip = Clip() if structure.clip is ClipKind.NONE else Clip(structure.clip, 1.5)
    return GroupPlan(tensors, clip=clip, skip=structure.skip)


def pack(structure: KernelStructure, group: GroupPlan, arrays: GroupArrays, lr: float) -> bytes:
    parts = [
        struct.pack("qq", len(group.tensors), STEPS),
        struct.pack("5d", group.beta1, group.beta2, group.epsilon, group.clip.bound, 0.0),
        struct.pack("d", lr),
    ]
    for index, tensor in enumerate(group.tensors):
        body = structure.classes.index(tensor.tensor_class)
        step = int(arrays.step[index])
        parts.append(struct.pack("4q", tensor.numel, step, tensor.need_clip, body))
        parts.append(struct.pack("2d", tensor.lr_scale, tensor.decay.coefficient))
        slots: list[Any] = [
            getattr(arrays, name)[index]
            for name in ("param", "grad", "moment1", "moment2", "master")
        ]
        content = [b"" if slot is None else slot.tobytes() for slot in slots]
        # An array of none has an address in Python and none here, which is all the same.
        parts += [struct.pack("5q", *(len(each) for each in content)), *content]
    return b"".join(parts)


@pytest.mark.parametrize("name", NAMES, ids=[name[:40] for name in NAMES])
def test_a_c_program_gets_the_same_bits(name: str, program: Path, tmp_path: Path) -> None:
    structure = structure_from_name(name)
    group = group_of(structure)
    (arrays,) = random_arrays(UpdatePlan((group,)), seed=4)
    file = tmp_path / "tensors"
    file.write_bytes(pack(structure, group, arrays, lr=0.01))
    run(str(program), name, str(file))

    source = render(lower_structure(structure))
    kernel = load_kernel(build_kernel(source, current()).library)
    for _ in range(STEPS):
        arrays = run_kernel(kernel, structure, group, arrays, lr=0.01)
    assert file.read_bytes() == pack(structure, group, arrays, lr=0.01)
    assert np.all(arrays.step >= STEPS)


def test_the_sources_are_those_that_are_compiled(tree: Path) -> None:
    rendered = {render(lower_structure(structure_from_name(name))).text for name in NAMES}
    sources = list((tree / "src").glob("radam_*.c"))
    assert {path.read_text(encoding="utf-8") for path in sources} == rendered
    assert all(len(path.name) < 256 for path in sources)
    for path in (tree / "include" / "radam_codegen").iterdir():
        assert path.read_bytes() == (include_dir() / "radam_codegen" / path.name).read_bytes()
    assert "find_package" not in (tree / "CMakeLists.txt").read_text()


def test_a_tree_is_replaced_as_a_whole_and_nothing_else_is(tree: Path, tmp_path: Path) -> None:
    folder = tmp_path / "new" / "tree"
    rc.aot(folder, kernels=NAMES[2:3], standalone=True)
    rc.aot(folder, kernels=NAMES, standalone=True)
    assert {
        path.relative_to(folder): path.is_file() and path.read_bytes() for path in folder.rglob("*")
    } == {path.relative_to(tree): path.is_file() and path.read_bytes() for path in tree.rglob("*")}
    assert [path.name for path in folder.parent.iterdir()] == ["tree"]
    with pytest.raises(ArtifactError, match="was not written by"):
        rc.aot(folder.parent, kernels=NAMES, standalone=True)
    with pytest.raises(ArgumentError, match="for any CPU"):
        rc.aot(folder, kernels=NAMES, standalone=True, cpus=["native"])
    with pytest.raises(ArtifactError, match="cannot be written"):
        rc.aot(folder / "README.md", kernels=NAMES, standalone=True)
