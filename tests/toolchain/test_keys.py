"""A key changes when, and only when, something changes that shapes the library."""

from __future__ import annotations

import dataclasses
import hashlib
import os
import platform
import re
import shlex
import shutil
from collections.abc import Callable
from pathlib import Path

import pytest
from support.hand_written import hand_written_source
from toolchain.conftest import make_compiler

from radam_codegen._resources import runtime_dir
from radam_codegen.config import Config
from radam_codegen.toolchain import PaddleInstallation, build_kernel, digests, find_c_compiler
from radam_codegen.toolchain import kernel as kernel_module
from radam_codegen.toolchain import operator as operator_module
from radam_codegen.toolchain.compiler import Compiler
from radam_codegen.toolchain.digests import MEMO, file_sha256
from radam_codegen.toolchain.kernel import kernel_recipe
from radam_codegen.toolchain.operator import operator_recipe, operator_text
from radam_codegen.toolchain.recipe import Recipe, obtain

GCC = find_c_compiler("gcc")
PADDLE = PaddleInstallation("3.3.1 (abc)", (Path("/include"),), (Path("/libs/libphi_core.so"),))

Patch = pytest.MonkeyPatch


@pytest.fixture
def memo(tmp_path: Path) -> Path:
    return tmp_path / "cache"


def kernel_key(memo: Path, compiler: Compiler = GCC, cpu: str = "native", edit: str = "") -> str:
    return kernel_recipe(hand_written_source(edit), compiler, memo, cpu).key


def operator_key(memo: Path, paddle: PaddleInstallation = PADDLE) -> str:
    return operator_recipe(paddle, GCC, memo).key


def with_another_program(memo: Path, folder: Path) -> Compiler:
    """The compiler after an upgrade of its assembler, say: one byte more in one of its files."""
    folder.mkdir()
    program = GCC.programs[-1]
    copy = folder / program.name
    shutil.copy(program, copy)
    with copy.open("ab") as stream:
        stream.write(b"\0")
    return dataclasses.replace(GCC, programs=(*GCC.programs[:-1], copy))


def patched(patch: Patch, module: object, name: str, value: object) -> None:
    patch.setattr(module, name, lambda *_: value)


#: What shapes a kernel: each changes one thing and returns the key.
SHAPES_A_KERNEL: dict[str, Callable[[Path, Patch], str]] = {
    "source": lambda memo, patch: kernel_key(memo, edit="\n"),
    "header": lambda memo, patch: (
        patched(patch, kernel_module, "header_text", "/* another */") or kernel_key(memo)
    ),
    "abi": lambda memo, patch: (
        patched(patch, kernel_module, "abi_version", 999) or kernel_key(memo)
    ),
    "flags": lambda memo, patch: (
        patched(patch, kernel_module, "kernel_flags", ("-O1",)) or kernel_key(memo)
    ),
    "cpu": lambda memo, patch: kernel_key(memo, cpu="x86-64-v3"),
    "features": lambda memo, patch: kernel_key(
        memo, dataclasses.replace(GCC, native_flags=("-mavx2",))
    ),
    "arguments": lambda memo, patch: kernel_key(
        memo, dataclasses.replace(GCC, command=(*GCC.command, "-fwrapv"))
    ),
    "version": lambda memo, patch: kernel_key(memo, dataclasses.replace(GCC, version="gcc 99")),
    "content": lambda memo, patch: kernel_key(memo, with_another_program(memo, memo / "copies")),
    "machine": lambda memo, patch: (
        patched(patch, platform, "machine", "riscv64") or kernel_key(memo)
    ),
}


@pytest.mark.parametrize("what", SHAPES_A_KERNEL)
def test_what_shapes_a_kernel_is_in_its_key(what: str, memo: Path, monkeypatch: Patch) -> None:
    memo.mkdir()
    before = kernel_key(memo)
    with monkeypatch.context() as patch:
        assert SHAPES_A_KERNEL[what](memo, patch) != before
    assert kernel_key(memo) == before


