"""Rendered kernels compile without a warning, and to the instructions that they should."""

from __future__ import annotations

import platform
import re
import shutil
import subprocess
from collections.abc import Iterable
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import pytest
from support.structures import CLASSES, SAMPLE, every_structure

from radam_codegen._resources import include_dir
from radam_codegen.codegen import C_TARGET, render
from radam_codegen.ir.dtypes import DType
from radam_codegen.ir.plan import ClipKind, DecayKind, KernelStructure, TensorClass
from radam_codegen.passes import lower_structure
from radam_codegen.toolchain.flags import KERNEL_FLAGS, compile_only
from radam_codegen.tools.inspect.assembly import HotLoop, hot_loops
from radam_codegen.tools.inspect.listing import read_assembly
from radam_codegen.tools.inspect.traffic import floor_of
from radam_codegen.tools.inspect.x86 import access

pytestmark = pytest.mark.runs_no_kernel

STRICT = ("-std=c11", "-Wall", "-Wextra", "-Wconversion", "-Wshadow", "-Werror")
INCLUDE = ("-I", str(include_dir()))
V3 = "-march=x86-64-v3"

reads_assembly = pytest.mark.skipif(
    platform.machine() != "x86_64" or shutil.which("gcc") is None,
    reason="reads what gcc makes for x86-64",
)


def written(folder: Path, structures: Iterable[KernelStructure]) -> list[Path]:
    paths = []
    for number, structure in enumerate(structures):
        path = folder / f"kernel_{number}.c"
        path.write_text(render(lower_structure(structure)).text, encoding="utf-8")
        paths.append(path)
    return paths


def compile_all(compiler: str, flags: Iterable[str], batches: Iterable[list[Path]]) -> None:
    def run(paths: list[Path]) -> str:
        command = [compiler, *flags, *INCLUDE, *map(str, paths)]
        done = subprocess.run(
            command, capture_output=True, text=True, check=False, cwd=paths[0].parent
        )
        return done.stderr if done.returncode else ""

    with ThreadPoolExecutor(2) as pool:
        failures = [failure for failure in pool.map(run, batches) if failure]
    assert not failures, failures[0]


@pytest.fixture(params=["gcc", "clang"])
def compiler(request: pytest.FixtureRequest) -> str:
    if shutil.which(request.param) is None:
        pytest.skip(f"there is no {request.param} here")
    return str(request.param)


@pytest.fixture(scope="module")
def every_file(tmp_path_factory: pytest.TempPathFactory) -> list[Path]:
    return written(tmp_path_factory.mktemp("every"), every_structure())


def test_every_structure_without_a_warning(compiler: str, every_file: list[Path]) -> None:
    batches = [every_file[first::16] for first in range(16)]
    compile_all(compiler, (*STRICT, "-fsyntax-only"), batches)


@pytest.mark.parametrize("level", ["-O0", "-O3"])
def test_several_bodies_without_a_warning(compiler: str, level: str, tmp_path: Path) -> None:
    files = written(tmp_path, SAMPLE[2:])
    flags = (*STRICT, *KERNEL_FLAGS, level, "-march=native")
    compile_all(compiler, (*compile_only(flags), "-c"), [[path] for path in files])


def test_the_header_names_the_flags_that_are_used() -> None:
    said = C_TARGET.compile_line.split()
    used = {flag for flag in KERNEL_FLAGS if not flag.startswith("-W")}
    assert {word for word in said if word.startswith("-")} == used | {
        *("-march=native", "-I<include>", "-o", "-lm")
    }
    assert set(C_TARGET.flags) <= used


# ---- Assembly -----------------------------------------------------------------------------------


def assembly(structure: KernelStructure, folder: Path, *more: str) -> str:
    (path,) = written(folder, [structure])
    flags = (*compile_only(KERNEL_FLAGS), *(more or (V3,)))
    command = ["gcc", *flags, *INCLUDE, "-S", "-o", "-", str(path)]
    return subprocess.run(command, capture_output=True, text=True, check=True).stdout


