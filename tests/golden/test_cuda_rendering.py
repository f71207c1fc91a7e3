"""Rendered CUDA: kept texts, and what every structure's text has and has not."""

from __future__ import annotations

import hashlib
import re
from collections.abc import Iterator

import pytest
from golden.test_texts import FULL, PLAIN
from support.golden import assert_golden, without_hashes
from support.structures import SAMPLE, every_structure

from radam_codegen._resources import templates_dir
from radam_codegen.codegen import CUDA_TARGET, render
from radam_codegen.ir.dtypes import DType
from radam_codegen.ir.plan import ClipKind, DecayKind, KernelStructure, TensorClass
from radam_codegen.passes import lower_structure
from radam_codegen.toolchain.cuda.kernel import CUDA_KERNEL_FLAGS

F64 = DType.FLOAT64
NORM = KernelStructure(ClipKind.NORM, False, (TensorClass(F64, F64, F64, False, DecayKind.L2),))

#: What CUDA writes where C has an operator or a function of its library.
INTRINSICS = {"div": r" = __[fd]div_rn\(", "sqrt": r" = __[fd]sqrt_rn\(", "fma": r" = __fmaf?_rn\("}
#: Waits, memory, output, and arithmetic that is not what IEEE says.
FORBIDDEN = re.compile(
    r"atomic|printf|\bassert\(|\basm\b|cudaMalloc|cudaFree|cudaMemcpy|cudaMemset|Synchronize|"
    r"cudaStreamWait|\bnew\b|\bmalloc\b|__fdividef|__frcp|__frsqrt|\brsqrt|\bpowf?\(|__powf|"
    r"__expf|use_fast_math|\bfmaf?\(|\bsqrtf?\("
)


def text_of(structure: KernelStructure) -> str:
    return render(lower_structure(structure), CUDA_TARGET).text


def code_of(text: str) -> str:
    """A text without its comments, preprocessor lines, and what runs on the host."""
    device = text[: text.index("/* A kernel, how it cuts tensors into parts")]
    return re.sub(r"/\*.*?\*/|^#.*?$", "", device, flags=re.S | re.M)


@pytest.mark.parametrize("structure", [PLAIN, FULL, NORM], ids=lambda each: each.name)
def test_rendered_cuda(structure: KernelStructure) -> None:
    assert_golden(f"{structure.name}.cu", without_hashes(text_of(structure)))


def statements(text: str) -> list[tuple[str, str, str]]:
    """Type, name and comment of each operation that defines something; of stores, the array.

    Once each, stores last, as C has them; CUDA has them where the IR does, into registers.
    """
    return sorted(dict.fromkeys(_statements(text)), key=lambda each: each[0] == "")


def _statements(text: str) -> Iterator[tuple[str, str, str]]:
    for line in text.splitlines():
        found = re.fullmatch(
            r" +(?:const (\w+) (\w+) = .*;|(\w+_at)\[i\] = .*;) /\* (.*) \*/", line
        )
        if found:
            yield found.group(1) or "", found.group(2) or found.group(3), found.group(4)


def test_every_structure_does_what_its_c_does_and_nothing_forbidden() -> None:
    for structure in every_structure():
        if structure.skip:  # which is seen to below, and changes nothing else
            continue
        ir = lower_structure(structure)
        text = render(ir, CUDA_TARGET).text
        # C sums in a loop and in what is left of it; in CUDA both call a function.
        assert statements(text) == statements(render(ir).text), structure.name
        assert not FORBIDDEN.findall(code_of(text)), structure.name
        for kind, intrinsic in INTRINSICS.items():
            lines = [line for line in text.splitlines() if re.search(rf"/\* {kind}\b", line)]
            assert all(re.search(intrinsic, line) for line in lines), structure.name
        assert text.isascii()
        assert text.endswith("}\n")
        assert not re.search(r"[ \t]$", text, re.M)


def test_kernels_are_those_that_are_launched() -> None:
    for structure in SAMPLE:
        text = text_of(structure)
        defined = re.findall(r"^(radam_codegen_\w+)\(const __grid_constant__", text, re.M)
        table = text[text.index("static const phase phases[]") :]
        launched = re.findall(r"^    \{(radam_codegen_\w+),", table, re.M)
        assert defined == launched
        assert len(defined) == (4 if structure.clip in (ClipKind.GLOBAL_NORM, ClipKind.NORM) else 2)
        # A step that must be skipped ends before each of them.
        assert text.count("*group.found_inf != 0") == (len(defined) if structure.skip else 0)


def test_the_header_names_what_it_was_made_from() -> None:
    header = text_of(PLAIN).split("*/", 1)[0]
    assert CUDA_TARGET.compile_line in header
    assert set(CUDA_TARGET.flags) <= set(CUDA_KERNEL_FLAGS)
    listed = dict(
        reversed(found)
        for found in re.findall(r"template  sha256 ([0-9a-f]{64}) (\S+)$", header, re.M)
    )
    assert listed == {
        path.relative_to(templates_dir()).as_posix(): hashlib.sha256(path.read_bytes()).hexdigest()
        for folder in ("cuda", "shared")
        for path in (templates_dir() / folder).glob("*.j2")
    }
