"""Verification finds what differs from what this version makes, and loads nothing."""

from __future__ import annotations

import dataclasses
import json
import shutil
from pathlib import Path
from typing import Any

import pytest
from click.testing import CliRunner
from toolchain.conftest import make_compiler

import radam_codegen as rc
from radam_codegen.cli import main
from radam_codegen.codegen import render
from radam_codegen.config import Config, current
from radam_codegen.errors import ArgumentError
from radam_codegen.ir.structure_name import structure_from_name
from radam_codegen.passes import lower_structure
from radam_codegen.toolchain import build_kernel
from radam_codegen.toolchain.manifest import find_fault, read_manifest, write_manifest

NAMES = ("radam_no_clip__f32_no_decay", "radam_clip_value__f64_l1")


def build(name: str, config: Config) -> Path:
    source = render(lower_structure(structure_from_name(name)))
    return build_kernel(source, config).library.parent


@pytest.fixture(scope="module")
def built(tmp_path_factory: pytest.TempPathFactory) -> Path:
    cache = tmp_path_factory.mktemp("verify") / "cache"
    config = dataclasses.replace(current(), cache_dir=cache)
    for name in NAMES:
        build(name, config)
    return cache


@pytest.fixture
def cache(built: Path, tmp_path: Path) -> Path:
    copy = tmp_path / "cache"
    shutil.copytree(built, copy)
    return copy


def entry_of(cache: Path, name: str) -> Path:
    for entry in (cache / "kernels").iterdir():
        if read_manifest(entry)["build"]["name"] == name:
            return entry
    raise AssertionError(f"{name} is not in {cache}")


def seal(entry: Path, **facts: Any) -> None:
    """Write the manifest anew, as somebody would who covers up a change."""
    write_manifest(entry, entry.name, {**read_manifest(entry)["build"], **facts})
    assert find_fault(entry, entry.name) is None


def finding(cache: Path, **options: Any) -> str:
    report = rc.verify(cache, **options)
    assert not report.good
    (only,) = report.findings
    assert "\n" not in str(only)
    return str(only)


def test_all_is_good(cache: Path) -> None:
    before = {path: path.read_bytes() for path in cache.rglob("*") if path.is_file()}
    report = rc.verify(cache, rebuild=True)
    assert report.findings == ()
    assert (report.entries, report.sources, report.rebuilt) == (2, 2, 2)
    assert {path: path.read_bytes() for path in cache.rglob("*") if path.is_file()} == before


