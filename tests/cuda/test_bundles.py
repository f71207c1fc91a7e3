"""Kernels in CUDA, compiled ahead of time: bundles, their verification, standalone sources."""

from __future__ import annotations

import ctypes
import json
import os
import re
import shutil
import subprocess
import sys
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
from click.testing import CliRunner
from support.cuda_build import need_tools
from support.nvcc import cuda_compiler, cuda_source

import radam_codegen as rc
from radam_codegen._resources import include_dir
from radam_codegen.cli import main
from radam_codegen.codegen import KernelSource, render
from radam_codegen.config import Config, current
from radam_codegen.errors import ArgumentError, ArtifactError, CompilerNotFoundError
from radam_codegen.ir.structure_name import structure_from_name
from radam_codegen.passes import lower_structure
from radam_codegen.runtime import load_cuda_kernel
from radam_codegen.runtime.interface import ffi
from radam_codegen.toolchain import build_kernel, find_ahead
from radam_codegen.toolchain.bundle import open_bundle
from radam_codegen.toolchain.bundle_index import BundleIndex, index_from_bytes, index_to_bytes
from radam_codegen.toolchain.cuda import build_cuda_kernel
from radam_codegen.toolchain.gpus import suits
from radam_codegen.toolchain.manifest import read_manifest, write_manifest

NAME = "radam_no_clip__f32_no_decay"
OTHER = "radam_clip_norm__f64_l1"


def source_of(name: str = NAME) -> KernelSource:
    return cuda_source(structure_from_name(name))


@pytest.fixture(scope="module")
def made(tmp_path_factory: pytest.TempPathFactory) -> Path:
    cuda_compiler()
    folder = tmp_path_factory.mktemp("bundle") / "made"
    result = rc.aot(
        folder,
        kernels=[NAME],
        cpus=["native"],
        target=("c", "cuda"),
        architectures=[75],
        operator=False,
    )
    assert (result.good, result.compiled) == (True, 2)
    assert (result.kernels, result.cuda_kernels, result.architectures) == ((NAME,), (NAME,), (75,))
    return folder


@pytest.fixture
def bundle(made: Path, tmp_path: Path) -> Path:
    return Path(shutil.copytree(made, tmp_path / "bundle"))


@pytest.fixture
def only(bundle: Path) -> Config:
    return replace(current(), aot=bundle, mode="aot-only", nvcc="/no/nvcc", cxx="/no/compiler")


