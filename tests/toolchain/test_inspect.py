"""Looking into kernels: plans, entries of the cache, folders, names."""

from __future__ import annotations

import io
import json
import os
import shutil
import tempfile
from collections.abc import Iterable
from dataclasses import replace
from pathlib import Path

import pytest
from rich.console import Console
from support.other_cpus import CPUS, LEVELS, make_compilers, multiplies_and_adds
from support.structures import SAMPLE

import radam_codegen as rc
from radam_codegen.codegen import render
from radam_codegen.config import Config
from radam_codegen.errors import ArgumentError, PlanError
from radam_codegen.ir.dtypes import DType, Rate
from radam_codegen.ir.group import GroupIR
from radam_codegen.ir.ops import OpKind
from radam_codegen.ir.plan import (
    Clip,
    ClipKind,
    Decay,
    DecayKind,
    GroupPlan,
    KernelStructure,
    TensorPlan,
    UpdatePlan,
)
from radam_codegen.ir.printer import format_op
from radam_codegen.passes import PASSES, lower_structure
from radam_codegen.toolchain.compiler import find_c_compiler
from radam_codegen.toolchain.kernel import build_kernel, kernel_recipe
from radam_codegen.toolchain.manifest import read_manifest, write_manifest
from radam_codegen.toolchain.recipe import obtain
from radam_codegen.tools.inspect.report import SECTIONS, blocks, plain_text
from radam_codegen.tools.inspect.run import inspect
from radam_codegen.tools.inspect.source_map import SourceLine, map_source
from radam_codegen.tools.inspect.terminal import show

pytestmark = pytest.mark.runs_no_kernel

F32, BF16 = DType.FLOAT32, DType.BFLOAT16
PLAN = UpdatePlan(
    (
        GroupPlan(
            (
                TensorPlan("w\x1b[31m", (3, 4), F32, F32, F32, decay=Decay(DecayKind.L2, 0.25)),
                TensorPlan("[red]b", (4,), BF16, F32, F32, master=True),
            ),
            clip=Clip(ClipKind.GLOBAL_NORM, 1.0),
        ),
        GroupPlan((TensorPlan("v", (), F32, F32, F32),)),
        GroupPlan((TensorPlan("u", (7,), F32, F32, F32),), beta1=0.5),
    )
)
MIXED, PLAIN = (PLAN.groups[at].structure for at in (0, 1))

needs_x86 = pytest.mark.skipif(
    os.uname().machine != "x86_64" or shutil.which("objdump") is None,
    reason="reads instructions of x86-64, by objdump",
)


@pytest.fixture(scope="module")
def config(tmp_path_factory: pytest.TempPathFactory) -> Config:
    """Settings whose cache holds both kernels of the plan."""
    config = Config(cache_dir=tmp_path_factory.mktemp("cache"), num_threads=1, cc="gcc")
    for structure in (MIXED, PLAIN):
        build_kernel(render(lower_structure(structure)), config)
    return config


@pytest.fixture(scope="module")
def key(config: Config) -> str:
    """The key of the plain kernel."""
    return next(
        path.name
        for path in (config.cache_dir / "kernels").iterdir()
        if not path.name.startswith(".") and read_manifest(path)["build"]["name"] == PLAIN.name
    )


@pytest.fixture
def entry(config: Config, key: str, tmp_path: Path) -> Path:
    """A copy of the plain kernel's entry, in a folder of kernels."""
    return Path(shutil.copytree(config.cache_dir / "kernels" / key, tmp_path / "kernels" / key))


# ---- Targets ------------------------------------------------------------------------------------


def test_a_plan_is_its_kernels_each_once(tmp_path: Path) -> None:
    path = tmp_path / "plan.json"
    path.write_text(PLAN.to_json())
    for target in (path, str(path), str(path.with_suffix("")), PLAN):
        found = inspect(target)
        assert found.kind == "plan"
        assert [each.structure for each in found.kernels] == [MIXED, PLAIN]
        assert found.numbers[0].text == str(PLAN)
        assert found.numbers[0].kernels == (MIXED.name, PLAIN.name, PLAIN.name)


def test_an_entry_is_found_by_its_key_and_by_how_it_begins(config: Config, key: str) -> None:
    folder = config.cache_dir / "kernels" / key
    for target in (key, key[:6], folder):
        found = inspect(target, config=config)
        assert found.kind == "entry"
        (kernel,) = found.kernels
        assert kernel.entry is not None
        assert (kernel.structure, kernel.entry.key, kernel.entry.fault) == (PLAIN, key, None)
        assert "version" in kernel.entry.compiler
        assert kernel.source.as_rendered
    with pytest.raises(ArgumentError, match="has a key that begins with"):
        inspect("0123456789abcdef", config=config)


