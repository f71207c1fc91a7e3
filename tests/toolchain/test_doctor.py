"""The doctor on machines that really are broken: what it finds, advises, and exits with."""

from __future__ import annotations

import json
import os
import shutil
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest

from radam_codegen.config import SETTINGS
from radam_codegen.toolchain.cpu import cpu_features
from radam_codegen.toolchain.manifest import read_manifest, write_manifest

#: Of what a run prints, the part for machines.
Result = dict[str, Any]


def run(*arguments: str, **environment: str) -> subprocess.CompletedProcess[str]:
    env = {name: text for name, text in os.environ.items() if name not in VARIABLES}
    return subprocess.run(
        [sys.executable, "-m", "radam_codegen.cli", "doctor", *arguments],
        env={**env, **environment},
        capture_output=True,
        text=True,
        check=False,
        timeout=300,
    )


VARIABLES = {setting.variable for setting in SETTINGS}


def examine(status: int, **environment: str) -> Result:
    done = run("--json", **environment)
    assert done.returncode == status, done.stdout + done.stderr
    assert "Traceback" not in done.stderr
    report: Result = json.loads(done.stdout)
    assert report["healthy"] == (status == 0)
    return report


def found(report: Result, check: str, status: str) -> dict[str, Any]:
    """The one finding of a check, which has to have this status."""
    (finding,) = [each for each in report["findings"] if each["check"] == check]
    assert finding["status"] == status, finding
    assert bool(finding["cause"]) == (status in ("warning", "failure"))
    return dict(finding)


def commands(finding: dict[str, Any]) -> list[str]:
    return [fix["command"] for fix in finding["fixes"] if fix["command"]]


def script(path: Path, text: str) -> str:
    path.write_text(f"#!/bin/sh\n{text}", encoding="utf-8")
    path.chmod(0o755)
    return str(path)


@pytest.fixture(scope="module")
def cold(tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, Result]:
    """A cache that the doctor filled, and what it reported."""
    cache = tmp_path_factory.mktemp("doctor") / "cache"
    return cache, examine(0, RADAM_CODEGEN_CACHE_DIR=str(cache), RADAM_CODEGEN_NUM_THREADS="1")


@pytest.fixture
def cache(cold: tuple[Path, Result], tmp_path: Path) -> Path:
    """A copy of that cache, to be damaged."""
    return shutil.copytree(cold[0], tmp_path / "cache", symlinks=True)


@pytest.fixture
def without_paddle(tmp_path: Path) -> dict[str, str]:
    """An environment in which Paddle cannot be imported, for what has nothing to do with it."""
    (tmp_path / "paddle.py").write_text("raise ImportError('not here')", encoding="utf-8")
    return {"PYTHONPATH": str(tmp_path), "RADAM_CODEGEN_CACHE_DIR": str(tmp_path / "cache")}


def test_a_healthy_machine(cold: tuple[Path, Result]) -> None:
    cache, report = cold
    assert {each["status"] for each in report["findings"]} <= {"ok", "note"}
    for check in ("step in dynamic graph", "step in a static program"):
        assert "as the formula has it" in found(report, check, "ok")["found"]
    assert "nothing here needs them" in found(report, "Python headers", "note")["found"]
    assert str(cache) in found(report, "operator", "ok")["found"]
    settings = {setting["name"]: setting for setting in report["settings"]}
    assert list(settings) == [setting.name for setting in SETTINGS]
    assert settings["num_threads"]["value"] == 1
    assert settings["num_threads"]["origin"] == "environment"
    assert settings["mode"] == {
        "name": "mode",
        "variable": "RADAM_CODEGEN_MODE",
        "value": "auto",
        "origin": "default",
        "error": "",
    }


def test_what_it_prints_for_people(without_paddle: dict[str, str]) -> None:
    hostile = "/nowhere/\x1b[31mred [bold]"
    done = run(**without_paddle, RADAM_CODEGEN_AOT=hostile, NVCC=hostile)
    assert done.returncode == 1
    assert "\x1b" not in done.stdout
    assert r"/nowhere/\x1b[31mred [bold] " in done.stdout
    lines = [line.rstrip() for line in done.stdout.splitlines()]
    assert any(line.endswith(" RADAM_CODEGEN_CACHE_DIR") for line in lines)
    assert "failure: settings" in lines
    assert "  1. Set it to something that can be used, as said above." in lines
    assert "       $ unset RADAM_CODEGEN_AOT" in lines
    assert lines[-1] == "Training would fail: 2 failures.", done.stdout


