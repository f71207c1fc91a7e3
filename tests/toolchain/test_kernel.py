"""Kernels are compiled once, by whoever comes first, and failures say why."""

from __future__ import annotations

import dataclasses
import json
import subprocess
import sys
import threading
import warnings
from pathlib import Path

import pytest
from support.hand_written import hand_written_source, source_of
from toolchain.conftest import CountingCompiler, make_compiler

from radam_codegen.config import Config
from radam_codegen.errors import ArgumentError, ArtifactError, CompileError, CompilerNotFoundError
from radam_codegen.runtime import load_kernel
from radam_codegen.toolchain import Artifact, build_kernel

TESTS = Path(__file__).resolve().parents[1]


def contents(folder: Path) -> list[str]:
    return sorted(str(path.relative_to(folder)) for path in folder.rglob("*") if path.is_file())


def test_a_kernel_is_compiled_once(config: Config, cc: CountingCompiler) -> None:
    first = build_kernel(hand_written_source(), config)
    assert first.compiled
    assert cc.compiles == 1
    second = build_kernel(hand_written_source(), config)
    assert second == dataclasses.replace(first, compiled=False)
    assert (cc.compiles, cc.calls("probe")) == (1, 1)
    assert load_kernel(first.library).name == "hand_written"


def test_an_entry_holds_source_library_log_and_manifest(config: Config) -> None:
    source = hand_written_source()
    built = build_kernel(source, config)
    entry = config.cache_dir / "kernels" / built.key
    assert contents(config.cache_dir / "kernels") == [
        f"{built.key}/{name}" for name in ("compiler.log", "kernel.c", "kernel.so", "manifest.json")
    ]
    assert built.source.read_text(encoding="utf-8") == source.text
    assert "-O3" in built.log.read_text(encoding="utf-8")
    manifest = json.loads((entry / "manifest.json").read_text(encoding="utf-8"))
    assert sorted(manifest["files"]) == ["compiler.log", "kernel.c", "kernel.so"]
    assert manifest["files"]["kernel.c"] == source.sha256


def test_no_flag_lets_results_change(config: Config) -> None:
    log = build_kernel(hand_written_source(), config).log.read_text(encoding="utf-8")
    assert "-ffp-contract=off" in log
    assert "fast" not in log


_BUILD_IN_A_PROCESS = """
import sys
from pathlib import Path
from radam_codegen.config import Config
from radam_codegen.runtime import load_kernel
from radam_codegen.toolchain import build_kernel
from support.hand_written import hand_written_source
sys.stdin.readline()
built = build_kernel(hand_written_source(), Config(Path(sys.argv[1]), 1, sys.argv[2]))
print(built.compiled, built.key, load_kernel(built.library).name)
"""


def start_build(config: Config) -> subprocess.Popen[str]:
    return subprocess.Popen(
        [sys.executable, "-c", _BUILD_IN_A_PROCESS, str(config.cache_dir), str(config.cc)],
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        text=True,
        cwd=TESTS,
    )


def test_another_process_compiles_nothing(config: Config, cc: CountingCompiler) -> None:
    built = build_kernel(hand_written_source(), config)
    output, _ = start_build(config).communicate("go\n", timeout=60)
    assert output.split() == ["False", built.key, "hand_written"]
    assert cc.compiles == 1


def test_two_processes_at_once_compile_once(config: Config, cc: CountingCompiler) -> None:
    builds = [start_build(config) for _ in range(2)]
    for build in builds:
        assert build.stdin is not None
        build.stdin.write("go\n")
        build.stdin.flush()
    answers = [build.communicate(timeout=120)[0].split() for build in builds]
    assert cc.compiles == 1
    assert sorted(answer[0] for answer in answers) == ["False", "True"]
    assert answers[0][1:] == answers[1][1:]
    assert len(list((config.cache_dir / "kernels").iterdir())) == 1


def test_threads_of_one_process_compile_once(config: Config, cc: CountingCompiler) -> None:
    results: list[Artifact] = []
    threads = [
        threading.Thread(target=lambda: results.append(build_kernel(hand_written_source(), config)))
        for _ in range(8)
    ]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert cc.compiles == 1
    assert [result.compiled for result in results].count(True) == 1
    assert len({result.library for result in results}) == 1


def test_a_failed_compile_says_where_and_why(config: Config, cc: CountingCompiler) -> None:
    text = "int main(void)\n{\n    /* moment1: lerp moment1 grad */\n\n    return moment1;\n}\n"
    with pytest.raises(CompileError) as caught:
        build_kernel(source_of(text), config)
    lines = str(caught.value).splitlines()
    assert lines[0] == "Kernel hand_written could not be compiled."
    assert lines[1].startswith("  first error: kernel.c:5:12: error: 'moment1' undeclared")
    assert lines[2] == "  line 5: return moment1;"
    assert lines[3] == "  IR operation: moment1: lerp moment1 grad"
    assert lines[4].startswith(f"  command: {cc.path} -std=c11")
    log = Path(lines[5].replace("  log: ", ""))
    assert "'moment1' undeclared" in log.read_text(encoding="utf-8")
    source = Path(lines[6].replace("  source: ", ""))
    assert source.read_text(encoding="utf-8") == text
    assert "CC" in lines[7]