def test_a_folder_is_all_its_kernels(config: Config) -> None:
    found = inspect(config.cache_dir, config=config)
    assert found.kind == "bundle"
    assert [each.name for each in found.kernels] == sorted([MIXED.name, PLAIN.name])
    assert found.problems == ()


def test_a_folder_shows_what_can_be_shown(entry: Path) -> None:
    (entry.parent / "empty").mkdir()
    plans = entry.parents[1] / "plans"
    plans.mkdir()
    (plans / "main.json").write_text(PLAN.to_json())
    (plans / "bad.json").write_text("{")
    found = inspect(entry.parents[1])
    assert [each.structure for each in found.kernels] == [PLAIN]
    assert [each.title for each in found.numbers] == ["plans/main.json"]
    assert len(found.problems) == 2
    assert "empty" in found.problems[0]
    assert "bad.json" in found.problems[1]
    assert "not shown:" in str(found)


def test_a_kernel_of_several_is_picked(config: Config, key: str) -> None:
    for name in (PLAIN.name, key[:6]):
        found = inspect(config.cache_dir, kernel=name, config=config)
        assert [each.structure for each in found.kernels] == [PLAIN]
    with pytest.raises(ArgumentError, match=f"there are {MIXED.name}, {PLAIN.name}"):
        inspect(PLAN, kernel="other")


def test_a_name_is_a_kernel() -> None:
    found = rc.inspect(MIXED.name)
    assert (found.kind, found.kernels[0].structure) == ("name", MIXED)
    with pytest.raises(PlanError, match="'f32_l3' is no class of tensors"):
        inspect("radam_no_clip__f32_l3")


def test_an_empty_plan_has_no_kernels() -> None:
    assert inspect(UpdatePlan(())).kernels == ()


# ---- What is found ------------------------------------------------------------------------------


def test_the_stages_are_the_passes() -> None:
    (kernel,) = inspect(MIXED.name).kernels
    assert [each.name for each in kernel.stages] == ["build", *(each.name for each in PASSES)]
    assert all(each.summary for each in kernel.stages)
    assert kernel.stages[-1].text == str(lower_structure(MIXED))
    texts = [each.text for each in kernel.stages]
    changed = [True, *(after != before for before, after in zip(texts, texts[1:]))]
    assert [each.changed for each in kernel.stages] == changed


def test_bytes_are_held_against_the_floor() -> None:
    found = {each.body: each for each in inspect(MIXED.name).kernels[0].traffic}
    # bfloat16: written; float32 each: gradient read twice, master and moments read and written.
    assert found["bf16_grad_f32_master_no_decay"].floor.total == 2 + 2 * 4 + 6 * 4
    assert found["f32_l2"].floor.total == 4 + 28
    assert all(each.ir == each.floor for each in found.values())


@pytest.mark.parametrize("structure", SAMPLE, ids=lambda each: each.name[:50])
def test_every_operation_has_its_line(structure: KernelStructure) -> None:
    ir = lower_structure(structure)
    lines = map_source(render(ir).text, ir)
    assert operations(lines) == expected(ir)


def test_every_operation_on_elements_has_its_line_in_cuda() -> None:
    (kernel,) = inspect(MIXED.name, language="cuda").kernels
    assert kernel.source.language == "cuda"
    wanted = {each for each in expected(kernel.ir) if each[0] == "each"}
    assert operations(kernel.source.lines) >= wanted
    with pytest.raises(ArgumentError, match="language is 'hip', but must be c or cuda"):
        inspect(MIXED.name, language="hip")


def operations(lines: Iterable[SourceLine]) -> set[tuple[str | None, str | None, str]]:
    """Phase, class and text of every operation that has a line."""
    return {(line.phase, line.body, line.op) for line in lines if line.op is not None}


def expected(ir: GroupIR) -> set[tuple[str | None, str | None, str]]:
    """The same of every operation that should have one."""
    found: set[tuple[str | None, str | None, str]] = set()
    for body in ir.bodies:
        for phase in ("reduce", "scalar", "each"):
            for op in getattr(body, phase):
                if op.kind is OpKind.CONST:
                    continue  # written where it is used
                shared = phase == "scalar" and (
                    op.result is None or op.result.rate < Rate.TENSOR or op.kind is OpKind.SUM_GROUP
                )
                name = None if shared else body.tensor_class.name
                found.add((phase, name, format_op(op)))
    return found