#: What shapes the operator besides what its recipe shares with that of a kernel.
SHAPES_THE_OPERATOR: dict[str, Callable[[Path, Patch], str]] = {
    "headers": lambda memo, patch: (
        patched(patch, operator_module, "header_text", "/* another */") or operator_key(memo)
    ),
    "paddle": lambda memo, patch: operator_key(
        memo, dataclasses.replace(PADDLE, version="3.3.1 (def)")
    ),
    "libraries": lambda memo, patch: operator_key(
        memo, dataclasses.replace(PADDLE, libraries=(Path("/libs/other.so"),))
    ),
    "flags": lambda memo, patch: (
        patch.setattr(operator_module, "OPERATOR_FLAGS", ("-O3",)) or operator_key(memo)
    ),
    "libc": lambda memo, patch: (
        patched(patch, platform, "libc_ver", ("musl", "1.2")) or operator_key(memo)
    ),
    "cuda": lambda memo, patch: operator_key(memo, dataclasses.replace(PADDLE, cuda=True)),
}


@pytest.mark.parametrize("what", SHAPES_THE_OPERATOR)
def test_what_shapes_the_operator_is_in_its_key(what: str, memo: Path, monkeypatch: Patch) -> None:
    before = operator_key(memo)
    with monkeypatch.context() as patch:
        assert SHAPES_THE_OPERATOR[what](memo, patch) != before
    assert operator_key(memo) == before
    # Where Paddle is installed says nothing of what it is.
    elsewhere = PaddleInstallation(PADDLE.version, (Path("/a"),), (Path("/b/libphi_core.so"),))
    assert operator_key(memo, elsewhere) == before


def test_what_does_not_shape_a_kernel_is_not_in_its_key(
    memo: Path, tmp_path: Path, monkeypatch: Patch
) -> None:
    wrapper = make_compiler(tmp_path / "here").path
    before = kernel_key(memo, find_c_compiler(str(wrapper)))

    copy = tmp_path / "other place" / "another-name"
    copy.parent.mkdir()
    shutil.copy(wrapper, copy)
    os.utime(copy, (1, 1))
    monkeypatch.chdir(copy.parent)
    monkeypatch.setenv("LANG", "de_DE.UTF-8")
    monkeypatch.setenv("TMPDIR", str(tmp_path))
    monkeypatch.setenv("RADAM_CODEGEN_NUM_THREADS", "7")
    assert kernel_key(tmp_path / "other cache", find_c_compiler(shlex.quote(str(copy)))) == before

    wrapper.write_text(wrapper.read_text() + "# one line more\n")
    assert kernel_key(memo, find_c_compiler(str(wrapper))) != before


def test_the_name_of_a_source_is_not_in_the_key(memo: Path) -> None:
    other = dataclasses.replace(hand_written_source(), name="other")
    assert kernel_recipe(other, GCC, memo).key == kernel_key(memo)


def test_a_compiler_is_known_by_every_program_that_it_runs() -> None:
    names = {path.name for path in GCC.programs}
    assert {"cc1", "collect2"} <= names
    assert any(name.endswith("as") for name in names)
    assert any("ld" in name for name in names - {"collect2"})


def test_a_compiler_that_cannot_be_read_can_be_used(memo: Path, tmp_path: Path) -> None:
    missing = dataclasses.replace(GCC, programs=(*GCC.programs, tmp_path / "gone"))
    assert kernel_key(memo, missing) != kernel_key(memo)


def library_of(recipe: Recipe, cache: Path) -> bytes:
    return obtain(recipe, Config(cache_dir=cache, num_threads=1)).library.read_bytes()