def loops_of(text: str, *classes: TensorClass) -> list[HotLoop]:
    """The loops over elements that compute in vectors."""
    found = hot_loops(read_assembly(text), [each.name for each in classes])
    return [loop for loop in found if loop.counts.vector_bits]


def reads_after_writing(loop: HotLoop) -> bool:
    """Whether an iteration reads an array after it has written one, which may end alike."""
    accesses = [access(each) for each in loop.instructions]
    of_arrays = [each for each in accesses if each and each.base not in ("%rsp", "%rbp", "%rip")]
    stores = [each.stores for each in of_arrays]
    return any(each.loads for each in of_arrays[stores.index(True) :])


def classes_of(dtype: DType) -> list[TensorClass]:
    return [each for each in CLASSES if each.param_dtype is dtype and each.grad_dtype is dtype]


@reads_assembly
@pytest.mark.parametrize("clip", ClipKind)
@pytest.mark.parametrize("each", classes_of(DType.FLOAT32), ids=lambda each: str(each.decay))
def test_the_float32_loop_is_vectors_of_fma_sqrt_and_div(
    clip: ClipKind, each: TensorClass, tmp_path: Path
) -> None:
    structure = KernelStructure(clip, False, (each,))
    text = assembly(structure, tmp_path)
    assert not re.search(r"\b(call|jmp)\s+(fmaf?|sqrtf?)\b", text), "a call into libm"
    main = [loop for loop in loops_of(text, each) if loop.phase == "each"]
    assert main, "no loop takes roots and divides vectors"
    for loop in main:
        said = "\n".join(map(str, loop.instructions))
        counts = loop.counts
        assert counts.vector_bits == 256, said
        assert counts.calls == (), said
        # One of the tensor's scalars may find no register: 16 are few for gradients, moments,
        # parameters, constants and eight scalars.
        assert counts.spill_loads <= 1, said
        assert counts.spill_stores == 0, said
        assert counts.bytes_per_element == floor_of(each, clip).each == 28, said
        # Nothing but addresses and the counter is scalar.
        assert not re.search(r"^v(mul|add|sub|div|sqrt|fn?m(add|sub)\d+)(ss|sd)\b", said, re.M), (
            said
        )
        assert not reads_after_writing(loop), said
        # Two moments, a square and the parameter; and the decay, where it is in the gradient.
        assert counts.sqrt == counts.div > 0, said
        assert counts.fma >= counts.div * (4 + (each.decay is not DecayKind.NONE)), said


@reads_assembly
@pytest.mark.parametrize("clip", [ClipKind.GLOBAL_NORM, ClipKind.NORM], ids=str)
def test_the_norm_is_summed_in_vectors_of_float64(clip: ClipKind, tmp_path: Path) -> None:
    each = classes_of(DType.FLOAT32)[0]
    text = assembly(KernelStructure(clip, False, (each,)), tmp_path)
    summing = [loop.counts for loop in loops_of(text, each) if loop.phase == "reduce"]
    assert summing
    assert {counts.vector_bits for counts in summing} == {256}
    assert {counts.bytes_per_element for counts in summing} == {4}
    assert not re.search(r"vfmadd\d+pd", text), "contracted, against the flags"


@reads_assembly
@pytest.mark.parametrize("clip", [ClipKind.NONE, ClipKind.VALUE], ids=str)
def test_the_loop_of_every_body_is_vectors(clip: ClipKind, tmp_path: Path) -> None:
    text = assembly(KernelStructure(clip, False, CLASSES), tmp_path)
    assert not re.search(r"\b(call|jmp)\s+(fmaf?|sqrtf?)\b", text), "a call into libm"
    assert len(loops_of(text, *CLASSES)) >= len(CLASSES)


# ---- CPUs without fma ---------------------------------------------------------------------------


