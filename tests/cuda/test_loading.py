"""A CUDA library loads anywhere, describes itself, and says where there is no GPU."""

from __future__ import annotations

import subprocess
from pathlib import Path
from typing import Any

import pytest
from golden.test_texts import FULL, PLAIN
from support.hand_written import hand_written_source
from support.nvcc import cuda_compiler, cuda_source

from radam_codegen._resources import include_dir
from radam_codegen.config import current
from radam_codegen.errors import AbiMismatchError, ArtifactError, NoGpuError
from radam_codegen.runtime import LoadedCudaKernel, load_cuda_kernel, load_kernel
from radam_codegen.runtime.interface import ffi
from radam_codegen.toolchain import build_kernel
from radam_codegen.toolchain.abi import cuda_abi_version
from radam_codegen.toolchain.cuda import build_cuda_kernel
from radam_codegen.toolchain.cuda.architectures import devices_here

STUB = """
#include <radam_codegen/cuda_kernel.h>
static uint64_t workspace_size(const radam_cuda_group *group) {{ (void)group; return 0; }}
static int32_t step(const radam_cuda_group *group, void *stream)
{{ (void)group; (void)stream; return 0; }}
static int32_t device_count(int32_t *count) {{ *count = {count}; return {status}; }}
static const char *error_text(int32_t error) {{ (void)error; return "out of luck"; }}
const radam_cuda_kernel *radam_codegen_cuda_kernel(void)
{{
    static const radam_cuda_kernel kernel = {{ {version}, 1, "stub", "0", workspace_size, step,
        device_count, error_text }};
    return &kernel;
}}
"""


def stub(folder: Path, version: int | None = None, count: int = 0, status: int = 0) -> Path:
    """A library with the interface of a kernel, in C: what a machine answers is in our hands."""
    source, library = folder / "stub.c", folder / "stub.so"
    version = cuda_abi_version() if version is None else version
    source.write_text(STUB.format(version=version, count=count, status=status), encoding="utf-8")
    command = ["cc", "-shared", "-fPIC", "-Wall", "-Wextra", "-Werror", f"-I{include_dir()}"]
    subprocess.run([*command, str(source), "-o", str(library)], check=True)
    return library


@pytest.fixture(scope="module")
def kernels() -> dict[str, LoadedCudaKernel]:
    """Two kernels, for one architecture."""
    cuda_compiler()
    return {
        each.name: load_cuda_kernel(build_cuda_kernel(cuda_source(each), current(), [90]).library)
        for each in (PLAIN, FULL)
    }


def test_a_kernel_describes_itself(kernels: dict[str, LoadedCudaKernel]) -> None:
    for structure in (PLAIN, FULL):
        loaded = kernels[structure.name]
        assert loaded.name == structure.name
        assert f'"{loaded.ir_sha256}"' in cuda_source(structure).text
        assert loaded.body_count == len(structure.classes)
        assert loaded.address == int(ffi().cast("intptr_t", loaded.kernel))


def group_of(*numels: int) -> Any:
    group = ffi().new("radam_cuda_group *")
    tensors = ffi().new("radam_tensor[]", len(numels))
    numbers = ffi().new("radam_tensor_numbers[]", len(numels))
    for tensor, numel in zip(tensors, numels):
        tensor.numel = numel
    group.tensors, group.tensor_numbers, group.tensor_count = tensors, numbers, len(numels)
    return group, (tensors, numbers)


def test_the_workspace_grows_with_tensors_and_chunks(kernels: dict[str, LoadedCudaKernel]) -> None:
    def size(name: str, *numels: int) -> int:
        group, _held = group_of(*numels)
        return int(kernels[name].kernel.workspace_size(group))

    assert size(PLAIN.name) == size(FULL.name) == 0
    record = size(PLAIN.name, 1)
    assert size(PLAIN.name, 0, 10**9, 7) == 3 * record
    record = size(FULL.name, 0) - 8  # beside the sum of the tensor
    assert size(FULL.name, 0, 1, 16384, 16385) == 4 * (record + 8) + (0 + 1 + 1 + 2) * 8


def test_a_workspace_that_is_too_small_is_an_error(kernels: dict[str, LoadedCudaKernel]) -> None:
    for loaded in kernels.values():
        group, _held = group_of(5)
        group.workspace_bytes = loaded.kernel.workspace_size(group) - 1
        assert loaded.kernel.step(group, ffi().NULL) == 1
        assert loaded.error_text(1) == "invalid argument"


def test_without_a_gpu_it_says_so(kernels: dict[str, LoadedCudaKernel]) -> None:
    if devices_here(cuda_compiler()):
        pytest.skip("there is a GPU here")
    for loaded in kernels.values():
        with pytest.raises(NoGpuError, match=r"there is no NVIDIA driver|the driver finds no GPU"):
            loaded.device_count()
        group, _held = group_of(5)
        group.workspace_bytes = loaded.kernel.workspace_size(group)
        assert loaded.kernel.step(group, ffi().NULL) in (35, 100)


def test_nothing_else_is_exported_and_no_cuda_library_is_needed(
    kernels: dict[str, LoadedCudaKernel],
) -> None:
    path = str(kernels[FULL.name].path)
    exported = subprocess.run(
        ["nm", "--dynamic", "--defined-only", path], capture_output=True, text=True, check=True
    ).stdout.split()
    assert exported[2::3] == ["radam_codegen_cuda_kernel"]
    needed = subprocess.run(
        ["readelf", "--dynamic", path], capture_output=True, text=True, check=True
    ).stdout
    assert "libcud" not in needed
    assert "NEEDED" in needed


@pytest.mark.parametrize(
    ("count", "status", "said"),
    [
        (0, 35, r"no NVIDIA driver here, .* \(CUDA error 35\)"),
        (0, 100, r"finds no GPU .* \(CUDA error 100\)"),
        (0, 0, r"\(CUDA error 100\)"),
        (0, 999, r"out of luck \(CUDA error 999\)"),
    ],
)
def test_whatever_cuda_answers_is_told(count: int, status: int, said: str, tmp_path: Path) -> None:
    with pytest.raises(NoGpuError, match=f"CUDA kernel stub cannot run: .*{said}.*target='c'"):
        load_cuda_kernel(stub(tmp_path, count=count, status=status)).device_count()


def test_gpus_are_counted(tmp_path: Path) -> None:
    assert load_cuda_kernel(stub(tmp_path, count=3)).device_count() == 3


def test_another_abi_is_refused(tmp_path: Path) -> None:
    version = cuda_abi_version()
    with pytest.raises(AbiMismatchError, match=f"version {version + 1} .* version {version}"):
        load_cuda_kernel(stub(tmp_path, version=version + 1))


def test_a_c_kernel_is_none(tmp_path: Path) -> None:
    built = build_kernel(hand_written_source(), current())
    with pytest.raises(ArtifactError, match="is no CUDA kernel"):
        load_cuda_kernel(built.library)
    with pytest.raises(ArtifactError, match="is no kernel"):
        load_kernel(stub(tmp_path))
    with pytest.raises(ArtifactError, match="cannot be loaded"):
        load_cuda_kernel(tmp_path / "missing.so")