def test_a_failed_compile_leaves_nothing_but_its_log(config: Config) -> None:
    for _ in range(2):
        with pytest.raises(CompileError):
            build_kernel(source_of("not C at all"), config)
    assert list((config.cache_dir / "kernels").iterdir()) == []
    kept = [Path(name).name for name in contents(config.cache_dir / "failed")]
    assert kept == ["compiler.log", "kernel.c"]


def test_an_error_of_the_linker_is_shown(config: Config) -> None:
    text = "void f(void);\nint (*g)(void) = (int (*)(void))f;\n"
    strict = dataclasses.replace(config, cc=f"{config.cc} -Wl,--no-undefined")
    with pytest.raises(CompileError, match="undefined reference to `f'"):
        build_kernel(source_of(text), strict)


def test_a_compiler_that_dies_is_shown_with_its_last_words(config: Config, tmp_path: Path) -> None:
    dies = 'case " $* " in *" -o "*) echo "out of licenses"; exit 7;; esac'
    cc = make_compiler(tmp_path / "dies", before=dies)
    with pytest.raises(CompileError, match="out of licenses"):
        build_kernel(hand_written_source(), dataclasses.replace(config, cc=str(cc.path)))


def test_building_works_after_the_cause_of_a_failure_is_gone(
    config: Config, tmp_path: Path
) -> None:
    flag = tmp_path / "broken"
    flag.touch()
    cc = make_compiler(
        tmp_path / "moody", before=f'case " $* " in *" -o "*) [ -e {flag} ] && exit 1;; esac'
    )
    config = dataclasses.replace(config, cc=str(cc.path))
    with pytest.raises(CompileError):
        build_kernel(hand_written_source(), config)
    flag.unlink()
    assert build_kernel(hand_written_source(), config).compiled


def test_a_missing_compiler_is_no_compile_error(config: Config) -> None:
    with pytest.raises(CompilerNotFoundError, match="CC='gcc-999'"):
        build_kernel(hand_written_source(), dataclasses.replace(config, cc="gcc-999"))


def test_another_language_is_refused(config: Config) -> None:
    source = dataclasses.replace(hand_written_source(), language="cuda")
    with pytest.raises(ArgumentError, match="'cuda'"):
        build_kernel(source, config)


@pytest.mark.parametrize("damage", ["truncate", "flip", "remove", "manifest", "no manifest"])
def test_a_damaged_entry_is_built_again_with_a_warning(
    config: Config, cc: CountingCompiler, damage: str
) -> None:
    built = build_kernel(hand_written_source(), config)
    manifest = built.library.with_name("manifest.json")
    good = built.library.read_bytes()
    if damage == "truncate":
        built.library.write_bytes(good[: len(good) // 2])
    elif damage == "flip":
        built.library.write_bytes(good[:5000] + bytes([good[5000] ^ 1]) + good[5001:])
    elif damage == "remove":
        built.library.unlink()
    elif damage == "manifest":
        manifest.write_text('{"format": 1}')
    else:
        manifest.unlink()
    with pytest.warns(RuntimeWarning, match="is damaged and will be built again"):
        again = build_kernel(hand_written_source(), config)
    assert again.compiled
    assert cc.compiles == 2
    assert again.library.read_bytes() == good
    assert len(list((config.cache_dir / "kernels").iterdir())) == 1


def test_an_unusable_cache_is_replaced_with_one_warning(
    config: Config, cc: CountingCompiler, tmp_path: Path
) -> None:
    (tmp_path / "file").touch()
    config = dataclasses.replace(config, cache_dir=tmp_path / "file" / "cache")
    with pytest.warns(RuntimeWarning, match="RADAM_CODEGEN_CACHE_DIR"):
        first = build_kernel(hand_written_source(), config)
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        second = build_kernel(hand_written_source(), config)
        build_kernel(hand_written_source("\n"), config)
    assert (first.compiled, second.compiled) == (True, False)
    assert cc.compiles == 2
    assert load_kernel(first.library).name == "hand_written"


def test_where_nothing_can_be_written_the_error_says_so(
    config: Config, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    import tempfile

    (tmp_path / "file").touch()
    monkeypatch.setattr(tempfile, "tempdir", str(tmp_path / "file"))
    config = dataclasses.replace(config, cache_dir=tmp_path / "file" / "cache")
    with pytest.raises(ArtifactError, match=r"Neither the cache .* can be written"):
        build_kernel(hand_written_source(), config)


def test_libraries_of_one_key_are_equal_bytes(config: Config, tmp_path: Path) -> None:
    other = dataclasses.replace(config, cache_dir=tmp_path / "elsewhere" / "cache")
    first, second = (build_kernel(hand_written_source(), each) for each in (config, other))
    assert first.key == second.key
    assert first.library.read_bytes() == second.library.read_bytes()