@pytest.fixture(scope="module", params=["x86-64", "x86-64-v2"])
def without_fma(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> str:
    """Every type and decay of tensors that are computed in float32, for a CPU without fma."""
    folder = tmp_path_factory.mktemp("old")
    structure = KernelStructure(ClipKind.GLOBAL_NORM, False, OLD_CLASSES)
    return assembly(structure, folder, f"-march={request.param}", "-DRADAM_CODEGEN_NO_FMA")


#: A third of the classes, with every pair of types and every decay among them.
OLD_CLASSES = tuple(each for each in CLASSES if each.moment_dtype is DType.FLOAT32)[::3]


def test_the_old_classes_have_everything() -> None:
    computed = [each for each in CLASSES if each.moment_dtype is DType.FLOAT32]
    for field in ("param_dtype", "grad_dtype", "master", "decay"):
        assert {getattr(each, field) for each in OLD_CLASSES} == {
            getattr(each, field) for each in computed
        }


@reads_assembly
def test_no_old_cpu_calls_libm_for_an_element(without_fma: str) -> None:
    assert not re.search(r"\b(call|jmp)q?\s+\*?\w*(fma|sqrt)", without_fma)
    assert "vfmadd" not in without_fma


@reads_assembly
def test_old_cpus_have_vectors_for_every_body(without_fma: str) -> None:
    found = loops_of(without_fma, *OLD_CLASSES)
    gradients = {each.grad_dtype for each in OLD_CLASSES}
    # Sums over gradients of one type may share their code.
    for phase, least in (("each", len(OLD_CLASSES)), ("reduce", len(gradients))):
        loops = [loop for loop in found if loop.phase == phase and loop.counts.elements >= 4]
        assert {loop.counts.vector_bits for loop in loops} == {128}
        assert len(loops) >= least
    for loop in (loop for loop in found if loop.phase == "each"):
        said = "\n".join(map(str, loop.instructions))
        # Four fma, and a fifth for decay: each has two products of two float64, and as many sums.
        assert said.count("mulpd") >= 2 * 4, said
        assert said.count("addpd") >= 2 * 4, said
        assert not re.search(r"^(mul|add|sub|div|sqrt|cvt\w+2)(ss|sd)\b", said, re.M), said


@reads_assembly
@pytest.mark.parametrize("level", ["-march=x86-64", "-march=x86-64-v2"])
def test_code_for_any_cpu_has_the_instruction_beside_it(level: str, tmp_path: Path) -> None:
    structure = KernelStructure(ClipKind.GLOBAL_NORM, False, OLD_CLASSES)
    text = assembly(structure, tmp_path, level)
    assert not re.search(r"\b(call|jmp)q?\s+\*?(fmaf?|sqrtf?)\b", text), "a call into libm"
    found = [loop for loop in loops_of(text, *OLD_CLASSES) if loop.phase == "each"]
    wide = [loop for loop in found if loop.counts.vector_bits == 256]
    assert len(wide) >= len(OLD_CLASSES)
    assert len(found) >= 2 * len(OLD_CLASSES)
    for loop in wide:
        said = "\n".join(map(str, loop.instructions))
        assert len(re.findall(r"\bvfn?m(?:add|sub)\d+ps\b", said)) >= 4


@reads_assembly
@pytest.mark.parametrize("level", ["-march=x86-64-v3", "-march=x86-64-v4"])
@pytest.mark.parametrize("dtype", [DType.FLOAT32, DType.FLOAT64], ids=str)
def test_where_there_is_an_instruction_it_is_used(dtype: DType, level: str, tmp_path: Path) -> None:
    structure = KernelStructure(ClipKind.NONE, False, (classes_of(dtype)[0],))
    text = assembly(structure, tmp_path, level)
    kind = "ps" if dtype is DType.FLOAT32 else "pd"
    assert len(re.findall(rf"\bvfn?m(?:add|sub)\d+{kind}\b", text)) >= 4
    assert "fma" not in re.sub(r"\bvfn?m\w+", "", text.replace("radam", ""))
    # Nor is there anything of what does without.
    assert not re.search(r"\bvcvt(ps2pd|pd2ps)\b|\bvpsrlq\b", text)
