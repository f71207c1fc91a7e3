from __future__ import annotations

import functools
import platform
import shutil
import stat
import subprocess
from pathlib import Path

import pytest
from support.other_cpus import macros
from support.processes import ends
from toolchain.conftest import CountingCompiler

from radam_codegen.errors import CompilerNotFoundError
from radam_codegen.toolchain import find_c_compiler, find_cxx_compiler
from radam_codegen.toolchain.compiler import _cpu_words, _native_flags
from radam_codegen.toolchain.cpu import (
    NATIVE,
    cpu_features,
    needed_features,
    ways_to_name_this_cpu,
)
from radam_codegen.toolchain.flags import KERNEL_FLAGS, kernel_flags

pytestmark = pytest.mark.runs_no_kernel


def script(path: Path, text: str) -> str:
    path.write_text("#!/bin/sh\n" + text)
    path.chmod(path.stat().st_mode | stat.S_IXUSR)
    return str(path)


def test_finds_a_compiler_on_the_path() -> None:
    compiler = find_c_compiler()
    assert Path(compiler.command[0]).is_absolute()
    assert compiler.path == compiler.path.resolve()
    assert "version" in compiler.version
    assert find_cxx_compiler().command != compiler.command


def test_native_is_spelled_out() -> None:
    flags = find_c_compiler("gcc").native_flags
    assert any(flag.startswith("-march=") for flag in flags)
    assert "-march=native" not in flags
    assert macros("gcc", *flags) == macros("gcc", "-march=native")


def test_native_is_spelled_out_as_clang_prints_it() -> None:
    text = (
        "clang version 17.0.6\nTarget: x86_64-pc-linux-gnu\n"
        ' "/usr/lib/llvm-17/bin/clang" "-cc1" "-triple" "x86_64-pc-linux-gnu" "-E"'
        ' "-main-file-name" "null" "-mrelocation-model" "pic"'
        ' "-target-cpu" "znver3" "-target-feature" "+avx2"'
        ' "-target-feature" "-avx512f" "-x" "c" "/dev/null"\n'
    )
    assert _native_flags(text) == (
        "-target-cpu=znver3",
        "-target-feature=+avx2",
        "-target-feature=-avx512f",
    )


def test_other_machines_have_flags_too() -> None:
    words = ["-mlittle-endian", "-mabi=lp64", "-mcpu=neoverse-n1+crypto", "-dumpbase", "null"]
    assert _cpu_words(words) == words[:3]


def test_a_command_may_have_arguments(cc: CountingCompiler) -> None:
    compiler = find_c_compiler(f"'{cc.path}' -m64")
    assert compiler.command == (str(cc.path), "-m64")
    assert compiler.identity != find_c_compiler(str(cc.path)).identity


def test_one_call_tells_it_all_and_is_not_repeated(cc: CountingCompiler) -> None:
    first = find_c_compiler(str(cc.path))
    assert find_c_compiler(str(cc.path)) == first
    assert cc.calls("probe") == 1


def test_a_replaced_compiler_is_asked_again(tmp_path: Path) -> None:
    path = tmp_path / "cc"
    first = find_c_compiler(script(path, 'exec gcc "$@"\n'))
    second = find_c_compiler(script(path, 'echo "my version 2.0" >&2; exec gcc "$@"\n'))
    assert first.identity != second.identity


def test_links_are_followed(tmp_path: Path) -> None:
    link = tmp_path / "my-cc"
    found = shutil.which("gcc")
    assert found is not None
    link.symlink_to(found)
    assert find_c_compiler(str(link)).path == find_c_compiler("gcc").path


def refusing(*flags: str) -> str:
    """A compiler that does not know some flags."""
    return (
        f'case " $* " in {"|".join(f"*{flag}*" for flag in flags)}) '
        'echo "error: bad value" >&2; exit 1;; esac; exec gcc "$@"\n'
    )


LEVELS = ["x86-64-v1", "x86-64-v2", "x86-64-v3", "x86-64-v4"]


