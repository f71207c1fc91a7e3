"""Rendered CUDA compiles without a warning: no spill, no local memory, nothing that nvcc doubts."""

from __future__ import annotations

import subprocess
from pathlib import Path

import pytest
from support.nvcc import cuda_compiler, cuda_source, strict_flags
from support.structures import SAMPLE

from radam_codegen._resources import include_dir
from radam_codegen.ir.plan import KernelStructure
from radam_codegen.ir.structure_name import structure_from_name
from radam_codegen.toolchain.cuda.architectures import DEFAULT_ARCHITECTURES


def compile_strictly(structure: KernelStructure, folder: Path, *architectures: int) -> None:
    path = folder / "kernel.cu"
    path.write_text(cuda_source(structure).text, encoding="utf-8")
    compiler = cuda_compiler()
    command = [
        *compiler.command,
        *strict_flags(architectures),
        f"-ccbin={compiler.host.command[0]}",
        f"-I{include_dir()}",
        "-fatbin",
        "-o",
        str(folder / "kernel.fatbin"),
        str(path),
    ]
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    assert done.returncode == 0, f"{structure.name}\n{done.stdout}{done.stderr}"
    assert not done.stderr.strip(), done.stderr


#: A few of what the C compiler is shown; `make test-cuda-all` has every structure.
SOME = SAMPLE[::4]

#: What people train with.
USUAL = [
    structure_from_name(f"radam_clip_global_norm__{classes}")
    for classes in (
        "f32_l2__f32_no_decay",
        "bf16_master_l2__bf16_master_no_decay__f32_no_decay",
    )
]


@pytest.mark.parametrize("structure", SOME, ids=range(len(SOME)))
def test_for_one_architecture(structure: KernelStructure, tmp_path: Path) -> None:
    compile_strictly(structure, tmp_path, 90)


@pytest.mark.parametrize("structure", USUAL, ids=["float32", "bfloat16"])
def test_for_all_architectures(structure: KernelStructure, tmp_path: Path) -> None:
    compile_strictly(structure, tmp_path, *DEFAULT_ARCHITECTURES)
