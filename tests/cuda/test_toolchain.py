"""Finding nvcc, choosing architectures, and what shapes a library."""

from __future__ import annotations

import dataclasses
import hashlib
import os
import shutil
from pathlib import Path

import pytest
from golden.test_texts import FULL, PLAIN
from support.hand_written import hand_written_source
from support.nvcc import cuda_compiler, cuda_source

import radam_codegen.toolchain.cuda.compiler as finding
from radam_codegen.codegen import KernelSource
from radam_codegen.config import Config, current
from radam_codegen.errors import ArgumentError, CompileError, CompilerNotFoundError, ConfigError
from radam_codegen.toolchain.cuda import (
    CudaCompiler,
    build_cuda_kernel,
    cuda_kernel_recipe,
    find_cuda_compiler,
)
from radam_codegen.toolchain.cuda.architectures import (
    DEFAULT_ARCHITECTURES,
    architectures_for,
    code_flags,
    devices_here,
)


@pytest.fixture
def nvcc() -> CudaCompiler:
    return cuda_compiler()


@pytest.fixture
def config(tmp_path: Path) -> Config:
    return dataclasses.replace(current(), cache_dir=tmp_path / "cache")


def program(path: Path, text: str) -> Path:
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(f"#!/bin/sh\n{text}\n", encoding="utf-8")
    path.chmod(0o755)
    return path


# ---- Finding nvcc -------------------------------------------------------------------------------


def test_it_is_known_by_its_content_wherever_it_is(nvcc: CudaCompiler, tmp_path: Path) -> None:
    wrapper = program(tmp_path / "bin" / "nvcc", f'exec {nvcc.command[0]} "$@"')
    other = find_cuda_compiler(str(wrapper))
    assert other.command == (str(wrapper),)
    assert other.identity(tmp_path) == nvcc.identity(tmp_path)
    with_flag = find_cuda_compiler(f"{wrapper} --use-local-env")
    assert with_flag.identity(tmp_path) != nvcc.identity(tmp_path)


def test_its_programs_are_known_by_their_content(nvcc: CudaCompiler, tmp_path: Path) -> None:
    (small,) = (path for path in nvcc.programs if path.name == "fatbinary")
    copy = tmp_path / "copy"
    shutil.copyfile(small, copy)
    others = tuple(path for path in nvcc.programs if path != small)
    moved = dataclasses.replace(nvcc, programs=(copy, *others))
    assert moved.identity(tmp_path) == nvcc.identity(tmp_path)
    with copy.open("ab") as stream:
        stream.write(b"!")
    assert moved.identity(tmp_path) != nvcc.identity(tmp_path)


def test_the_programs_that_it_runs_are_known(nvcc: CudaCompiler) -> None:
    names = {path.name for path in nvcc.programs}
    assert {"nvcc", "cicc", "ptxas", "fatbinary", "cudafe++", "libcudart_static.a"} <= names
    assert set(DEFAULT_ARCHITECTURES) & set(nvcc.architectures)


def without_nvcc(monkeypatch: pytest.MonkeyPatch, folder: Path) -> None:
    """Hide every nvcc of this machine, but not its C++ compiler."""
    tools = folder / "tools"
    tools.mkdir()
    for name in ("c++", "g++", "gcc", "as", "ld", "sh"):
        found = shutil.which(name)
        if found:
            (tools / name).symlink_to(found)
    monkeypatch.setenv("PATH", str(tools))
    monkeypatch.setattr(finding, "_INSTALLED", folder / "nowhere" / "nvcc")