def test_no_compilers(tmp_path: Path) -> None:
    report = examine(1, PATH=str(tmp_path), RADAM_CODEGEN_CACHE_DIR=str(tmp_path / "cache"))
    c = found(report, "C compiler", "failure")
    assert "none of cc, gcc, clang is on the path" in c["found"]
    assert commands(c)[0].startswith("apt-get install gcc")
    assert "Kernels cannot be compiled" in c["cause"]
    assert commands(c)[1:] == [
        "export CC=/path/to/gcc",
        "export RADAM_CODEGEN_AOT=/path/to/bundle",
    ]
    assert commands(found(report, "C++ compiler", "failure"))[0].startswith("apt-get install g++")
    assert "not found" in found(report, "nvcc", "note")["found"]
    assert "No C++ compiler was found" in found(report, "operator", "failure")["found"]


def test_no_compilers_in_mode_off(tmp_path: Path) -> None:
    report = examine(
        0,
        PATH=str(tmp_path),
        RADAM_CODEGEN_MODE="off",
        RADAM_CODEGEN_CACHE_DIR=str(tmp_path / "cache"),
    )
    assert {each["status"] for each in report["findings"]} <= {"ok", "note"}
    assert "not used in mode off" in found(report, "operator", "note")["found"]
    assert not (tmp_path / "cache").exists()


def test_compilers_that_fail(without_paddle: dict[str, str]) -> None:
    report = examine(1, CC="/bin/false", CXX="/bin/false", **without_paddle)
    for check, variable in (("C compiler", "CC"), ("C++ compiler", "CXX")):
        finding = found(report, check, "failure")
        assert "/bin/false does not work: it ended with status 1" in finding["found"]
        assert f"export {variable}=/path/to/g" in commands(finding)[1]


def test_a_compiler_that_hangs_at_once(tmp_path: Path, without_paddle: dict[str, str]) -> None:
    hangs = script(tmp_path / "hangs", "exec sleep 600\n")
    report = examine(1, CC=hangs, RADAM_CODEGEN_COMPILE_TIMEOUT="0.5", **without_paddle)
    finding = found(report, "C compiler", "failure")
    assert "did not answer within 0.5 s and was killed" in finding["found"]
    assert "export CC=/path/to/gcc" in commands(finding)


#: What a compiler may do where it should compile: text of a script, and what is said of it.
ODD_COMPILERS = [
    ("exec sleep 600\n", "did not end within 2 s and was killed"),
    ("echo 'gar\x01bage [/bold]'; exit 0\n", "made no library; it says: gar"),
    ("head -c 5000 /dev/urandom > small.so\n", "what it makes cannot be used: "),
    ("echo 'no space left' >&2; exit 3\n", "ends with status 3 and says: no space left"),
    (
        "sed s/20.0/10.0/ small.c > b.c && exec gcc -shared -fPIC b.c -o small.so -lm\n",
        "it answers 22 where 42 is right",
    ),
]


