"""What is not as it was built is never handed out: it is built again, with one warning."""

from __future__ import annotations

import json
import os
import shutil
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

import pytest

from radam_codegen.toolchain.cache import Entry, content_key, get_or_build, verify_cache
from radam_codegen.toolchain.cache.counters import read_counters
from radam_codegen.toolchain.manifest import find_fault, read_manifest

KEY = content_key({"test": "damage"})
OTHER = content_key({"test": "another"})

#: An ELF header for AArch64.
FOREIGN = bytes.fromhex("7f454c460201010000000000000000000300b700") + bytes(4076)


def build(folder: Path) -> Mapping[str, Any]:
    (folder / "kernel.c").write_text("source\n")
    (folder / "kernel.so").write_bytes(bytes(range(256)) * 16)
    return {"name": "damaged", "flags": ("-O3", "-shared"), "numbers": {2: 1.5, 10: None}}


def built(cache: Path, key: str = KEY) -> Entry:
    return get_or_build(cache, "kernels", key, build)


@pytest.fixture
def cache(tmp_path: Path) -> Path:
    return tmp_path / "cache"


@pytest.fixture
def entry(cache: Path) -> Path:
    return built(cache).folder


def truncated(entry: Path) -> None:
    os.truncate(entry / "kernel.so", 1000)


def emptied(entry: Path) -> None:
    os.truncate(entry / "kernel.so", 0)


def longer(entry: Path) -> None:
    with (entry / "kernel.so").open("ab") as stream:
        stream.write(b"\0")


def huge(entry: Path) -> None:
    os.truncate(entry / "kernel.so", 20 << 30)  # a sparse file: nobody is to read it all


def flipped(entry: Path) -> None:
    content = bytearray((entry / "kernel.so").read_bytes())
    content[2000] ^= 1
    (entry / "kernel.so").write_bytes(content)


def foreign(entry: Path) -> None:
    (entry / "kernel.so").write_bytes(FOREIGN)


def missing(entry: Path) -> None:
    (entry / "kernel.so").unlink()


def swapped(entry: Path) -> None:
    (entry / "kernel.so").rename(entry / "aside")
    (entry / "kernel.c").rename(entry / "kernel.so")
    (entry / "aside").rename(entry / "kernel.c")


def linked(entry: Path) -> None:
    (entry / "kernel.so").rename(entry.parent.parent / "elsewhere.so")
    (entry / "kernel.so").symlink_to(entry.parent.parent / "elsewhere.so")


def a_folder(entry: Path) -> None:
    missing(entry)
    (entry / "kernel.so").mkdir()


def a_pipe(entry: Path) -> None:
    missing(entry)
    os.mkfifo(entry / "kernel.so")


def one_more_library(entry: Path) -> None:
    shutil.copy(entry / "kernel.so", entry / "libm.so.6")


def without_manifest(entry: Path) -> None:
    (entry / "manifest.json").unlink()


def linked_manifest(entry: Path) -> None:
    (entry / "manifest.json").rename(entry.parent.parent / "elsewhere.json")
    (entry / "manifest.json").symlink_to(entry.parent.parent / "elsewhere.json")


def manifest_as_pipe(entry: Path) -> None:
    without_manifest(entry)
    os.mkfifo(entry / "manifest.json")


def manifest_of_another_entry(entry: Path) -> None:
    other = built(entry.parent.parent, OTHER).folder
    shutil.copy(other / "manifest.json", entry / "manifest.json")


def linked_entry(entry: Path) -> None:
    entry.rename(entry.parent.parent / "elsewhere")
    entry.symlink_to(entry.parent.parent / "elsewhere")


def dangling_entry(entry: Path) -> None:
    shutil.rmtree(entry)
    entry.symlink_to(entry.parent.parent / "nowhere")


def entry_of_another_key(entry: Path) -> None:
    shutil.rmtree(entry)
    shutil.copytree(built(entry.parent.parent, OTHER).folder, entry)


def entry_as_file(entry: Path) -> None:
    shutil.rmtree(entry)
    entry.write_text("a file")


def empty_entry(entry: Path) -> None:
    shutil.rmtree(entry)
    entry.mkdir()


def manifest_text(text: bytes) -> Callable[[Path], None]:
    return lambda entry: (entry / "manifest.json").write_bytes(text) and None


