from __future__ import annotations

import os
from pathlib import Path

import pytest

from radam_codegen import config
from radam_codegen.errors import ConfigError


def test_defaults() -> None:
    read = config.current({})
    assert read.cache_dir.is_absolute()
    assert read.cache_dir.name == "radam_codegen"
    assert read.num_threads == len(os.sched_getaffinity(0))
    assert read.cc is None
    assert read.cxx is None


def test_every_variable_is_read(tmp_path: Path) -> None:
    read = config.current(
        {
            "RADAM_CODEGEN_CACHE_DIR": str(tmp_path / "new"),
            "RADAM_CODEGEN_NUM_THREADS": "3",
            "CC": "ccache gcc",
            "CXX": "g++ -m64",
        }
    )
    assert read == config.Config(tmp_path / "new", 3, "ccache gcc", "g++ -m64")


def test_empty_is_not_set() -> None:
    names = ("RADAM_CODEGEN_CACHE_DIR", "RADAM_CODEGEN_NUM_THREADS", "CC", "CXX")
    assert config.current(dict.fromkeys(names, "")) == config.current({})


def test_the_environment_is_read_anew(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("RADAM_CODEGEN_NUM_THREADS", "5")
    assert config.current().num_threads == 5
    monkeypatch.setenv("RADAM_CODEGEN_NUM_THREADS", "6")
    assert config.current().num_threads == 6


def test_relative_and_home_folders_become_absolute(monkeypatch: pytest.MonkeyPatch) -> None:
    assert config.current({"RADAM_CODEGEN_CACHE_DIR": "x"}).cache_dir == Path.cwd() / "x"
    monkeypatch.setenv("HOME", "/somewhere")
    assert config.current({"RADAM_CODEGEN_CACHE_DIR": "~/x"}).cache_dir == Path("/somewhere/x")


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
        ("CC", 'gcc "'),
        ("CC", "'' -O2"),
        ("CXX", "g++ '"),
    ],
)
def test_a_bad_value_is_refused_by_name(name: str, value: str) -> None:
    with pytest.raises(ConfigError, match=name):
        config.current({name: value})
