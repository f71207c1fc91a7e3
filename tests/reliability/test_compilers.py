"""Compilers that do not do what compilers do, and one for machines that differ."""

from __future__ import annotations

import dataclasses
import json
import os
import shutil
import subprocess
import sys
import sysconfig
from pathlib import Path

import pytest
from support.hand_written import hand_written_source
from toolchain.conftest import make_compiler

from radam_codegen.config import Config
from radam_codegen.errors import CompileError, CompilerNotFoundError
from radam_codegen.runtime import load_kernel
from radam_codegen.toolchain import build_kernel, find_cxx_compiler
from radam_codegen.toolchain.operator import operator_recipe

TESTS = Path(__file__).resolve().parents[1]

#: What a compiler does in place of compiling, and what is said of it.
MISBEHAVIOURS = {
    "says nothing, makes nothing": ("exit 0", "there is no kernel.so"),
    "makes an empty file": (": > kernel.so; exit 0", "kernel.so is no shared library"),
    "makes garbage": (
        "head -c 5000 /dev/urandom > kernel.so; exit 0",
        "kernel.so is no shared library",
    ),
    "makes a folder": ("mkdir kernel.so; exit 0", "kernel.so is no file"),
    "makes a link": ("ln -s /lib kernel.so; exit 0", "kernel.so is no file"),
    "makes an object file": (
        "gcc -c -x c /dev/null -o kernel.so; exit 0",
        "kernel.so is no shared library",
    ),
    "makes half a library": (
        'gcc "$@"; truncate -s 5000 kernel.so; exit 0',
        "kernel.so is there in part only",
    ),
    "makes a library for a 32-bit ARM": (
        "gcc \"$@\"; printf '\\050' | dd of=kernel.so bs=1 seek=18 conv=notrunc; exit 0",
        "kernel.so is for another kind of machine",
    ),
    "prints garbage": (r"printf '\033[2J\007\000boom\n'; exit 3", "?[2J??boom"),
    "is killed": ("kill -9 $$", "exit status -9"),
    "removes its source": ("rm kernel.c; exit 0", "there is no kernel.so"),
    "hangs": ("sleep 100; exit 0", "did not end within 0.5 s and was killed"),
}


def misbehaving(folder: Path, how: str) -> str:
    flag = folder / "misbehave"
    compiles = f'case " $* " in *" -o "*) if [ -e {flag} ]; then {how}; fi;; esac'
    compiler = make_compiler(folder, before=compiles)
    flag.touch()
    return str(compiler.path)


@pytest.mark.parametrize("what", MISBEHAVIOURS)
def test_a_compiler_that_misbehaves_is_found_out(what: str, tmp_path: Path) -> None:
    how, said = MISBEHAVIOURS[what]
    cc = misbehaving(tmp_path / "cc", how)
    seconds = 0.5 if what == "hangs" else 300.0
    config = Config(tmp_path / "cache", 1, cc=cc, compile_timeout=seconds)
    for _ in range(2):
        with pytest.raises(CompileError) as caught:
            build_kernel(hand_written_source(), config)
        assert said in str(caught.value)
        assert all(each.isprintable() or each == "\n" for each in str(caught.value))
    assert list((config.cache_dir / "kernels").iterdir()) == []

    # The same compiler, hence the same key, once it does what it should.
    (tmp_path / "cc" / "misbehave").unlink()
    built = build_kernel(hand_written_source(), dataclasses.replace(config, compile_timeout=300.0))
    assert built.compiled
    assert load_kernel(built.library).name == "hand_written"


def test_a_compiler_that_answers_with_garbage_is_quoted_harmlessly(tmp_path: Path) -> None:
    cc = make_compiler(tmp_path / "cc", before=r"printf '\033[2J\007boom' >&2; exit 1")
    with pytest.raises(CompilerNotFoundError) as caught:
        build_kernel(hand_written_source(), Config(tmp_path / "cache", 1, cc=str(cc.path)))
    assert "does not work: ?[2J?boom" in str(caught.value)


_BUILD = """
import json, sys
from pathlib import Path
from radam_codegen.config import Config
from radam_codegen.runtime import load_kernel
from radam_codegen.toolchain import build_kernel
from support.hand_written import hand_written_source
built = build_kernel(hand_written_source(), Config(Path(sys.argv[1]), 1, cc=sys.argv[2]))
print(json.dumps([built.key, built.compiled, load_kernel(built.library).name]))
"""


@pytest.mark.skipif(os.uname().machine != "x86_64", reason="names features of x86-64")
def test_machines_with_other_features_share_a_cache(tmp_path: Path) -> None:
    # One home on several machines: the same compiler, but -march=native means something else.
    cc = make_compiler(tmp_path / "cc", compiler="gcc $FEATURES")

    def build(features: str) -> list[object]:
        done = subprocess.run(
            [sys.executable, "-c", _BUILD, str(tmp_path / "cache"), str(cc.path)],
            env={**os.environ, "FEATURES": features},
            cwd=TESTS,
            capture_output=True,
            text=True,
            check=True,
        )
        answer: list[object] = json.loads(done.stdout)
        return answer

    old, new = build("-mno-avx"), build("")
    assert old[0] != new[0]
    assert (old[1:], new[1:]) == ([True, "hand_written"], [True, "hand_written"])
    assert build("-mno-avx") == [old[0], False, "hand_written"]
    assert build("") == [new[0], False, "hand_written"]


def test_no_header_of_python_is_read(tmp_path: Path) -> None:
    from radam_codegen.program.installation import installed_paddle

    kernel = build_kernel(hand_written_source(), Config(tmp_path / "cache", 1, cc="gcc"))
    facts = json.loads((kernel.library.parent / "manifest.json").read_text())["build"]
    recipe = operator_recipe(installed_paddle(), find_cxx_compiler("g++"), tmp_path)
    (tmp_path / recipe.source).write_text(recipe.text)
    python = Path(sysconfig.get_paths()["include"])
    for command, folder in (
        (facts["command"], kernel.library.parent),
        (recipe.command, tmp_path),
    ):
        output = command.index("-o")
        listing = [*command[:output], *command[output + 2 :], "-M"]
        done = subprocess.run(listing, cwd=folder, capture_output=True, text=True, check=True)
        read = [Path(word) for word in done.stdout.split() if word != "\\"]
        assert any(path.name == "kernel.h" for path in read)
        assert not any(path.name == "Python.h" or python in path.parents for path in read)


def test_where_the_compiler_is_gone_what_was_built_is_of_no_use(tmp_path: Path) -> None:
    # A key names the compiler, so without one there is no telling which entry would be right.
    cc = make_compiler(tmp_path / "cc")
    config = Config(tmp_path / "cache", 1, cc=str(cc.path))
    build_kernel(hand_written_source(), config)
    shutil.rmtree(cc.path.parent)
    with pytest.raises(CompilerNotFoundError, match="CC="):
        build_kernel(hand_written_source(), config)