def test_a_source_of_another_version_speaks_for_itself(entry: Path) -> None:
    source = (entry / "kernel.c").read_text()
    changed = source.replace("IR        sha256 ", "IR        sha256 0")
    changed = changed.replace("/* store param", "/* store param \x1b[2J[red]")
    rewritten(entry, changed)
    found = inspect(entry)
    (kernel,) = found.kernels
    assert kernel.entry is not None
    assert kernel.entry.fault is None
    assert not kernel.source.as_rendered
    ops = [line.op for line in kernel.source.lines if line.op is not None]
    assert r"store param \x1b[2J[red]: theta_t" in ops
    assert "NOT as this version renders it" in str(found)
    assert "\x1b" not in plain_text(found, ["source"])


def test_a_source_without_end_takes_no_time(entry: Path) -> None:
    lines = ["static int f(", "{", " " * 500_000, "/* a" * 500_000, "static " + "x" * 500_000, "}"]
    rewritten(entry, "\n".join(lines))
    (kernel,) = inspect(entry).kernels
    assert len(kernel.source.lines) == len(lines)
    assert {line.op for line in kernel.source.lines} == {None}


def rewritten(entry: Path, source: str | None = None, **facts: object) -> None:
    build = read_manifest(entry)["build"]
    if source is not None:
        (entry / "kernel.c").write_text(source)
    write_manifest(entry, entry.name, {**build, **facts})


def test_a_damaged_file_is_said(entry: Path) -> None:
    library = entry / "kernel.so"
    content = bytearray(library.read_bytes())
    content[-1] ^= 1
    library.write_bytes(content)
    found = inspect(entry, assembly=True)
    assert found.kernels[0].entry is not None
    assert "kernel.so is not as it was built" in str(found.kernels[0].entry.fault)
    assert "kernel.so is not as it was built" in str(found)


# ---- Machine code -------------------------------------------------------------------------------


def folder_of(structure: KernelStructure, config: Config, cpu: str) -> Path:
    """The entry of a kernel for a CPU, which need not be the one here."""
    source = render(lower_structure(structure))
    recipe = kernel_recipe(source, find_c_compiler(config.cc), config.cache_dir, cpu)
    return obtain(recipe, config).library.parent


@needs_x86
@pytest.mark.parametrize("cpu", ["native", *LEVELS])
@pytest.mark.parametrize("structure", [MIXED, PLAIN], ids=["mixed", "plain"])
def test_the_library_is_read_and_its_lines_are_known(
    structure: KernelStructure, cpu: str, config: Config
) -> None:
    folder = folder_of(structure, config, cpu)
    (kernel,) = inspect(folder, assembly=True, config=config).kernels
    assembly = kernel.assembly
    assert assembly is not None
    assert assembly.origin == "From the library, by objdump."
    floors = {each.body: each.floor for each in kernel.traffic}
    wanted = {
        (phase, each.name)
        for each in kernel.structure.classes
        for phase in ("reduce", "each")
        if phase == "each" or kernel.structure.clip is ClipKind.GLOBAL_NORM
    }
    main = {(loop.phase, loop.body) for loop in assembly.loops if loop.is_main}
    assert main | set(assembly.merged) == wanted
    assert {phase for phase, _ in assembly.merged} <= {"reduce"}
    for loop in assembly.loops:
        if loop.is_main and loop.counts.calls:  # one for every fma, where there is no instruction
            assert loop.phase == "each"
            assert not multiplies_and_adds(cpu)
            assert loop.counts.vector_bits == 0
            assert set(loop.counts.calls) == {"fmaf"}
        elif loop.is_main:
            assert loop.counts.vector_bits >= 128
            floor = getattr(floors[loop.body or ""], loop.phase)
            assert loop.counts.bytes_per_element == floor


