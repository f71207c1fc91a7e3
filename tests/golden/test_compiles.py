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
from radam_codegen.toolchain.flags import KERNEL_FLAGS

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
    compile_all(compiler, (*flags, "-c"), [[path] for path in files])


def test_the_header_names_the_flags_that_are_used() -> None:
    said = C_TARGET.compile_line.split()
    used = {flag for flag in KERNEL_FLAGS if not flag.startswith("-W")}
    assert {word for word in said if word.startswith("-")} == used | {
        *("-march=native", "-I<include>", "-o", "-lm")
    }
    assert set(C_TARGET.flags) <= used


# ---- Assembly -----------------------------------------------------------------------------------


def assembly(structure: KernelStructure, folder: Path) -> str:
    (path,) = written(folder, [structure])
    command = ["gcc", *KERNEL_FLAGS, V3, *INCLUDE, "-S", "-o", "-", str(path)]
    return subprocess.run(
        [word for word in command if word != "-shared"],
        capture_output=True,
        text=True,
        check=True,
    ).stdout


def loops(text: str) -> list[list[str]]:
    """Instructions between each label and the last jump back to it, innermost loops only."""
    lines = [line.strip() for line in text.splitlines()]
    labels = {line[:-1]: at for at, line in enumerate(lines) if re.fullmatch(r"\.L\w+:", line)}
    spans = []
    for at, line in enumerate(lines):
        jump = re.match(r"j\w+\s+(\.L\w+)$", line)
        if jump and labels.get(jump.group(1), at) < at:
            spans.append((labels[jump.group(1)], at))
    innermost = [
        (first, last)
        for first, last in spans
        if not any(first <= a and b <= last and (a, b) != (first, last) for a, b in spans)
    ]
    return [
        [line for line in lines[first:last] if re.match(r"[a-z]\w*(\s|$)", line)]
        for first, last in innermost
    ]


def matching(loop: list[str], pattern: str) -> list[str]:
    return [line for line in loop if re.match(pattern, line)]


def vector_loops(text: str) -> list[list[str]]:
    """Innermost loops that take roots of vectors and divide vectors."""
    return [
        loop
        for loop in loops(text)
        if matching(loop, r"vsqrtp[sd]\s.*%ymm") and matching(loop, r"vdivp[sd]\s.*%ymm")
    ]


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
    main = vector_loops(text)
    assert main, "no loop takes roots and divides vectors"
    for loop in main:
        said = "\n".join(loop)
        assert not matching(loop, r"call"), said
        # Nothing but addresses and the counter is scalar.
        assert not matching(loop, r"v(mul|add|sub|div|sqrt|fn?m(add|sub)\d+)(ss|sd)\b"), said
        # Two moments, a square and the parameter; and the decay, where it is in the gradient.
        fused = matching(loop, r"vfn?m(add|sub)\d+ps\s.*%ymm")
        quotients = matching(loop, r"vdivps\s.*%ymm")
        assert len(fused) >= len(quotients) * (4 + (each.decay is not DecayKind.NONE)), said


@reads_assembly
@pytest.mark.parametrize("clip", [ClipKind.GLOBAL_NORM, ClipKind.NORM], ids=str)
def test_the_norm_is_summed_in_vectors_of_float64(clip: ClipKind, tmp_path: Path) -> None:
    each = classes_of(DType.FLOAT32)[0]
    text = assembly(KernelStructure(clip, False, (each,)), tmp_path)
    summing = [loop for loop in loops(text) if matching(loop, r"vcvtps2pd\s.*%ymm")]
    assert summing
    assert any(matching(loop, r"vaddpd\s.*%ymm") for loop in summing)
    assert not re.search(r"vfmadd\d+pd", text), "contracted, against the flags"


@reads_assembly
@pytest.mark.parametrize("clip", [ClipKind.NONE, ClipKind.VALUE], ids=str)
def test_the_loop_of_every_body_is_vectors(clip: ClipKind, tmp_path: Path) -> None:
    text = assembly(KernelStructure(clip, False, CLASSES), tmp_path)
    assert not re.search(r"\b(call|jmp)\s+(fmaf?|sqrtf?)\b", text), "a call into libm"
    assert len(vector_loops(text)) >= len(CLASSES)
