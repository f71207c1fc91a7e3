"""Bundles: which variant a CPU gets, what damage does, and how one is made."""

from __future__ import annotations

import os
import random
import re
import shutil
import signal
import subprocess
import sys
import time
import warnings
from collections.abc import Callable, Iterator
from dataclasses import replace
from pathlib import Path

import pytest
from support.kernel_runner import run_kernel
from support.plans import random_arrays
from toolchain.conftest import make_compiler

import radam_codegen as rc
from radam_codegen.codegen import KernelSource, render
from radam_codegen.config import Config, current
from radam_codegen.errors import ArtifactError, ConfigError
from radam_codegen.ir.dtypes import DType
from radam_codegen.ir.plan import (
    Clip,
    ClipKind,
    Decay,
    DecayKind,
    GroupPlan,
    TensorPlan,
    UpdatePlan,
)
from radam_codegen.ir.structure_name import structure_from_name
from radam_codegen.passes import lower_structure
from radam_codegen.runtime import load_kernel
from radam_codegen.toolchain import Artifact, build_kernel, find_ahead, find_c_compiler
from radam_codegen.toolchain.bundle import Bundle, Miss, open_bundle
from radam_codegen.toolchain.bundle_index import BundleIndex, index_from_bytes, index_to_bytes
from radam_codegen.toolchain.cpu import (
    cpu_features,
    cpu_names,
    default_cpus,
    needed_features,
)
from radam_codegen.toolchain.kernel import kernel_recipe

NAME = "radam_clip_global_norm__f32_l2"
OTHER = "radam_no_clip__f32_no_decay"
LEVELS = ("x86-64-v1", "x86-64-v2", "x86-64-v3", "x86-64-v4")

pytestmark = pytest.mark.skipif(os.uname().machine != "x86_64", reason="levels are of x86-64")


def source_of(name: str = NAME) -> KernelSource:
    return render(lower_structure(structure_from_name(name)))