def test_one_entry_can_be_verified(cache: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    entry = entry_of(cache, NAMES[0])
    assert rc.verify(entry).good
    monkeypatch.chdir(entry)
    assert rc.verify(".").entries == 1


@pytest.mark.parametrize("name", ["kernel.so", "kernel.c", "compiler.log", "manifest.json"])
def test_a_changed_file_is_found(name: str, cache: Path) -> None:
    entry = entry_of(cache, NAMES[0])
    content = bytearray((entry / name).read_bytes())
    content[len(content) // 2] ^= 1
    (entry / name).write_bytes(content)
    assert finding(cache).startswith(f"kernels/{entry.name}: ")


def test_a_source_that_is_not_rendered_so_is_found_although_its_digest_fits(cache: Path) -> None:
    entry = entry_of(cache, NAMES[0])
    source = entry / "kernel.c"
    text = source.read_text()
    number = 1 + text[: text.index("#include")].count("\n")
    source.write_text(text.replace("#include", "#define X 1\n#include", 1))
    seal(entry)
    assert finding(cache) == (
        f"kernels/{entry.name}: kernel.c is not what this version renders for {NAMES[0]}: "
        f"they differ from line {number} on"
    )


def test_other_line_ends_are_found(cache: Path) -> None:
    entry = entry_of(cache, NAMES[0])
    source = entry / "kernel.c"
    source.write_bytes(source.read_bytes().replace(b"\n", b"\r\n"))
    seal(entry)
    assert "is not what this version renders" in finding(cache)


def test_a_library_of_another_source_is_found_by_rebuilding(cache: Path) -> None:
    entry, other = (entry_of(cache, name) for name in NAMES)
    shutil.copy(other / "kernel.so", entry / "kernel.so")
    seal(entry)
    assert rc.verify(cache).good  # its digest fits, and the library is not looked into
    assert finding(cache, rebuild=True) == (
        f"kernels/{entry.name}: kernel.so is not what the compiler makes of its source"
    )


def test_a_kernel_of_no_name_is_found(cache: Path) -> None:
    entry = entry_of(cache, NAMES[0])
    seal(entry, name="my_kernel")
    assert "'my_kernel' is not the name of a kernel" in finding(cache)


@pytest.mark.parametrize(
    ("facts", "expected"),
    [
        ({"machine": "riscv64"}, "machine: riscv64 then, "),
        ({"cpu": "x86-64-v1"}, "features: "),
        ({"compiler": "icc 9"}, "compiler: icc 9 then, gcc version"),
    ],
)
def test_what_cannot_be_made_again_is_a_finding(
    facts: dict[str, str], expected: str, cache: Path
) -> None:
    entry = entry_of(cache, NAMES[0])
    seal(entry, **facts)
    other = entry.with_name("0" * len(entry.name))
    entry.rename(other)
    write_manifest(other, other.name, read_manifest(other)["build"])
    assert expected in finding(cache, rebuild=True)


def test_without_the_compiler_nothing_is_rebuilt(
    cache: Path, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    monkeypatch.setenv("CC", str(tmp_path / "none"))
    assert rc.verify(cache).good
    report = rc.verify(cache, rebuild=True)
    assert len(report.findings) == 2
    assert "was not found" in report.findings[0].what
    monkeypatch.setenv("CC", str(make_compiler(tmp_path / "other", before="# other").path))
    report = rc.verify(cache, rebuild=True)
    assert len(report.findings) == 2
    assert "cannot be compiled anew: command: " in report.findings[0].what


def test_the_operator_is_verified(
    tmp_path: Path, recording_cxx: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    pytest.importorskip("paddle")
    monkeypatch.setenv("CXX", recording_cxx)
    from radam_codegen.program.installation import installed_paddle
    from radam_codegen.toolchain import build_operator

    config = dataclasses.replace(current(), cache_dir=tmp_path)
    entry = build_operator(installed_paddle(), config).library.parent
    report = rc.verify(tmp_path, rebuild=True)
    assert report.findings == ()
    assert (report.entries, report.rebuilt) == (1, 1)

    library = entry / "operator.so"
    library.write_bytes(library.read_bytes() + b"\0")
    write_manifest(entry, entry.name, read_manifest(entry)["build"])
    assert "operator.so is not what the compiler makes" in finding(tmp_path, rebuild=True)
    source = entry / "operator.cc"
    source.write_text(source.read_text() + "// more\n")
    write_manifest(entry, entry.name, read_manifest(entry)["build"])
    assert "operator.cc is not the operator's source in this version" in finding(tmp_path)


@pytest.mark.parametrize("what", ["missing", "file", "empty", "no\0name"])
def test_nothing_to_verify_is_an_error(what: str, tmp_path: Path) -> None:
    (tmp_path / "file").write_text("text")
    (tmp_path / "empty").mkdir()
    with pytest.raises(ArgumentError):
        rc.verify(tmp_path / what)
    assert CliRunner().invoke(main, ["verify", str(tmp_path / what)]).exit_code == 2


def test_the_command_says_each_finding_in_one_line(cache: Path) -> None:
    good = CliRunner().invoke(main, ["verify", str(cache)])
    assert (good.exit_code, good.output.count("\n")) == (0, 1)
    assert good.output.endswith("2 entries, 2 sources rendered anew: all good\n")
    for name in NAMES:
        (entry_of(cache, name) / "kernel.so").write_bytes(b"\x7fELF")
    bad = CliRunner().invoke(main, ["verify", str(cache)])
    assert (bad.exit_code, bad.output.count("\n")) == (1, 3)
    assert "2 findings" in bad.output
    as_json = CliRunner().invoke(main, ["verify", "--json", str(cache)])
    assert as_json.exit_code == 1
    report = json.loads(as_json.output)
    assert not report["good"]
    assert [sorted(each) for each in report["findings"]] == [["place", "what"]] * 2