def test_equal_keys_mean_equal_bytes(tmp_path: Path, monkeypatch: Patch) -> None:
    recipe = kernel_recipe(hand_written_source(), GCC, tmp_path)
    first = library_of(recipe, tmp_path / "first")

    # Another place, another time, another user's habits, and headers that lie elsewhere.
    include = tmp_path / "a much longer path to the headers"
    shutil.copytree(kernel_module.include_dir(), include)
    patched(monkeypatch, kernel_module, "include_dir", include)
    monkeypatch.setenv("SOURCE_DATE_EPOCH", "1")
    monkeypatch.setenv("TZ", "Asia/Tokyo")
    old_mask = os.umask(0o027)
    try:
        again = kernel_recipe(hand_written_source(), GCC, tmp_path)
        second = library_of(again, tmp_path / "a folder with spaces and ünïcödé" / "x")
    finally:
        os.umask(old_mask)
    assert again.command != recipe.command
    assert (again.key, second) == (recipe.key, first)


@pytest.mark.parametrize(
    ("variable", "content"),
    [
        # A header that is found before ours, or before the compiler's.
        ("CPATH", '#error "not this one"\n'),
        ("C_INCLUDE_PATH", '#error "not this one"\n'),
    ],
)
def test_the_environment_does_not_reach_the_compiler(
    variable: str, content: str, tmp_path: Path, monkeypatch: Patch
) -> None:
    plain = library_of(kernel_recipe(hand_written_source(), GCC, tmp_path), tmp_path / "plain")
    (tmp_path / "headers").mkdir()
    for name in ("stdint.h", "math.h", "string.h"):
        (tmp_path / "headers" / name).write_text(content)
    monkeypatch.setenv(variable, str(tmp_path / "headers"))
    monkeypatch.setenv("LD_RUN_PATH", "/somewhere/else")
    recipe = kernel_recipe(hand_written_source(), GCC, tmp_path)
    assert library_of(recipe, tmp_path / "other") == plain


def test_digests_are_remembered_until_a_file_changes(tmp_path: Path, monkeypatch: Patch) -> None:
    program = tmp_path / "program"
    program.write_bytes(b"first")
    first = file_sha256(program, tmp_path / "cache")
    with monkeypatch.context() as patch:
        patch.setattr(digests, "_known", {})  # as in another process
        patch.setattr(digests, "_digest", lambda path: pytest.fail(f"{path} is read again"))
        assert file_sha256(program, tmp_path / "cache") == first
    program.write_bytes(b"other")
    assert file_sha256(program, tmp_path / "cache") != first


def test_a_damaged_memory_of_digests_hurts_nobody(tmp_path: Path) -> None:
    program = tmp_path / "program"
    (tmp_path / "cache").mkdir()
    for garbage in ("", "[]", '{"a": 1}', "[" * 100_000, "\0"):
        (tmp_path / "cache" / MEMO).write_text(garbage)
        content = garbage.encode() + b"."
        program.write_bytes(content)
        assert file_sha256(program, tmp_path / "cache") == hashlib.sha256(content).hexdigest()
    (tmp_path / "file").write_text("not a folder")
    program.write_bytes(b"more")
    assert file_sha256(program, tmp_path / "file") == hashlib.sha256(b"more").hexdigest()


def test_a_replaced_compiler_is_seen_in_the_same_process(tmp_path: Path) -> None:
    config = Config(cache_dir=tmp_path / "cache", num_threads=1)
    cc = make_compiler(tmp_path / "cc")
    config = dataclasses.replace(config, cc=str(cc.path))
    first = build_kernel(hand_written_source(), config)
    make_compiler(tmp_path / "cc", before="# upgraded")
    second = build_kernel(hand_written_source(), config)
    assert second.compiled
    assert first.key != second.key


def test_every_file_of_the_operator_is_in_its_source_once() -> None:
    text = operator_text()
    files = sorted((runtime_dir() / "operator").iterdir())
    assert len(files) > 5
    for path in files:
        (guard,) = re.findall(r"^#define (RADAM_CODEGEN_OPERATOR_\w+_H)$", path.read_text(), re.M)
        assert text.count(f"#define {guard}\n") == 1
    assert not re.findall(r'^#include "(?!paddle/)', text, re.M)