@pytest.mark.parametrize(("action", "said"), ODD_COMPILERS)
def test_a_compiler_that_answers_and_compiles_oddly(
    action: str, said: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    from radam_codegen.config import current
    from radam_codegen.tools.doctor.compilers import check_c_compiler

    answers = 'case " $* " in *" -### "*) exec gcc "$@";; esac\n'
    monkeypatch.setenv("CC", script(tmp_path / "odd", answers + action))
    monkeypatch.setenv("RADAM_CODEGEN_COMPILE_TIMEOUT", "2")
    (finding,) = check_c_compiler(current())
    assert finding.status == "failure"
    assert said in finding.cause
    assert finding.fixes[1].command == "export CC=/path/to/gcc"


@pytest.mark.skipif("fma" not in cpu_features(), reason="the CPU has no fma")
@pytest.mark.parametrize(
    ("unknown", "status", "said"),
    [
        (
            "*-march=native*",
            "ok",
            "does not know -march=native; kernels are compiled with -march=x",
        ),
        ("*-march=*|*-mavx2*", "warning", "may be many times slower than they need be"),
    ],
)
def test_a_compiler_that_does_not_know_this_cpu(
    unknown: str, status: str, said: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    from radam_codegen.config import current
    from radam_codegen.tools.doctor.compilers import check_c_compiler

    refuses = f'case " $* " in {unknown}) echo "bad value" >&2; exit 1;; esac; exec gcc "$@"\n'
    monkeypatch.setenv("CC", script(tmp_path / "old", refuses))
    (finding,) = check_c_compiler(current())
    assert finding.status == status
    assert said in finding.found + finding.cause


def test_a_compiler_that_makes_wrong_code(cache: Path) -> None:
    wrong = "gcc -Dsqrt=cbrt -Dsqrtf=cbrtf"
    report = examine(1, CC=wrong, RADAM_CODEGEN_CACHE_DIR=str(cache))
    found(report, "C compiler", "ok")
    finding = found(report, "step in dynamic graph", "failure")
    assert "where the formula has 0.36527" in finding["found"]
    assert "export RADAM_CODEGEN_MODE=off" in commands(finding)


def test_a_cache_that_others_can_write_to(cache: Path) -> None:
    cache.chmod(0o777)
    report = examine(1, RADAM_CODEGEN_CACHE_DIR=str(cache))
    finding = found(report, "cache", "failure")
    assert "mode 0777" in finding["found"]
    assert f"chmod -R go-w {cache}" in commands(finding)
    assert "Other users can write" in found(report, "operator", "failure")["found"]


def test_a_cache_that_cannot_be_written(tmp_path: Path, recording_cxx: str) -> None:
    (tmp_path / "file").touch()
    below = tmp_path / "file" / "cache"
    environment = {"RADAM_CODEGEN_CACHE_DIR": str(below), "CXX": recording_cxx}
    report = examine(0, **environment, NVCC="no-such-nvcc")
    finding = found(report, "cache", "warning")
    assert "Not a directory" in finding["found"]
    assert "a temporary folder takes its place" in finding["cause"]
    assert "export RADAM_CODEGEN_CACHE_DIR=/path/to/folder" in commands(finding)
    assert commands(found(report, "nvcc", "warning")) == ["unset NVCC"]


def test_a_damaged_entry(cache: Path) -> None:
    (kernel,) = (cache / "kernels").iterdir()
    with (kernel / "kernel.so").open("ab") as file:
        file.write(b"more")
    report = examine(0, RADAM_CODEGEN_CACHE_DIR=str(cache))
    assert "2 entries" in found(report, "cache", "ok")["found"]
    finding = found(report, "cache entry", "warning")
    assert f"{kernel}: kernel.so is not as it was built" in finding["found"]
    assert commands(finding) == [f"rm -r {kernel}"]


def put_operator(cache: Path, source: str) -> None:
    """Put another library in the place of the operator, with a manifest that vouches for it."""
    (entry,) = (cache / "operators").iterdir()
    library = entry / "operator.so"
    library.unlink()
    compile_it = ["gcc", "-shared", "-fPIC", "-x", "c", "-", "-o", str(library)]
    subprocess.run(compile_it, input=source, text=True, check=True)
    write_manifest(entry, entry.name, read_manifest(entry)["build"])


def test_a_wrong_operator_library(cache: Path) -> None:
    put_operator(cache, "int nothing;\n")
    report = examine(1, RADAM_CODEGEN_CACHE_DIR=str(cache))
    finding = found(report, "operator", "failure")
    assert str(cache / "operators") in finding["found"]
    assert commands(finding) == ["radam-codegen doctor"]


def test_an_operator_library_that_crashes(cache: Path) -> None:
    put_operator(cache, "__attribute__((constructor)) void f(void) { __builtin_trap(); }\n")
    report = examine(1, RADAM_CODEGEN_CACHE_DIR=str(cache))
    finding = found(report, "operator", "failure")
    assert "the process was ended by signal SIG" in finding["found"]
    assert commands(finding)[0] == ("RADAM_CODEGEN_CACHE_DIR=$(mktemp -d) radam-codegen doctor")


@pytest.mark.parametrize(
    ("text", "said"),
    [
        ("raise ImportError('libwanted.so.1: cannot open')", "libwanted.so.1"),
        ("raise ModuleNotFoundError('gone', name='paddle')", "not installed"),
        ("import os; os.abort()", "signal SIGABRT"),
    ],
)
def test_no_paddle(text: str, said: str, tmp_path: Path, without_paddle: dict[str, str]) -> None:
    (tmp_path / "paddle.py").write_text(text, encoding="utf-8")
    report = examine(1, **without_paddle)
    finding = found(report, "Paddle", "failure")
    assert said in finding["found"]
    assert finding["fixes"]
    found(report, "C compiler", "ok")


def test_a_native_part_that_does_not_load(cache: Path, tmp_path: Path) -> None:
    (tmp_path / "_cffi_backend.py").write_text("raise ImportError('wrong machine')")
    environment = {"PYTHONPATH": str(tmp_path), "RADAM_CODEGEN_CACHE_DIR": str(cache)}
    report = examine(1, **environment)
    finding = found(report, "operator", "failure")
    assert "ImportError: wrong machine" in finding["found"]
    assert commands(finding)[0] == "pip install --force-reinstall radam-codegen"
    found(report, "Paddle", "ok")
    (tmp_path / "jinja2.py").write_text("raise ImportError('no jinja2')")
    report = examine(1, **environment)
    for check in ("C compiler", "C++ compiler", "operator"):
        assert "ImportError: no jinja2" in found(report, check, "failure")["found"]
    found(report, "threads", "ok")


def test_a_paddle_that_hangs(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    from radam_codegen.config import current
    from radam_codegen.tools.doctor import training

    (tmp_path / "paddle.py").write_text(
        "print('half way', flush=True); import time; time.sleep(600)"
    )
    monkeypatch.setenv("PYTHONPATH", str(tmp_path))
    monkeypatch.setenv("RADAM_CODEGEN_COMPILE_TIMEOUT", "0.5")
    monkeypatch.setenv("RADAM_CODEGEN_LOCK_TIMEOUT", "0.5")
    monkeypatch.setattr(training, "_STAGE_SECONDS", 1.0)
    (finding,) = training.check_training(current())
    assert finding.status == "failure"
    assert "did not end within 2 s" in finding.found
    assert "half way" in finding.found
    assert "RADAM_CODEGEN_MODE=off radam-codegen doctor" in [fix.command for fix in finding.fixes]


def test_bad_settings(without_paddle: dict[str, str]) -> None:
    report = examine(
        1, **without_paddle, RADAM_CODEGEN_MODE="fast", RADAM_CODEGEN_CACHE_SIZE="little"
    )
    size, mode = [each for each in report["findings"] if each["check"] == "settings"]
    assert size["status"] == mode["status"] == "failure"
    assert "RADAM_CODEGEN_CACHE_SIZE='little'" in size["found"]
    assert "set it to one of auto, aot-only, off" in mode["found"]
    assert commands(mode) == ["unset RADAM_CODEGEN_MODE"]
    (shown,) = [each for each in report["settings"] if each["name"] == "mode"]
    assert shown["value"] is None
    assert "RADAM_CODEGEN_MODE='fast'" in shown["error"]
    found(report, "C compiler", "ok")


def test_a_bundle_that_is_not_there_or_is_none(
    tmp_path: Path, without_paddle: dict[str, str]
) -> None:
    report = examine(1, **without_paddle, RADAM_CODEGEN_MODE="aot-only")
    finding = found(report, "bundle", "failure")
    assert "export RADAM_CODEGEN_AOT=/path/to/bundle" in commands(finding)
    report = examine(1, **without_paddle, RADAM_CODEGEN_AOT=str(tmp_path))
    finding = found(report, "bundle", "warning")
    assert "unset RADAM_CODEGEN_AOT RADAM_CODEGEN_MODE" in commands(finding)


def test_a_bundle_in_the_place_of_compilers(tmp_path: Path, recording_cxx: str) -> None:
    bundle = tmp_path / "bundle"

    def add(kernel: str) -> None:
        command = [sys.executable, "-m", "radam_codegen.cli", "aot", "--kernel", kernel]
        command += ["--cpu", "native", "--out", str(bundle)]
        env = {**os.environ, "CXX": recording_cxx}
        subprocess.run(command, env=env, check=True, capture_output=True, timeout=300)

    (tmp_path / "empty").mkdir()
    environment = {
        "PATH": str(tmp_path / "empty"),
        "RADAM_CODEGEN_CACHE_DIR": str(tmp_path / "cache"),
        "RADAM_CODEGEN_AOT": str(bundle),
    }
    add("radam_no_clip__f64_no_decay")
    report = examine(0, **environment, RADAM_CODEGEN_MODE="aot-only")
    assert "needs none" in found(report, "C compiler", "note")["found"]
    assert "radam_no_clip__f64_no_decay" in found(report, "bundle", "ok")["found"]
    lacking = found(report, "step in dynamic graph", "warning")
    assert commands(lacking) == [
        f"radam-codegen aot --kernel radam_no_clip__f32_no_decay --out {bundle}"
    ]
    assert report["stepped"] is False
    add("radam_no_clip__f32_no_decay")
    report = examine(0, **environment)
    assert report["stepped"] is True
    assert "bundle lacks will be missing" in found(report, "C compiler", "warning")["cause"]
    assert not (tmp_path / "cache").exists()