@pytest.fixture(scope="module")
def made(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("bundle") / "made"
    assert rc.aot(folder, kernels=[NAME], cpus=(*LEVELS, "native"), operator=False).good
    return folder


@pytest.fixture
def bundle(made: Path, tmp_path: Path) -> Path:
    copy = tmp_path / "bundle"
    shutil.copytree(made, copy)
    return copy


@pytest.fixture
def only(bundle: Path) -> Config:
    return replace(current(), aot=bundle, mode="aot-only", cc="/no/compiler")


@pytest.fixture
def auto(bundle: Path, tmp_path: Path) -> Config:
    cc = make_compiler(tmp_path / "cc")
    return replace(current(), aot=bundle, cache_dir=tmp_path / "cache", cc=str(cc.path))


@pytest.fixture(autouse=True)
def forget_warnings(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(find_ahead, "_warned", set())


def found(bundle: Path, *features: str) -> Artifact:
    artifact = open_bundle(bundle).find_kernel(source_of(), features)
    assert isinstance(artifact, Artifact), artifact
    return artifact


def missed(bundle: Path, *features: str) -> Miss:
    miss = open_bundle(bundle).find_kernel(source_of(), features)
    assert isinstance(miss, Miss), miss
    return miss


def entry(bundle: Path, cpu: str) -> Path:
    for each in open_bundle(bundle).index.kernels[NAME].variants:
        if each.cpu == cpu:
            return bundle / "kernels" / each.key
    raise AssertionError(cpu)


def rewrite(bundle: Path, change: Callable[[BundleIndex], BundleIndex]) -> None:
    index = index_from_bytes((bundle / "bundle.json").read_bytes())
    (bundle / "bundle.json").write_bytes(index_to_bytes(change(index)))


# ---- Which variant ------------------------------------------------------------------------------


@pytest.mark.parametrize("level", LEVELS)
def test_a_cpu_gets_the_best_variant_that_it_can_run(made: Path, level: str) -> None:
    features = needed_features(level)
    assert found(made, *features).library.parent == entry(made, level)
    for lacking in features:
        chosen = found(made, *(set(features) - {lacking})).library.parent
        assert LEVELS.index(level) > [entry(made, each) for each in LEVELS].index(chosen)


@pytest.mark.parametrize(
    ("level", "registers"), [("x86-64-v1", "[yz]mm"), ("x86-64-v2", "[yz]mm"), ("x86-64-v3", "zmm")]
)
def test_no_variant_uses_what_its_cpu_lacks(made: Path, level: str, registers: str) -> None:
    listing = subprocess.run(
        ["objdump", "-d", entry(made, level) / "kernel.so"],
        capture_output=True,
        text=True,
        check=True,
    ).stdout
    # Functions whose names end so are called only where the CPU says that it can run them.
    routines = re.split(r"\n(?=\w+ <)", listing)
    asked = [each for each in routines if re.match(r"\w+ <\w+_with_fma(\.\w+)*>:", each)]
    assert bool(asked) == (level < "x86-64-v3")
    listing = "\n".join(each for each in routines if each not in asked)
    assert re.search(r"%xmm\d", listing)
    assert not re.search(rf"%{registers}\d", listing)
    # In the encoding of AVX every mnemonic begins with a v.
    if level < "x86-64-v3":
        assert not re.search(r"\tv[a-z]", listing)


def test_an_unknown_cpu_gets_what_every_cpu_can_run(made: Path, tmp_path: Path) -> None:
    assert cpu_features(tmp_path / "missing") == frozenset()
    assert found(made).library.parent == entry(made, "x86-64-v1")


def test_this_cpu_gets_what_was_made_for_it(made: Path) -> None:
    assert found(made, *cpu_features()).library.parent == entry(made, "native")


def test_features_are_those_that_all_cpus_have(tmp_path: Path) -> None:
    (tmp_path / "x86").write_text("flags\t: sse avx avx2\nmodel : avx512f\nflags : avx sse\n")
    assert cpu_features(tmp_path / "x86") == {"sse", "avx"}
    (tmp_path / "arm").write_text("Features\t: fp asimd\n\nFeatures\t: fp asimd sve\n")
    assert cpu_features(tmp_path / "arm") == {"fp", "asimd"}


def test_other_machines_have_a_name_for_what_all_of_their_cpus_can_do(tmp_path: Path) -> None:
    assert cpu_names("aarch64") == ("baseline", "native")
    assert default_cpus("aarch64") == ("baseline",)
    assert needed_features("baseline") == ()
    gcc = find_c_compiler("gcc")
    words = kernel_recipe(source_of(), gcc, tmp_path, "baseline").command
    assert not [word for word in words if word.startswith("-march")]


def runnable() -> Iterator[str]:
    return (each for each in LEVELS if cpu_features().issuperset(needed_features(each)))


def test_every_variant_computes_the_same_bits(made: Path) -> None:
    structure = structure_from_name(NAME)
    tensors = tuple(
        TensorPlan(name, (numel,), *[DType.FLOAT32] * 3, decay=Decay(DecayKind.L2, 0.1))
        for name, numel in (("a", 1), ("b", 20011), ("c", 67))
    )
    group = GroupPlan(tensors, clip=Clip(ClipKind.GLOBAL_NORM, 1.5))
    for special in (False, True):
        (arrays,) = random_arrays(UpdatePlan((group,)), seed=3, special=special)
        results = []
        for level in (*runnable(), "native"):
            kernel = load_kernel(entry(made, level) / "kernel.so")
            after = run_kernel(kernel, structure, group, arrays, lr=0.01)
            results.append([each.tobytes() for each in (*after.param, *after.moment2)])
        assert len(results) > 2
        assert all(each == results[0] for each in results)


# ---- What cannot be used ------------------------------------------------------------------------


def test_a_machine_that_can_do_too_little_gets_nothing(tmp_path: Path) -> None:
    rc.aot(tmp_path / "b", kernels=[NAME], cpus=["x86-64-v3"], operator=False)
    miss = missed(tmp_path / "b", "sse4_1", "avx")
    assert miss.there
    assert "for CPUs that can do more: x86-64-v3 (needs abm, avx2, bmi1 and" in miss.reason


def test_a_kernel_for_another_machine_is_none(made: Path) -> None:
    miss = open_bundle(made).find_kernel(source_of(), (), machine="riscv64")
    assert isinstance(miss, Miss)
    assert "is for x86_64, and this is riscv64" in miss.reason


def test_a_kernel_of_another_source_is_none(made: Path) -> None:
    source = source_of()
    miss = open_bundle(made).find_kernel(replace(source, sha256="0" * 64), cpu_features())
    assert isinstance(miss, Miss)
    assert miss.there
    assert "from another source" in miss.reason


@pytest.mark.parametrize(
    ("change", "expected"),
    [
        ({"abi": 99}, "it was made for version 99 of the kernel ABI"),
        ({"version": "9.9", "kernels": {}}, "it was made by radam_codegen 9.9, and this is "),
    ],
)
def test_a_bundle_of_another_version_is_refused_and_can_be_made_anew(
    only: Config, bundle: Path, change: dict[str, object], expected: str
) -> None:
    rewrite(bundle, lambda index: replace(index, **change))
    with pytest.raises(ArtifactError, match=expected):
        build_kernel(source_of(), only)
    rc.aot(bundle, kernels=[NAME], operator=False)
    assert build_kernel(source_of(), only).library.is_relative_to(bundle)


def test_a_bundle_of_another_version_is_made_anew_as_a_whole(bundle: Path) -> None:
    rewrite(bundle, lambda index: replace(index, version="9.9"))
    result = rc.aot(bundle, kernels=[OTHER], cpus=["x86-64-v3"], operator=False)
    assert result.compiled == 1  # the rest has the keys that it had
    kernels = open_bundle(bundle).index.kernels
    assert [each.cpu for each in kernels[NAME].variants] == list(LEVELS)
    assert [each.cpu for each in kernels[OTHER].variants] == ["x86-64-v3"]
    assert len(list((bundle / "kernels").iterdir())) == 5


def change_byte(path: Path) -> None:
    content = bytearray(path.read_bytes())
    content[len(content) // 2] ^= 4
    path.write_bytes(content)


DAMAGES: dict[str, Callable[[Path, Path], object]] = {
    "library": lambda folder, _: change_byte(folder / "kernel.so"),
    "manifest": lambda folder, _: change_byte(folder / "manifest.json"),
    "short": lambda folder, _: os.truncate(folder / "kernel.so", 100),
    "gone": lambda folder, _: shutil.rmtree(folder),
    "link": lambda folder, _: [
        folder.rename(folder.parent / "elsewhere"),
        folder.symlink_to("elsewhere"),
    ],
    "link to a file": lambda folder, _: [
        (folder / "kernel.so").rename(folder / "lib"),
        (folder / "kernel.so").symlink_to("lib"),
    ],
    "linked folder": lambda folder, _: [
        folder.parent.rename(folder.parents[1] / "elsewhere"),
        folder.parent.symlink_to("elsewhere"),
    ],
    "swapped": lambda folder, other: [
        shutil.rmtree(folder),
        shutil.copytree(other, folder),
    ],
    "index": lambda folder, _: change_byte(folder.parents[1] / "bundle.json"),
    "no index": lambda folder, _: (folder.parents[1] / "bundle.json").unlink(),
    "another manifest": lambda folder, _: [
        (folder / "kernel.so").write_bytes(b"\x7fELF"),
        reseal(folder),
    ],
    "writable": lambda folder, _: folder.parents[1].chmod(0o777),
}


def reseal(folder: Path) -> None:
    from radam_codegen.toolchain.manifest import find_fault, read_manifest, write_manifest

    facts = read_manifest(folder)["build"]
    write_manifest(folder, folder.name, facts)
    assert find_fault(folder, folder.name) is None


@pytest.mark.parametrize("damage", DAMAGES)
def test_damage_is_an_error_or_compiled_around(
    damage: str, bundle: Path, only: Config, auto: Config
) -> None:
    DAMAGES[damage](entry(bundle, "native"), entry(bundle, "x86-64-v1"))
    with pytest.raises(ArtifactError, match="is not to be had from the bundle"):
        build_kernel(source_of(), only)

    with pytest.warns(RuntimeWarning, match="is not used for all") as caught:
        library = build_kernel(source_of(), auto).library
    assert len(caught) == 1
    assert library.is_relative_to(auto.cache_dir)
    assert load_kernel(library).name == NAME
    with warnings.catch_warnings():
        warnings.simplefilter("error")  # it was said once
        build_kernel(source_of(), auto)


@pytest.mark.parametrize("damage", sorted({*DAMAGES} - {"linked folder", "writable"}))
def test_what_is_damaged_is_made_again(damage: str, bundle: Path, made: Path, only: Config) -> None:
    DAMAGES[damage](entry(bundle, "native"), entry(bundle, "x86-64-v1"))
    shutil.rmtree(bundle / "kernels" / "elsewhere", ignore_errors=True)
    assert rc.aot(bundle, kernels=[NAME], cpus=["native"], operator=False).compiled <= 1
    assert build_kernel(source_of(), only).library.parent == entry(bundle, "native")
    assert {each.cpu for each in open_bundle(bundle).index.kernels[NAME].variants} <= {
        *LEVELS,
        "native",
    }


def test_no_changed_bit_of_an_index_goes_unnoticed(made: Path) -> None:
    text = (made / "bundle.json").read_bytes()
    generator = random.Random(1)
    for _ in range(1000):
        changed = bytearray(text)
        changed[generator.randrange(len(text))] ^= 1 << generator.randrange(8)
        with pytest.raises(ValueError, match=r"."):
            index_from_bytes(bytes(changed))
    for length in range(0, len(text), 16):
        with pytest.raises(ValueError, match=r"."):
            index_from_bytes(text[:length])


@pytest.mark.parametrize(
    "text",
    [
        "[]",
        "null",
        "{}",
        "[" * 100_000,
        '{"format": 1, "sha256": null}',
        '{"format": 2, "sha256": null}',
        '{"format": ' + "9" * 5000 + "}",
    ],
)
def test_an_index_that_is_none_is_an_error(text: str, bundle: Path) -> None:
    (bundle / "bundle.json").write_text(text)
    with pytest.raises(ArtifactError, match=r"bundle\.json cannot be used"):
        open_bundle(bundle)


@pytest.mark.parametrize(
    "field", ["version", "abi", "cuda_abi", "kernels", "cuda_kernels", "operators", "plans"]
)
@pytest.mark.parametrize("value", [None, 1.5, [1], {"a": 1}, "text"])
def test_an_index_with_something_else_in_it_is_an_error(field: str, value: object) -> None:
    if (field, value) == ("version", "text"):
        return
    text = index_to_bytes(replace(BundleIndex(), **{field: value}))
    with pytest.raises(ValueError, match="lacks something"):
        index_from_bytes(text)


# ---- Modes --------------------------------------------------------------------------------------


def test_a_miss_says_what_there_is_and_what_to_do(only: Config, bundle: Path) -> None:
    with pytest.raises(ArtifactError) as caught:
        build_kernel(source_of(OTHER), only)
    text = str(caught.value)
    assert f"The kernel {OTHER} " in text
    assert "it holds no kernel of this name" in text
    assert f"kernels: {NAME}; operator for: no Paddle" in text
    assert f"radam-codegen aot --kernel {OTHER} --out {bundle}" in text


def test_without_a_bundle_aot_only_is_an_error() -> None:
    config = replace(current(), aot=None, mode="aot-only")
    with pytest.raises(ConfigError, match="Set RADAM_CODEGEN_AOT"):
        build_kernel(source_of(), config)


def test_what_a_bundle_does_not_have_is_compiled_without_a_word(auto: Config) -> None:
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        assert build_kernel(source_of(OTHER), auto).compiled
        assert not build_kernel(source_of(), auto).compiled


def test_a_hit_asks_no_compiler(auto: Config, tmp_path: Path) -> None:
    build_kernel(source_of(), auto)
    assert not (tmp_path / "cc" / "count.txt").exists()
    assert not auto.cache_dir.exists()


def test_an_operator_for_another_paddle_is_none(made: Path) -> None:
    bundle = open_bundle(made)
    assert bundle.find_operator("3.3.1 (abc)", "") == Miss("it holds no operator for x86_64", False)
    from radam_codegen.toolchain.bundle_index import BundledOperator

    listed = BundledOperator("3.3.1 (def)", "x86_64", "0" * 32, "0" * 64)
    other = Bundle(made, replace(bundle.index, operators=(listed,)))
    miss = other.find_operator("3.3.1 (abc)", "")
    assert miss == Miss("its operators are for Paddle 3.3.1 (def)", True)
    damaged = other.find_operator("3.3.1 (def)", "")
    assert isinstance(damaged, Miss)
    assert "is damaged" in damaged.reason
    of_another_abi = Bundle(made, replace(other.index, cuda_abi=99))
    assert of_another_abi.find_operator("3.3.1 (def)", "") == damaged
    miss = of_another_abi.find_operator("3.3.1 (def)", "", cuda=True)
    assert "version 99 of the CUDA kernel ABI" in getattr(miss, "reason", "")


# ---- Making one ---------------------------------------------------------------------------------


def contents(folder: Path) -> dict[str, bytes]:
    return {
        str(path.relative_to(folder)): path.read_bytes() if path.is_file() else b""
        for path in folder.rglob("*")
    }


def test_equal_bundles_are_equal_to_the_last_byte(made: Path, tmp_path: Path) -> None:
    again = tmp_path / "another place" / "with a longer name"
    for cpus in (("native", *LEVELS[1:]), LEVELS[:2]):  # in another order, and in two goes
        rc.aot(again, kernels=[NAME], cpus=cpus, operator=False, jobs=1)
    assert contents(again) == contents(made)


def test_nothing_is_made_twice(bundle: Path) -> None:
    before = contents(bundle)
    result = rc.aot(bundle, kernels=[NAME], cpus=LEVELS, operator=False)
    assert (result.compiled, result.variants) == (0, 4)
    assert contents(bundle) == before


SLOW = "case \" $* \" in *v4*) echo $$ > '{file}'; sleep 60;; esac"


def test_what_was_killed_goes_on_where_it_was(bundle: Path, only: Config, tmp_path: Path) -> None:
    before = contents(bundle)
    pid_file = tmp_path / "slow"
    cc = make_compiler(tmp_path / "cc", before=SLOW.format(file=pid_file))
    # Another compiler, hence other keys.
    command = [sys.executable, "-m", "radam_codegen.cli", "aot", "--kernel", NAME, "--no-operator"]
    env = {**os.environ, "CC": str(cc.path)}
    process = subprocess.Popen(
        [*command, "--jobs", "1", "--out", str(bundle)], env=env, stdout=subprocess.DEVNULL
    )
    try:
        for _ in range(600):
            if pid_file.exists() and pid_file.read_text().strip():
                break
            time.sleep(0.05)
        slow = int(pid_file.read_text())
    finally:
        process.send_signal(signal.SIGKILL)
        process.wait()
    os.killpg(os.getpgid(slow), signal.SIGKILL)
    # Readers see what there was.
    assert {name: contents(bundle)[name] for name in before} == before
    assert build_kernel(source_of(), only).library.parent == entry(bundle, "native")
    assert any(path.name.startswith(".new-") for path in (bundle / "kernels").iterdir())

    monkey = make_compiler(tmp_path / "cc", before=SLOW.format(file=pid_file).replace("60", "0"))
    assert monkey.path == cc.path
    done = subprocess.run(
        [*command, "--out", str(bundle)], env=env, capture_output=True, text=True, check=True
    )
    assert done.stdout.count(": compiled") == 3
    assert not [path for path in bundle.rglob("*") if path.name.startswith(".")]


def test_one_failure_leaves_the_rest(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    fails = 'case " $* " in *v3*) echo "kernel.c:7:1: error: out of ideas" >&2; exit 1;; esac'
    monkeypatch.setenv("CC", str(make_compiler(tmp_path / "cc", before=fails).path))
    result = rc.aot(tmp_path / "b", kernels=[NAME, OTHER], operator=False)
    assert not result.good
    assert [(each.name, each.cpu) for each in result.failures] == [
        (NAME, "x86-64-v3"),
        (OTHER, "x86-64-v3"),
    ]
    assert "out of ideas" in result.failures[0].message
    (log,) = re.findall(r"^  log: (\S+)", result.failures[0].message, re.M)
    assert Path(log).is_file()
    kernels = open_bundle(tmp_path / "b").index.kernels
    assert [each.cpu for each in kernels[NAME].variants] == ["x86-64-v1", "x86-64-v4"]
    assert result.kernels == (NAME, OTHER)

    monkeypatch.delenv("CC")
    assert rc.aot(tmp_path / "b", kernels=[NAME, OTHER], operator=False).good
    assert not (tmp_path / "b" / "failed").exists()


def test_two_at_once_add_to_one_bundle(tmp_path: Path) -> None:
    processes = [
        subprocess.Popen(
            [
                *(sys.executable, "-m", "radam_codegen.cli", "aot", "--no-operator"),
                *("--kernel", name, "--cpu", "x86-64-v3", "--out", str(tmp_path / "b")),
            ],
            stdout=subprocess.DEVNULL,
        )
        for name in (NAME, OTHER)
    ]
    assert [process.wait() for process in processes] == [0, 0]
    assert sorted(open_bundle(tmp_path / "b").index.kernels) == [NAME, OTHER]


def test_a_bundle_that_is_being_made_is_waited_for_with_patience(
    bundle: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    import fcntl

    descriptor = os.open(bundle, os.O_RDONLY)
    fcntl.flock(descriptor, fcntl.LOCK_EX)
    try:
        monkeypatch.setenv("RADAM_CODEGEN_LOCK_TIMEOUT", "0.2")
        with pytest.raises(ArtifactError, match="Another `radam-codegen aot` has been writing"):
            rc.aot(bundle, kernels=[NAME], operator=False)
    finally:
        os.close(descriptor)


def test_a_folder_of_something_else_is_left_alone(tmp_path: Path) -> None:
    (tmp_path / "precious").write_text("text")
    with pytest.raises(ArtifactError, match="is no bundle, and not empty: it holds 'precious'"):
        rc.aot(tmp_path, kernels=[NAME], operator=False)
    assert [path.name for path in tmp_path.iterdir()] == ["precious"]
    with pytest.raises(ArtifactError, match="cannot be written"):
        rc.aot(tmp_path / "precious" / "below", kernels=[NAME], operator=False)