@pytest.mark.skipif(platform.machine() != "x86_64", reason="levels are of x86-64")
def test_a_compiler_without_native_is_told_the_level_of_the_cpu(tmp_path: Path) -> None:
    best = [name for name in LEVELS if cpu_features().issuperset(needed_features(name))][-1]
    compiler = find_c_compiler(script(tmp_path / "cc", refusing("-march=native")))
    assert "version" in compiler.version
    assert compiler.for_this_cpu == ((f"-march={best}",) if best != "x86-64-v1" else ())
    assert kernel_flags(compiler, NATIVE) == (*KERNEL_FLAGS, *compiler.for_this_cpu)
    assert [flag for flag in compiler.native_flags if flag.startswith("-march=")] == list(
        compiler.for_this_cpu
    )


@pytest.mark.skipif("fma" not in cpu_features(), reason="the CPU has no fma")
def test_a_compiler_without_levels_is_told_the_instructions(tmp_path: Path) -> None:
    compiler = find_c_compiler(script(tmp_path / "cc", refusing("-march=")))
    assert compiler.for_this_cpu == ("-mavx2", "-mfma", "-mf16c")
    text = "float a(float x) { return __builtin_fmaf(x, x, x); }"
    flags = kernel_flags(compiler, NATIVE)
    command = [*compiler.command, *flags, "-S", "-x", "c", "-", "-o", "-"]
    made = subprocess.run(command, input=text, capture_output=True, text=True, check=True).stdout
    assert "vfmadd" in made


def test_a_compiler_that_knows_nothing_of_cpus_is_used_without(tmp_path: Path) -> None:
    compiler = find_c_compiler(script(tmp_path / "cc", refusing("-march=", "-mavx2", "-mfma")))
    assert (compiler.for_this_cpu, compiler.native_flags) == ((), ())
    assert "version" in compiler.version


def test_every_cpu_is_named_by_what_it_has() -> None:
    ways = functools.partial(ways_to_name_this_cpu, machine="x86_64")
    v3 = frozenset(needed_features("x86-64-v3"))
    assert ways(v3) == (
        ("-march=native",),
        ("-march=x86-64-v3",),
        ("-march=x86-64-v2",),
        ("-mavx2", "-mfma", "-mf16c"),
    )
    # Some virtual machines have fma, and lack what nobody misses.
    assert ways(v3 - {"movbe", "abm"})[1:] == (
        ("-march=x86-64-v2",),
        ("-mavx2", "-mfma", "-mf16c"),
    )
    assert ways(frozenset({"sse2"})) == ways(frozenset()) == (("-march=native",),)
    assert ways_to_name_this_cpu(v3, machine="aarch64") == (("-march=native",),)


def test_a_missing_compiler_says_what_was_looked_for() -> None:
    with pytest.raises(CompilerNotFoundError, match=r"'no-such-cc'.*CC='no-such-cc -O2'.*install"):
        find_c_compiler("no-such-cc -O2")
    with pytest.raises(CompilerNotFoundError, match="CXX='no-such-cxx'"):
        find_cxx_compiler("no-such-cxx")


def test_an_empty_path_says_what_was_looked_for(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("PATH", "/nonexistent")
    with pytest.raises(CompilerNotFoundError, match="none of cc, gcc, clang is on the path"):
        find_c_compiler()


def test_a_broken_compiler_shows_what_it_says(tmp_path: Path) -> None:
    with pytest.raises(CompilerNotFoundError, match="does not work: license expired"):
        find_c_compiler(script(tmp_path / "cc", "echo 'license expired' >&2; exit 3\n"))


def test_one_that_does_not_answer_is_ended_with_all_that_it_started(tmp_path: Path) -> None:
    child = tmp_path / "child"
    hangs = f"sleep 60 &\necho $! > {child}\nwait\n"
    with pytest.raises(CompilerNotFoundError, match=r"within 0.5 s and was killed.*\n.*CC"):
        find_c_compiler(script(tmp_path / "cc", hangs), timeout=0.5)
    assert ends(int(child.read_text()))