@needs_x86
@pytest.mark.parametrize("cpu", ["native", *CPUS])
def test_a_compiler_alone_is_enough(
    cpu: str, config: Config, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    name = cpu if cpu in LEVELS else "native"
    compilers = tmp_path if cpu == "native" else make_compilers(tmp_path / "compilers", cpu)
    gcc = str(shutil.which("gcc", path=f"{compilers}{os.pathsep}{os.environ['PATH']}"))
    here = replace(config, cc=gcc)
    folder = folder_of(PLAIN, here, name)
    by_objdump = inspect(folder, assembly=True, config=here).kernels[0].assembly
    monkeypatch.setenv("PATH", str(tmp_path))
    by_compiler = inspect(folder, assembly=True, config=here).kernels[0].assembly
    assert by_objdump is not None
    assert by_compiler is not None
    assert by_objdump.origin == "From the library, by objdump."
    assert by_compiler.origin.startswith(f"Compiled for {name} by")
    assert by_compiler.loops
    assert [each.counts for each in by_compiler.loops] == [each.counts for each in by_objdump.loops]


@needs_x86
def test_objdump_alone_is_enough(config: Config, key: str) -> None:
    here = replace(config, cc="/no/compiler")
    assembly = inspect(key, assembly=True, config=here).kernels[0].assembly
    assert assembly is not None
    assert "without lines of the source: The C compiler '/no/compiler'" in assembly.origin
    assert [loop.body for loop in assembly.loops if loop.is_main] == ["f32_no_decay"]
    assert {each.line for loop in assembly.loops for each in loop.instructions} == {None}


def test_with_neither_the_reason_is_said(
    config: Config, key: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("PATH", str(tmp_path))
    here = replace(config, cc=None)
    for target in (key, PLAIN.name):
        found = inspect(target, assembly=True, config=here)
        assert found.kernels[0].assembly is not None
        assert found.kernels[0].assembly.loops == ()
        assert "No C compiler was found" in plain_text(found, ["asm"])


def test_a_full_disk_is_said(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(tempfile, "tempdir", "/dev/null/no/folder")
    assembly = inspect(PLAIN.name, assembly=True).kernels[0].assembly
    assert assembly is not None
    assert "No temporary folder can be written" in assembly.origin


@needs_x86
def test_other_machine_code_than_the_compiler_makes_has_no_lines(entry: Path) -> None:
    rewritten(entry, cpu="x86-64-v2" if multiplies_and_adds("native") else "x86-64-v3")
    assembly = inspect(entry, assembly=True).kernels[0].assembly
    assert assembly is not None
    assert "the compiler here makes other instructions" in assembly.origin
    assert assembly.loops


@needs_x86
@pytest.mark.parametrize(
    "cpu", ["-fplugin=/tmp/x.so", "native -wrapper sh", "\x1b[31m", "", "x" * 999]
)
def test_nothing_that_a_manifest_says_is_run(entry: Path, cpu: str, tmp_path: Path) -> None:
    rewritten(entry, cpu=cpu, command=["touch", str(tmp_path / "ran")])
    found = inspect(entry, assembly=True)
    assert found.kernels[0].assembly is not None
    assert found.kernels[0].assembly.loops
    assert not (tmp_path / "ran").exists()
    assert "\x1b" not in plain_text(found) + plain_text(found, ["asm"])


def test_a_library_of_another_machine_is_left_alone(entry: Path) -> None:
    library = entry / "kernel.so"
    content = bytearray(library.read_bytes())
    content[18:20] = b"\xb7\x00"  # aarch64
    library.write_bytes(content)
    assembly = inspect(entry, assembly=True).kernels[0].assembly
    assert assembly is not None
    assert "not for x86-64" in assembly.origin
    assert assembly.loops == ()


# ---- Showing ------------------------------------------------------------------------------------


def test_equal_input_gives_equal_text(config: Config) -> None:
    first, second = (inspect(config.cache_dir, assembly=True, config=config) for _ in range(2))
    assert first == second
    assert str(first) == str(second)
    assert plain_text(first, SECTIONS) == plain_text(second, SECTIONS)
    assert first.to_json() == second.to_json()


def test_json_holds_everything(config: Config, key: str) -> None:
    document = json.loads(inspect(key, assembly=True, config=config).to_json())
    (kernel,) = document["kernels"]
    assert kernel["entry"]["key"] == key
    assert len(kernel["stages"]) == 1 + len(PASSES)
    assert (
        "\n".join(line["text"] for line in kernel["source"]["lines"]) + "\n"
        == (config.cache_dir / "kernels" / key / "kernel.c").read_text()
    )
    if kernel["assembly"]["loops"]:
        loop = kernel["assembly"]["loops"][0]
        assert (loop["phase"], loop["main"], loop["bytes_per_element"]) == ("each", True, 28)


def test_names_are_shown_as_text() -> None:
    text = str(inspect(PLAN))
    assert "\x1b" not in text
    assert r'"w\u001b[31m"' in text
    assert '"[red]b"' in text


def test_a_terminal_shows_the_same_lines() -> None:
    found = inspect(PLAN)
    for sections in ([], *([each] for each in SECTIONS)):
        shown = list(blocks(found, sections))
        for width in (80, 1000):
            stream = io.StringIO()
            show(Console(file=stream, width=width, force_terminal=False), shown)
            output = stream.getvalue()
            if width == 80:
                assert max(map(len, output.splitlines())) <= 80 if output else True
            else:
                assert output.rstrip("\n") == plain_text(found, sections).rstrip("\n")