def manifest_edit(old: str, new: str) -> Callable[[Path], None]:
    def edit(entry: Path) -> None:
        text = (entry / "manifest.json").read_text()
        assert old in text
        (entry / "manifest.json").write_text(text.replace(old, new, 1))

    return edit


DAMAGES: dict[str, Callable[[Path], None]] = {
    **{
        function.__name__: function
        for function in (
            truncated,
            emptied,
            longer,
            huge,
            flipped,
            foreign,
            missing,
            swapped,
            linked,
            a_folder,
            a_pipe,
            one_more_library,
            without_manifest,
            linked_manifest,
            manifest_as_pipe,
            manifest_of_another_entry,
            linked_entry,
            dangling_entry,
            entry_of_another_key,
            entry_as_file,
            empty_entry,
        )
    },
    "empty manifest": manifest_text(b""),
    "binary manifest": manifest_text(bytes(range(256))),
    "list as manifest": manifest_text(b"[]"),
    "number as manifest": manifest_text(b"1"),
    "deep manifest": manifest_text(b"[" * 200_000),
    "deep but closed manifest": manifest_text(
        b'{"format": 1, "a":' + b"[" * 900 + b"]" * 900 + b"}"
    ),
    "manifest of long numbers": manifest_text(b'{"format": ' + b"9" * 900_000 + b"}"),
    "manifest of nothing": manifest_text(b'{"format": 1, "files": {}}'),
    "manifest of NaN": manifest_text(b'{"format": NaN}'),
    "very long manifest": manifest_text(b'{"format": 1}' + b" " * (2 << 20)),
    "manifest of another version": manifest_edit('"format": 1', '"format": 2'),
    "a listed path": manifest_edit('"kernel.so"', '"../kernel.so"'),
    "another space": manifest_edit("  ", " "),
    "another fact": manifest_edit('"-O3"', '"-O2"'),
    "another digest of itself": manifest_edit('"sha256": "', '"sha256": "0'),
    "a capital in a digest": manifest_edit('"kernel.so": "', '"kernel.so": "A'),
}


@pytest.mark.parametrize("damage", DAMAGES.values(), ids=[*DAMAGES])
def test_a_damaged_entry_is_built_again(
    cache: Path, entry: Path, damage: Callable[[Path], None]
) -> None:
    good = {path.name: path.read_bytes() for path in entry.iterdir()}
    damage(entry)
    before = read_counters(cache)
    assert len([line for line in verify_cache(cache) if KEY in line]) == 1
    with pytest.warns(RuntimeWarning, match="is damaged and will be built again") as warned:
        again = built(cache)
    assert len(warned) == 1
    assert again == Entry(entry, built=True)
    assert not entry.is_symlink()
    assert {path.name: path.read_bytes() for path in entry.iterdir()} == good
    assert not built(cache).built
    after = read_counters(cache)
    grown = {name: after[name] - before[name] for name in after if after[name] != before[name]}
    assert grown == {"hits": 1, "misses": 1, "builds": 1, "refusals": 1, "rebuilds": 1}
    assert verify_cache(cache) == []
    assert [path for path in entry.parent.iterdir() if path.name.startswith(".")] == []


def test_what_a_link_led_to_is_left_alone(cache: Path, entry: Path) -> None:
    linked_entry(entry)
    with pytest.warns(RuntimeWarning, match="damaged"):
        built(cache)
    assert (cache / "elsewhere" / "kernel.so").exists()


def test_every_byte_of_a_manifest_counts(entry: Path) -> None:
    manifest = entry / "manifest.json"
    good = manifest.read_bytes()
    for place in range(len(good)):
        bad = bytearray(good)
        bad[place] ^= 1 << place % 8
        manifest.write_bytes(bad)
        assert find_fault(entry, KEY) is not None, place
    manifest.write_bytes(good)
    assert find_fault(entry, KEY) is None


def test_a_manifest_is_read_as_it_was_written(entry: Path) -> None:
    content = read_manifest(entry)
    assert content["key"] == KEY
    assert sorted(content["files"]) == ["kernel.c", "kernel.so"]
    assert content["build"] == {
        "name": "damaged",
        "flags": ["-O3", "-shared"],
        "numbers": {"2": 1.5, "10": None},
    }
    assert json.loads((entry / "manifest.json").read_text()) == content


def test_a_note_in_an_entry_is_no_damage(cache: Path, entry: Path) -> None:
    (entry / "README").write_text("left by a person")
    assert not built(cache).built