def test_it_is_found_in_wheels(
    nvcc: CudaCompiler, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    root = next(path for path in nvcc.programs if path.name == "nvcc").parent.parent
    wheel = tmp_path / "site" / "nvidia" / "cu13"
    wheel.parent.mkdir(parents=True)
    wheel.symlink_to(root)
    without_nvcc(monkeypatch, tmp_path)
    monkeypatch.syspath_prepend(str(tmp_path / "site"))
    found = find_cuda_compiler()
    assert found.command == (str(wheel / "bin" / "nvcc"),)
    assert found.identity(tmp_path) == nvcc.identity(tmp_path)


def test_an_nvcc_that_may_not_be_executed(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    path = program(tmp_path / "site" / "nvidia" / "cu13" / "bin" / "nvcc", "exit 0")
    path.chmod(0o644)
    without_nvcc(monkeypatch, tmp_path)
    monkeypatch.syspath_prepend(str(tmp_path / "site"))
    with pytest.raises(CompilerNotFoundError, match=r"may not be executed.*chmod \+x .*/bin/\*"):
        find_cuda_compiler()


def test_no_nvcc_at_all(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    without_nvcc(monkeypatch, tmp_path)
    monkeypatch.setattr(finding, "_in_wheels", lambda: iter(()))  # there may be some here
    with pytest.raises(CompilerNotFoundError, match=r"pip install 'radam-codegen\[cuda\]'.*NVCC"):
        find_cuda_compiler()


def test_a_name_that_is_no_nvcc(tmp_path: Path) -> None:
    with pytest.raises(CompilerNotFoundError, match=r"'nowhere/nvcc', which NVCC="):
        find_cuda_compiler("nowhere/nvcc -x")
    with pytest.raises(CompilerNotFoundError, match="does not answer as nvcc does"):
        find_cuda_compiler(str(program(tmp_path / "says-nothing", "exit 0")))
    with pytest.raises(CompilerNotFoundError, match=r"does not work.*no license today"):
        find_cuda_compiler(str(program(tmp_path / "fails", "echo no license today >&2; exit 3")))
    with pytest.raises(CompilerNotFoundError, match=r"did not answer within 0\.5 s"):
        find_cuda_compiler(str(program(tmp_path / "hangs", "sleep 60")), timeout=0.5)


def test_the_host_compiler_is_handed_on(nvcc: CudaCompiler, tmp_path: Path) -> None:
    gxx = shutil.which("g++")
    assert gxx is not None, "the checks need g++"
    launcher = program(tmp_path / "launcher", 'exec "$@"')
    found = find_cuda_compiler(cxx=f"{launcher} {gxx} -DMARK=1")
    assert found.host.command == (gxx, "-DMARK=1")
    command = cuda_kernel_recipe(cuda_source(PLAIN), found, tmp_path, (90,)).command
    assert f"-ccbin={gxx}" in command
    assert "-Xcompiler=-DMARK=1" in command


# ---- Architectures ------------------------------------------------------------------------------


def test_the_newest_has_ptx() -> None:
    assert code_flags((90, 75)) == (
        "-gencode=arch=compute_75,code=sm_75",
        "-gencode=arch=compute_90,code=sm_90",
        "-gencode=arch=compute_90,code=compute_90",
    )


def compiler_for(
    nvcc: CudaCompiler, folder: Path, known: tuple[int, ...], gpus: str
) -> CudaCompiler:
    """An nvcc that compiles for these, beside a program that says which GPUs there are."""
    query = program(folder / "__nvcc_device_query", gpus)
    return dataclasses.replace(nvcc, architectures=known, programs=(query.with_name("nvcc"),))


@pytest.mark.parametrize(
    ("known", "gpus", "expected"),
    [
        ((75, 80, 86, 90, 100, 120), "echo 90,80,90", (80, 90)),
        ((75, 80, 86, 90, 100, 120), "echo 121", DEFAULT_ARCHITECTURES),  # runs the PTX
        ((75, 80, 86, 90, 100, 120), "echo no driver 35 >&2; exit 1", DEFAULT_ARCHITECTURES),
        ((50, 60, 70, 75, 80, 90), "exit 1", (75, 80, 90)),
        ((130, 140), "exit 1", (140,)),
    ],
)
def test_architectures(
    known: tuple[int, ...], gpus: str, expected: tuple[int, ...], nvcc: CudaCompiler, tmp_path: Path
) -> None:
    assert architectures_for(compiler_for(nvcc, tmp_path, known, gpus)) == expected


def test_architectures_that_are_wanted(nvcc: CudaCompiler, tmp_path: Path) -> None:
    compiler = compiler_for(nvcc, tmp_path, (60, 80, 90), "echo 80")
    assert architectures_for(compiler, [90, 80, 90]) == (80, 90)
    for wanted in ([], [60], [90, 91]):
        with pytest.raises(ArgumentError, match="compiles for: 80, 90"):
            architectures_for(compiler, wanted)
    with pytest.raises(CompilerNotFoundError, match="sm_70"):
        architectures_for(compiler_for(nvcc, tmp_path, (50, 60), "exit 1"))


def test_a_machine_without_a_query_program_has_no_devices(nvcc: CudaCompiler) -> None:
    assert devices_here(dataclasses.replace(nvcc, programs=())) == ()


# ---- Libraries ----------------------------------------------------------------------------------


def test_the_same_bytes_wherever_it_is_compiled(
    nvcc: CudaCompiler, config: Config, tmp_path: Path
) -> None:
    source = cuda_source(FULL)  # whose kernels have variables in shared memory
    elsewhere = dataclasses.replace(config, cache_dir=tmp_path / "a much longer name" / "cache")
    one = build_cuda_kernel(source, config, [75])
    other = build_cuda_kernel(source, elsewhere, [75])
    assert one.compiled
    assert other.compiled
    assert one.key == other.key
    assert one.library.read_bytes() == other.library.read_bytes()
    assert not build_cuda_kernel(source, config, [75]).compiled
    assert {path.name for path in one.library.parent.iterdir()} == {
        *("kernel.cu", "kernel.so", "compiler.log", "manifest.json")
    }
    assert str(tmp_path).encode() not in one.library.read_bytes()


def test_what_shapes_a_library_shapes_its_key(nvcc: CudaCompiler, tmp_path: Path) -> None:
    source = cuda_source(PLAIN)
    digest = hashlib.sha256(f"{source.text}\n".encode()).hexdigest()
    changed = {
        "base": (source, nvcc, (90,)),
        "source": (
            dataclasses.replace(source, text=f"{source.text}\n", sha256=digest),
            nvcc,
            (90,),
        ),
        "architecture": (source, nvcc, (80,)),
        "architectures": (source, nvcc, (80, 90)),
        "version": (source, dataclasses.replace(nvcc, version="another"), (90,)),
        "arguments": (source, dataclasses.replace(nvcc, command=(*nvcc.command, "-G")), (90,)),
        "programs": (source, dataclasses.replace(nvcc, programs=nvcc.programs[1:]), (90,)),
        "host": (
            source,
            dataclasses.replace(nvcc, host=dataclasses.replace(nvcc.host, version="another")),
            (90,),
        ),
        "host arguments": (source, dataclasses.replace(nvcc, host_flags=("-O0",)), (90,)),
    }
    keys = {
        what: cuda_kernel_recipe(source, compiler, tmp_path, architectures).key
        for what, (source, compiler, architectures) in changed.items()
    }
    assert len(set(keys.values())) == len(keys), keys
    moved = dataclasses.replace(nvcc, command=("/elsewhere/nvcc",), libraries=(tmp_path,))
    assert cuda_kernel_recipe(source, moved, tmp_path, (90,)).key == keys["base"]


def test_a_source_that_nvcc_refuses(nvcc: CudaCompiler, config: Config) -> None:
    good = cuda_source(PLAIN)
    line = "const float moment1 = moment1_at[i];"
    assert line in good.text
    broken = KernelSource(
        good.name, "cuda", good.text.replace(line, "const float moment1 = x;"), "0"
    )
    with pytest.raises(CompileError) as caught:
        build_cuda_kernel(broken, config, [75])
    message = str(caught.value)
    assert "first error: kernel.cu(" in message
    assert 'identifier "x" is undefined' in message
    assert "IR operation: load" in message
    assert "set CXX to an older one" in message


def test_nothing_is_compiled_where_that_is_asked_for(config: Config) -> None:
    only = dataclasses.replace(config, mode="aot-only", nvcc="/nowhere/nvcc")
    with pytest.raises(ConfigError, match="aot-only, but no bundle is named"):
        build_cuda_kernel(cuda_source(PLAIN), only)


def test_a_source_in_c_is_refused(nvcc: CudaCompiler, config: Config) -> None:
    with pytest.raises(ArgumentError, match="is in 'c'; this is the compiler for 'cuda'"):
        build_cuda_kernel(hand_written_source(), config)


def test_a_host_compiler_that_does_not_work(nvcc: CudaCompiler, config: Config) -> None:
    broken = dataclasses.replace(config, cxx=os.devnull)
    with pytest.raises(CompilerNotFoundError, match=r"C\+\+ compiler"):
        build_cuda_kernel(cuda_source(PLAIN), broken)