@pytest.fixture(autouse=True)
def forget_warnings(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(find_ahead, "_warned", set())


def entry(bundle: Path) -> Path:
    (found,) = (bundle / "cuda-kernels").iterdir()
    return found


def rewrite(bundle: Path, change: Callable[[BundleIndex], BundleIndex]) -> None:
    index = index_from_bytes((bundle / "bundle.json").read_bytes())
    (bundle / "bundle.json").write_bytes(index_to_bytes(change(index)))


# ---- Bundles ------------------------------------------------------------------------------------


@pytest.mark.parametrize("mode", ["auto", "aot-only"])
def test_a_kernel_is_taken_from_the_bundle_without_nvcc(
    mode: str, only: Config, bundle: Path
) -> None:
    found = build_cuda_kernel(source_of(), replace(only, mode=mode))
    assert (found.library.parent, found.compiled) == (entry(bundle), False)
    assert load_cuda_kernel(found.library).name == NAME
    assert {path.name for path in entry(bundle).iterdir()} == {
        *("kernel.cu", "kernel.so", "compiler.log", "manifest.json")
    }
    described = open_bundle(bundle).describe()
    assert f"kernels: {NAME}; CUDA kernels: {NAME}; operator for" in described


def test_a_miss_names_the_kernel_and_the_command(only: Config, bundle: Path) -> None:
    with pytest.raises(ArtifactError) as caught:
        build_cuda_kernel(source_of(OTHER), only)
    text = str(caught.value)
    assert f"The CUDA kernel {OTHER} is not to be had" in text
    assert "why: it holds no kernel of this name" in text
    assert text.endswith(f"radam-codegen aot --kernel {OTHER} --target cuda --out {bundle}")


@pytest.mark.parametrize(
    ("change", "expected"),
    [
        ({"cuda_abi": 99}, "it was made for version 99 of the CUDA kernel ABI"),
        ({"version": "9.9", "cuda_kernels": {}}, "it was made by radam_codegen 9.9"),
    ],
)
def test_a_bundle_of_another_version_is_refused(
    only: Config, bundle: Path, change: dict[str, Any], expected: str
) -> None:
    rewrite(bundle, lambda index: replace(index, **change))
    with pytest.raises(ArtifactError, match=expected):
        build_cuda_kernel(source_of(), only)


def test_another_abi_of_cuda_kernels_leaves_those_in_c(only: Config, bundle: Path) -> None:
    rewrite(bundle, lambda index: replace(index, cuda_abi=99))
    in_c = render(lower_structure(structure_from_name(NAME)))
    assert build_kernel(in_c, only).library.is_relative_to(bundle)


def pretend(gpus: str, folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Have a driver's program on the path that lists GPUs."""
    folder.mkdir()
    asked = "--query-gpu=compute_cap --format=csv,noheader"
    (folder / "nvidia-smi").write_text(f'#!/bin/sh\n[ "$*" = "{asked}" ] && printf "{gpus}"\n')
    (folder / "nvidia-smi").chmod(0o755)
    monkeypatch.setenv("PATH", str(folder), prepend=os.pathsep)


@pytest.mark.parametrize("gpus", [r"7.5\n", r"12.0\n", r"7.0\n9.0\n", r"[N/A]\n", ""])
def test_a_kernel_for_a_gpu_that_is_there_is_taken(
    gpus: str, only: Config, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    pretend(gpus, tmp_path / "bin", monkeypatch)
    assert not build_cuda_kernel(source_of(), only).compiled


def test_a_kernel_for_other_gpus_is_a_miss(
    only: Config, bundle: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    pretend(r"7.2\n7.0\n7.2\n", tmp_path / "bin", monkeypatch)
    with pytest.raises(ArtifactError) as caught:
        build_cuda_kernel(source_of(), only)
    text = str(caught.value)
    assert (
        "why: its kernel of this name runs on no GPU of this machine, which has sm_70, sm_72: it "
        "is for sm_75, and what is newer than that" in text
    )
    assert text.endswith(f"--target cuda --arch 70 --arch 72 --out {bundle}")
    auto = replace(only, mode="auto")
    with (
        pytest.warns(RuntimeWarning, match=r"not used for all: .* runs on no GPU"),
        pytest.raises(CompilerNotFoundError),
    ):
        build_cuda_kernel(source_of(), auto)


@pytest.mark.parametrize(
    ("architectures", "gpu", "suitable"),
    [
        ((75, 80, 90, 100, 120), 86, True),  # the code for 80
        ((75, 80, 90, 100, 120), 103, True),
        ((75, 80, 90, 100, 120), 121, True),
        ((75, 80, 90, 100, 120), 130, True),  # the PTX for 120
        ((75, 80, 90, 100, 120), 72, False),
        ((86,), 80, False),  # newer, though of one generation
        ((75, 120), 90, False),  # neither code of its generation, nor PTX as old
        ((80,), 90, True),
        ((), 90, False),
    ],
)
def test_which_gpus_run_a_library(architectures: tuple[int, ...], gpu: int, suitable: bool) -> None:
    assert suits(architectures, gpu) is suitable


def test_a_kernel_that_cannot_be_used_is_a_miss(only: Config, bundle: Path) -> None:
    source = replace(source_of(), sha256="0" * 64)
    with pytest.raises(ArtifactError, match="compiled from another source"):
        build_cuda_kernel(source, only)
    found = open_bundle(bundle).find_cuda_kernel(source_of(), (), "riscv64")
    assert "is for " in getattr(found, "reason", "")
    library = entry(bundle) / "kernel.so"
    library.write_bytes(library.read_bytes()[:-1] + b"!")
    with pytest.raises(ArtifactError, match="is damaged"):
        build_cuda_kernel(source_of(), only)


def test_what_is_there_is_kept(bundle: Path) -> None:
    before = entry(bundle)
    done = rc.aot(bundle, kernels=[NAME], target="cuda", architectures=[75], operator=False)
    assert (done.good, done.kernels, done.cuda_kernels, done.compiled) == (True, (), (NAME,), 0)
    assert entry(bundle) == before
    assert list(open_bundle(bundle).index.kernels) == [NAME]
    # One of an older format counts as one of another version: all is looked at again.
    content = json.loads((bundle / "bundle.json").read_text())
    (bundle / "bundle.json").write_text(json.dumps({**content, "format": 1}))
    with pytest.raises(ArtifactError, match="format '1'"):
        open_bundle(bundle)
    done = rc.aot(bundle, kernels=[NAME], cpus=["native"], operator=False)
    assert (done.good, done.compiled) == (True, 0)
    (variant,) = open_bundle(bundle).index.cuda_kernels[NAME].variants
    assert (variant.architectures, variant.key) == ((75,), before.name)


def test_architectures_add_up(bundle: Path) -> None:
    asked = ["--kernel", NAME, "--target", "cuda", "--no-operator", "--out", str(bundle)]
    done = CliRunner().invoke(main, ["aot", *asked, "--arch", "90"])
    assert done.exit_code == 0, done.output
    assert "1 CUDA kernel for sm_75, sm_90, 1 compiled now" in done.output
    (variant,) = open_bundle(bundle).index.cuda_kernels[NAME].variants
    assert variant.architectures == (75, 90)
    assert entry(bundle).name == variant.key
    assert read_manifest(entry(bundle))["build"]["architectures"] == [75, 90]


def test_an_architecture_that_nvcc_does_not_know(tmp_path: Path) -> None:
    cuda_compiler()
    with pytest.raises(ArgumentError, match="no architecture 12345"):
        rc.aot(tmp_path, kernels=[NAME], target="cuda", architectures=[12345], operator=False)


# ---- Looking at them ----------------------------------------------------------------------------


def test_it_can_be_verified(bundle: Path) -> None:
    report = rc.verify(bundle, rebuild=True)
    assert report.findings == ()
    assert (report.entries, report.sources, report.rebuilt) == (2, 2, 2)
    folder = entry(bundle)
    facts = read_manifest(folder)["build"]

    def finding(**changed: object) -> str:
        write_manifest(folder, folder.name, {**facts, **changed})
        (found,) = rc.verify(folder, rebuild=True).findings
        return found.what

    assert "cannot be compiled anew: command: " in finding(architectures=[80])
    assert "no architecture 1 among" in finding(architectures=[1])
    assert "no architecture (none is named)" in finding(architectures="all")
    source = folder / "kernel.cu"
    source.write_text(source.read_text().replace("#include", "#define X 1\n#include", 1))
    assert f"kernel.cu is not what this version renders for {NAME}" in finding()


def test_it_can_be_inspected(bundle: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    shown = rc.inspect(bundle)
    assert [each.source.language for each in shown.kernels] == ["c", "cuda"]
    monkeypatch.setenv("RADAM_CODEGEN_AOT", str(bundle))
    (kernel,) = rc.inspect(entry(bundle).name[:12]).kernels
    assert kernel.entry is not None
    assert (kernel.entry.cpu, kernel.entry.fault) == ("sm_75", None)
    assert "release" in kernel.entry.compiler


def test_its_machine_code_can_be_inspected(bundle: Path) -> None:
    need_tools()
    (kernel,) = rc.inspect(entry(bundle), assembly=True).kernels
    assert kernel.assembly is not None
    assert kernel.assembly.origin == "From the library, by cuobjdump, for sm_75."
    main, rest = kernel.assembly.loops
    assert (main.is_main, main.counts.elements, rest.is_main, rest.counts.elements) == (
        *(True, 4),
        *(False, 1),
    )
    counts = main.counts
    assert (counts.loads, counts.stores, counts.bytes_per_element) == (4, 3, 28)
    # Two of them update an average each, one the parameter; the others are of roots and quotients.
    assert (counts.fma, counts.sqrt, counts.div) == (4 * 11, 4, 4)
    assert (counts.spill_loads, counts.spill_stores) == (0, 0)
    assert "LDG.E.128" in {each.mnemonic.rpartition(" ")[2][:9] for each in main.instructions}
    # What is no library of kernels cannot be read; the source still can.
    (entry(bundle) / "kernel.so").write_bytes(b"nothing")
    (kernel,) = rc.inspect(entry(bundle), assembly=True).kernels
    assert kernel.assembly is not None
    assert re.match(r"PTX for sm_\d+ .*, as cuobjdump cannot read", kernel.assembly.origin)
    assert len(kernel.assembly.loops) == 2


# ---- Standalone ---------------------------------------------------------------------------------


@pytest.fixture(scope="module")
def tree(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("standalone") / "sources"
    names = [NAME, OTHER]
    result = rc.aot(folder, kernels=names, target="cuda", standalone=True)
    assert (result.good, list(result.kernels), list(result.cuda_kernels)) == (True, names, names)
    return folder


def run(*command: str) -> str:
    done = subprocess.run(
        command, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True, check=False
    )
    assert done.returncode == 0, done.stdout
    return done.stdout


def cmake() -> str:
    return shutil.which("cmake") or str(Path(sys.executable).with_name("cmake"))


def test_the_sources_are_those_that_nvcc_compiles(tree: Path) -> None:
    for name in (NAME, OTHER):
        assert (tree / "src" / "cuda" / f"{name}.cu").read_text() == source_of(name).text
    for header in ("cuda_kernel.h", "cuda_registry.h"):
        path = Path("radam_codegen", header)
        assert (tree / "include" / path).read_bytes() == (include_dir() / path).read_bytes()


def test_a_machine_without_nvcc_builds_the_plain_c(tree: Path, tmp_path: Path) -> None:
    run(cmake(), "-S", str(tree), "-B", str(tmp_path), "-DCMAKE_CUDA_COMPILER=NOTFOUND")
    targets = run(cmake(), "--build", str(tmp_path), "--target", "help")
    assert "radam_kernels" in targets
    assert "cuda" not in targets


def test_cmake_builds_one_library_of_cuda_kernels(tree: Path, tmp_path: Path) -> None:
    nvcc = cuda_compiler()
    run(
        cmake(),
        *("-S", str(tree), "-B", str(tmp_path)),
        f"-DCMAKE_CUDA_COMPILER={nvcc.command[0]}",
        "-DCMAKE_CUDA_ARCHITECTURES=75",
        "-DBUILD_SHARED_LIBS=ON",
    )
    run(cmake(), "--build", str(tmp_path), "-j2", "--target", "radam_cuda_kernels")
    library = ctypes.CDLL(str(tmp_path / "libradam_cuda_kernels.so"))
    library.radam_find_cuda_kernel.restype = ctypes.c_void_p
    assert library.radam_cuda_kernel_count() == 2
    assert library.radam_find_cuda_kernel(b"radam_no_such") is None
    shown = []
    for name in (NAME, OTHER):
        address = library.radam_find_cuda_kernel(name.encode())
        kernel = ffi().cast("const radam_cuda_kernel *", address)
        shown.append(ffi().string(kernel.name).decode())
        count = ffi().new("int32_t *")
        assert kernel.device_count(count) in (0, 35, 100)  # a GPU, no driver, no GPU
    assert shown == [NAME, OTHER]
