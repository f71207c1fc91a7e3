"""``radam-codegen cache``."""

from __future__ import annotations

import json
import os
from pathlib import Path
from typing import Any

import pytest
from click.testing import Result
from support.commands import command_runner

from radam_codegen.cli import main
from radam_codegen.toolchain.cache import content_key, get_or_build
from radam_codegen.toolchain.cache.counters import NAMES

KEYS = [content_key({"test": "command", "number": number}) for number in range(17)]


@pytest.fixture
def cache(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    folder = tmp_path / "caché"
    monkeypatch.setenv("RADAM_CODEGEN_CACHE_DIR", str(folder))
    return folder


def add(cache: Path, key: str, **facts: Any) -> Path:
    def build(folder: Path) -> dict[str, Any]:
        (folder / "kernel.so").write_bytes(bytes(4000))
        return facts

    return get_or_build(cache, "operators" if "paddle" in facts else "kernels", key, build).folder


def run(*arguments: str) -> Result:
    return command_runner().invoke(main, ["cache", *arguments])


def run_json(*arguments: str) -> Any:
    return json.loads(run(*arguments, "--json").stdout)


def test_list(cache: Path) -> None:
    older = add(cache, KEYS[0], name="no_clip__f32")
    os.utime(older / "manifest.json", (86400, 86400))
    add(cache, KEYS[1], paddle="3.3.1 (abc)")
    lines = run("list").stdout.splitlines()
    assert len(lines) == 4
    assert lines[1].startswith(f"{KEYS[1]}  operators")
    assert lines[1].endswith("operator for Paddle 3.3.1 (abc)")
    assert lines[2].startswith(f"{KEYS[0]}  kernels")
    assert lines[2].endswith("  no_clip__f32")
    assert lines[3].startswith("2 entries, ")
    listed = run_json("list")["entries"]
    assert [entry["key"] for entry in listed] == [KEYS[1], KEYS[0]]
    assert listed[1] == {
        "key": KEYS[0],
        "kind": "kernels",
        "what": "no_clip__f32",
        "size": 4000 + (older / "manifest.json").stat().st_size,
        "used": 86400.0,
        "folder": str(older),
    }


def test_a_cache_that_is_not_there_is_empty(cache: Path) -> None:
    for command in ("list", "stats", "verify", "clear"):
        result = run(command)
        assert (result.exit_code, result.stderr) == (0, "")
    assert run_json("list")["entries"] == []
    assert not cache.exists()


def test_show(cache: Path) -> None:
    folder = add(cache, KEYS[0], name="no_clip", command=["cc", "-O3"], compiler="gcc 12\nTarget")
    text = run("show", KEYS[0]).stdout
    for part in (KEYS[0], "no_clip", "as it was built", "cc -O3", "    Target", "kernel.so"):
        assert part in text
    shown = run_json("show", KEYS[0][:8])
    assert shown["manifest"] == json.loads((folder / "manifest.json").read_text())
    assert shown["fault"] is None
    (folder / "kernel.so").write_bytes(b"")
    result = run("show", KEYS[0])
    assert result.exit_code == 1
    assert "state      kernel.so is not as it was built" in result.stdout
    assert run_json("show", KEYS[0])["fault"] == "kernel.so is not as it was built"


def test_show_wants_one_entry(cache: Path) -> None:
    for key in KEYS:  # 17 keys have 16 first digits
        add(cache, key)
    first = next(digit for digit in "0123456789abcdef" if sum(k[0] == digit for k in KEYS) > 1)
    for wanted, said in (
        (first, f"have a key that begins with '{first}'"),
        ("", "No entry"),
        ("xyz", "No entry"),
        ("../..", "No entry"),
        ("0" * 10_000, "No entry"),
    ):
        result = run("show", wanted)
        assert result.exit_code == 2
        assert said in result.stderr


def test_verify(cache: Path) -> None:
    good, bad = add(cache, KEYS[0]), add(cache, KEYS[1])
    assert run("verify").stdout.endswith(": 2 entries, all as they were built\n")
    (bad / "kernel.so").write_bytes(b"x")
    result = run("verify")
    assert result.exit_code == 1
    assert result.stdout == f"kernels/{KEYS[1]}: kernel.so is not as it was built\n"
    assert len(run_json("verify")["findings"]) == 1
    (good / "manifest.json").unlink()
    assert len(run("verify").stdout.splitlines()) == 2


def test_clear(cache: Path) -> None:
    add(cache, KEYS[0])
    add(cache, KEYS[1], paddle="3.3.1")
    (cache / "kernels" / "notes.txt").write_text("mine")
    (cache / "failed" / KEYS[2]).mkdir(parents=True)
    (cache / "failed" / KEYS[2] / "compiler.log").write_text("no")
    (cache / "kernels" / f".new-{KEYS[3]}-abc").mkdir()
    result = run("clear")
    assert result.exit_code == 0
    assert result.stdout.startswith("Removed 2 entries and 1 failed builds from ")
    files = sorted(str(path.relative_to(cache)) for path in cache.rglob("*") if path.is_file())
    assert files == ["counters.json", "kernels/notes.txt", "locks/probe"]
    assert run_json("clear") == {
        "cache": str(cache),
        "entries": 0,
        "failed": 0,
        "size": 0,
        "busy": 0,
    }


def test_stats(cache: Path) -> None:
    folder = add(cache, KEYS[0])
    add(cache, KEYS[0])
    counted = run_json("stats")
    counts = {**dict.fromkeys(NAMES, 0), "hits": 1, "misses": 1, "builds": 1}
    assert counted["counts"] == counts
    assert counted["entries"] == 1
    assert counted["size"] == sum(path.stat().st_size for path in folder.iterdir())
    lines = run("stats").stdout.splitlines()
    assert lines[1] == "entries     1"
    assert "hits        1  found, without building or after another process had built it" in lines


def test_a_refused_cache_is_an_error_of_one_line(cache: Path) -> None:
    add(cache, KEYS[0])
    cache.chmod(0o777)
    result = run("clear")
    assert result.exit_code == 1
    assert result.stderr.startswith("Error: Other users can write to the cache")
    assert run("verify").exit_code == 1
    cache.chmod(0o700)
