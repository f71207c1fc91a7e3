from __future__ import annotations

import os
import subprocess
import sys
import threading
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

import radam_codegen as rc
from radam_codegen.config import SETTINGS, Config, config, current, watch
from radam_codegen.errors import ConfigError


@pytest.fixture(autouse=True)
def _nothing_set_before_or_after(monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    for setting in SETTINGS:
        monkeypatch.delenv(setting.variable, raising=False)
    yield
    monkeypatch.undo()
    config(**dict.fromkeys([setting.name for setting in SETTINGS]))


def test_defaults() -> None:
    read = current({})
    assert read == Config(
        read.cache_dir,
        len(os.sched_getaffinity(0)),
        cc=None,
        cxx=None,
        mode="auto",
        aot=None,
        nvcc=None,
        cache_size=1024**3,
        compile_timeout=300.0,
        lock_timeout=600.0,
    )
    assert read.cache_dir.is_absolute()
    assert read.cache_dir.name == "radam_codegen"
    assert set(read.origins.values()) == {"default"}


def test_every_variable_is_read(tmp_path: Path) -> None:
    read = current(
        {
            "RADAM_CODEGEN_CACHE_DIR": str(tmp_path / "new"),
            "RADAM_CODEGEN_NUM_THREADS": "3",
            "CC": "ccache gcc",
            "CXX": "g++ -m64",
            "NVCC": "nvcc -ccbin g++-12",
            "RADAM_CODEGEN_MODE": "aot-only",
            "RADAM_CODEGEN_AOT": str(tmp_path),
            "RADAM_CODEGEN_CACHE_SIZE": "512M",
            "RADAM_CODEGEN_COMPILE_TIMEOUT": "1.5",
            "RADAM_CODEGEN_LOCK_TIMEOUT": "20",
            "RADAM_CODEGEN_STATE_LAYOUT": "per_parameter",
            "RADAM_CODEGEN_PROGRAM_KEY": "text",
            "RADAM_CODEGEN_FREED_MEMORY": "system",
        }
    )
    assert read == Config(
        tmp_path / "new",
        3,
        "ccache gcc",
        "g++ -m64",
        mode="aot-only",
        aot=tmp_path,
        nvcc="nvcc -ccbin g++-12",
        cache_size=512 * 1024**2,
        compile_timeout=1.5,
        lock_timeout=20.0,
        state_layout="per_parameter",
        program_key="text",
        freed_memory="system",
    )
    assert set(read.origins) == set(vars(read)) - {"origins"}
    assert set(read.origins.values()) == {"environment"}


def test_empty_is_not_set() -> None:
    assert current({setting.variable: " " for setting in SETTINGS}) == current({})


@pytest.mark.parametrize(
    ("text", "size"),
    [("1", 1), ("4096", 4096), ("2k", 2048), ("3 MiB", 3 * 1024**2), ("1gib", 1024**3)],
)
def test_sizes(text: str, size: int) -> None:
    assert current({"RADAM_CODEGEN_CACHE_SIZE": text}).cache_size == size


def test_the_environment_is_read_anew(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("RADAM_CODEGEN_NUM_THREADS", "5")
    assert current().num_threads == 5
    monkeypatch.setenv("RADAM_CODEGEN_NUM_THREADS", "6")
    assert current().num_threads == 6


def test_relative_and_home_folders_become_absolute(monkeypatch: pytest.MonkeyPatch) -> None:
    assert current({"RADAM_CODEGEN_CACHE_DIR": "x"}).cache_dir == Path.cwd() / "x"
    monkeypatch.setenv("HOME", "/somewhere")
    assert current({"RADAM_CODEGEN_CACHE_DIR": "~/x"}).cache_dir == Path("/somewhere/x")


@pytest.mark.parametrize(
    ("name", "value"),
    [
        ("RADAM_CODEGEN_NUM_THREADS", "0"),
        ("RADAM_CODEGEN_NUM_THREADS", "-2"),
        ("RADAM_CODEGEN_NUM_THREADS", "many"),
        ("RADAM_CODEGEN_NUM_THREADS", "1.5"),
        ("RADAM_CODEGEN_NUM_THREADS", "99999999999"),
        ("RADAM_CODEGEN_CACHE_DIR", __file__),
        ("RADAM_CODEGEN_CACHE_DIR", "~nobody-of-this-name/x"),
        ("RADAM_CODEGEN_CACHE_DIR", "x" * 5000),
        ("RADAM_CODEGEN_CACHE_DIR", "/tmp/not UTF-8: \udcff"),
        ("RADAM_CODEGEN_MODE", "fast"),
        ("RADAM_CODEGEN_MODE", "OFF"),
        ("RADAM_CODEGEN_AOT", "/nowhere/at/all"),
        ("RADAM_CODEGEN_AOT", __file__),
        ("RADAM_CODEGEN_CACHE_SIZE", "0"),
        ("RADAM_CODEGEN_CACHE_SIZE", "0G"),
        ("RADAM_CODEGEN_CACHE_SIZE", "-1"),
        ("RADAM_CODEGEN_CACHE_SIZE", "1.5G"),
        ("RADAM_CODEGEN_CACHE_SIZE", "9" * 5000),
        ("RADAM_CODEGEN_COMPILE_TIMEOUT", "0"),
        ("RADAM_CODEGEN_COMPILE_TIMEOUT", "nan"),
        ("RADAM_CODEGEN_COMPILE_TIMEOUT", "1e9"),
        ("RADAM_CODEGEN_LOCK_TIMEOUT", "inf"),
        ("RADAM_CODEGEN_LOCK_TIMEOUT", "ten"),
        ("RADAM_CODEGEN_STATE_LAYOUT", "Flat"),
        ("RADAM_CODEGEN_PROGRAM_KEY", "hash"),
        ("RADAM_CODEGEN_FREED_MEMORY", "leak"),
        ("NVCC", "nvcc '"),
        ("CC", 'gcc "'),
        ("CC", "'' -O2"),
        ("CXX", "g++ '"),
    ],
)
def test_a_bad_value_is_refused_by_name(name: str, value: str) -> None:
    with pytest.raises(ConfigError, match=name):
        current({name: value})


def test_config_is_the_function_whatever_is_imported_first() -> None:
    first = ["radam_codegen.config", "radam_codegen.errors", "radam_codegen.toolchain"]
    for module in first:
        code = f"import {module}\nimport radam_codegen as rc\nassert callable(rc.config)\n"
        code += "from radam_codegen.config import Config\nassert isinstance(rc.config(), Config)"
        subprocess.run([sys.executable, "-c", code], check=True, timeout=60)


def test_what_is_set_comes_before_the_environment(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("RADAM_CODEGEN_MODE", "aot-only")
    monkeypatch.setenv("RADAM_CODEGEN_CACHE_SIZE", "10K")
    set_now = rc.config(mode="off", cache_dir=tmp_path / "new", num_threads="2", cc="gcc -m64")
    assert (set_now.mode, set_now.cache_dir) == ("off", tmp_path / "new")
    assert (set_now.num_threads, set_now.cc) == (2, "gcc -m64")
    assert set_now == current() == rc.config()
    assert set_now.origins["mode"] == "rc.config"
    assert set_now.origins["cache_size"] == "environment"
    assert set_now.origins["lock_timeout"] == "default"
    assert rc.config(mode=None).mode == "aot-only"
    assert rc.config().origins["mode"] == "environment"


def test_a_bad_variable_can_be_overruled(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("RADAM_CODEGEN_MODE", "fast")
    with pytest.raises(ConfigError, match="RADAM_CODEGEN_MODE='fast'"):
        rc.config()
    with pytest.raises(ConfigError, match="RADAM_CODEGEN_MODE='fast'"):
        rc.config(num_threads=1)
    assert rc.config(mode="auto").origins["num_threads"] == "default"


@pytest.mark.parametrize(
    ("name", "value"),
    [
        ("thread", 1),
        ("origins", {}),
        ("num_threads", 0),
        ("num_threads", True),
        ("num_threads", 2.0),
        ("num_threads", "two"),
        ("cache_dir", ""),
        ("cache_dir", 3),
        ("cache_dir", "a\0b"),
        ("cc", ""),
        ("cc", ["gcc"]),
        ("mode", "fast"),
        ("mode", 1),
        ("aot", "/nowhere/at/all"),
        ("cache_size", 0),
        ("cache_size", True),
        ("cache_size", 1.5),
        ("compile_timeout", float("nan")),
        ("compile_timeout", True),
        ("lock_timeout", -1),
        ("lock_timeout", 10**400),
    ],
)
def test_a_bad_setting_changes_nothing(name: str, value: Any) -> None:
    before = rc.config()
    with pytest.raises(ConfigError, match=name):
        rc.config(**{"nvcc": "another", name: value})
    assert rc.config() == before


def test_watchers_see_the_settings_now_and_later() -> None:
    seen: list[int] = []
    watch(lambda settings: seen.append(settings.num_threads))
    rc.config(num_threads=3)
    rc.config()  # asks, changes nothing
    rc.config(num_threads=None)
    own = len(os.sched_getaffinity(0))
    assert seen == [own, 3, own]


def test_threads_that_set_at_once_lose_nothing() -> None:
    names: dict[str, Any] = {"cc": "gcc", "cxx": "g++", "nvcc": "nvcc", "lock_timeout": 7.0}

    def toggle(name: str, value: Any) -> None:
        for _ in range(200):
            rc.config(**{name: None})
            rc.config(**{name: value})

    threads = [threading.Thread(target=toggle, args=each) for each in names.items()]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    read = rc.config()
    assert {name: getattr(read, name) for name in names} == names
