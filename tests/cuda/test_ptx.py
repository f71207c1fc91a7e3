"""What nvcc makes of generated CUDA, executed, and the C kernel agree to the last bit.

The PTX is run, which is what machine code is made from, and which GPUs that are newer than nvcc
compile for themselves. Architectures whose PTX is the same text are run once.
"""

from __future__ import annotations

import re
from collections.abc import Callable
from functools import cache
from pathlib import Path

import numpy as np
import pytest
from support.agreement import assert_bitwise
from support.cuda_build import ARCHITECTURES, build_for_all, ptx_for, ptx_in
from support.cuda_cases import (
    build_c,
    cuda_text,
    offsets_in_step,
    offsets_of_their_own,
    random_group,
    tensor_of,
)
from support.cuda_structures import QUICK
from support.kernel_runner import run_kernel
from support.plans import encode, random_arrays
from support.ptx.operations import compute
from support.ptx.reader import PtxError
from support.ptx.step import PtxKernel, run_step

from radam_codegen.ir.dtypes import DType
from radam_codegen.ir.interpret import storage_dtype
from radam_codegen.ir.plan import GroupPlan, KernelStructure, UpdatePlan
from radam_codegen.runtime import LoadedKernel

#: Around the lengths of packets and warps; what a block updates, and a chunk, and more.
SIZES = (0, 1, 2, 3, 5, 7, 8, 9, 15, 16, 17, 31, 33, 63, 65, 127, 257)
LONG = (4099, 16390)

BuildC = Callable[[KernelStructure], LoadedKernel]


@pytest.fixture(scope="module")
def c_kernel(tmp_path_factory: pytest.TempPathFactory) -> BuildC:
    folder = tmp_path_factory.mktemp("c")
    return cache(lambda structure: build_c(structure, folder))


def without_target(text: str) -> str:
    return re.sub(r"^\.target .*$", "", text, flags=re.M)


def rounded(lr: float, dtype: DType) -> float:
    bits = encode(np.array([lr]), dtype)
    if dtype is DType.BFLOAT16:
        return float((bits.astype(np.uint32) << 16).view(np.float32)[0])
    return float(bits.astype(storage_dtype(dtype))[0])


def assert_steps_agree(text: str, structure: KernelStructure, in_c: LoadedKernel) -> None:
    kernel = PtxKernel.read(text, cuda_text(structure))
    cases = [
        # Packets with a head and a tail; several launches; each number in another type.
        (1, LONG, offsets_in_step, DType.FLOAT64, False, {"most_tensors": 3}),
        (2, LONG[:1], offsets_of_their_own, DType.BFLOAT16, False, {"most_blocks": 2}),
        (3, (), offsets_in_step, DType.FLOAT16, True, {}),
    ]
    for seed, long, offsets, lr_dtype, found_inf, limits in cases:
        random = np.random.default_rng(seed)
        sizes = [*random.choice(SIZES, 2 * len(structure.classes)).tolist(), *long]
        group = random_group(structure, random, sizes)
        (arrays,) = random_arrays(UpdatePlan((group,)), seed, None, special=seed != 2)
        where = np.array(offsets(group, random))
        found = run_step(
            kernel, structure, group, arrays, 0.01, lr_dtype, found_inf, where, **limits
        )
        lr = rounded(0.01, lr_dtype)
        expected = run_kernel(in_c, structure, group, arrays, lr, found_inf, seed)
        assert_bitwise(UpdatePlan((group,)), [found], [expected])


def test_every_architecture_computes_what_c_does(
    built_structure: KernelStructure, c_kernel: BuildC
) -> None:
    found = ptx_in(build_for_all(built_structure))
    assert sorted(found) == list(ARCHITECTURES)
    for text in {without_target(each) for each in found.values()}:
        assert_steps_agree(text, built_structure, c_kernel(built_structure))


@pytest.mark.parametrize("architecture", [75, 80, 100])
def test_all_types_compute_what_c_does(
    wide_structure: KernelStructure, architecture: int, c_kernel: BuildC, tmp_path: Path
) -> None:
    text = ptx_for(wide_structure, architecture, tmp_path)
    assert_steps_agree(text, wide_structure, c_kernel(wide_structure))


def test_architectures_share_their_ptx() -> None:
    # So that to run one of a kind is to run them all.
    found = {each: without_target(text) for each, text in ptx_in(build_for_all(QUICK[0])).items()}
    assert found[80] == found[90]
    assert found[100] == found[120]


@pytest.mark.parametrize("dtype", ["f32", "f64"])
def test_comparisons_with_what_is_not_a_number(dtype: str) -> None:
    one, nan = np.array([1.0, np.nan, 1.0]), np.array([np.nan, np.nan, 1.0])
    for name in ("eq", "ne", "lt", "le", "gt", "ge"):
        equal = name in ("eq", "le", "ge")
        for suffix, with_nan in (("", False), ("u", True)):
            known = compute(["setp", name + suffix, dtype])
            assert known is not None
            assert known[0](one, nan).tolist() == [with_nan, with_nan, equal], name + suffix
    assert compute(["setp", "gtu", "s32"]) is None


def changed_step(pattern: str, by: str, offsets: list[list[int]] | None = None) -> None:
    """A step of a kernel in which some instructions are others."""
    structure = QUICK[2]
    text, changes = re.subn(pattern, by, ptx_in(build_for_all(structure))[90])
    assert changes
    kernel = PtxKernel.read(text, cuda_text(structure))
    group = GroupPlan((tensor_of(0, structure.classes[0], 700),), skip=True)
    (arrays,) = random_arrays(UpdatePlan((group,)), 1)
    where = None if offsets is None else np.array(offsets)
    run_step(kernel, structure, group, arrays, 0.1, offsets=where)


@pytest.mark.parametrize(
    ("pattern", "by", "message"),
    [
        (r"sqrt\.rn\.f64", "sqrt.approx.ftz.f64", r"sqrt\.approx.*\n.*instruction is not known"),
        (r"fma\.rn\.f64", "fma.rz.f64", r"fma\.rz.*\n.*instruction is not known"),
        (r"bar\.sync 0", "bar.sync 1", r"bar\.sync.*\n.*instruction is not known"),
        (r"shl\.b64 %rd", "shl.b64 %x", r"shl\.b64.*\n.*is no register"),
        (r"\.reg \.pred", ".reg .v4", r"\.reg.*\nnothing is known of such a line"),
    ],
    ids=["approximation", "rounding", "barrier", "register", "declaration"],
)
def test_what_is_not_known_is_refused_with_its_line(pattern: str, by: str, message: str) -> None:
    with pytest.raises(PtxError, match=rf"line \d+: {message}"):
        changed_step(pattern, by)


def test_an_address_that_is_not_even_enough_is_refused() -> None:
    # Without its question for the address, a kernel moves packets from anywhere.
    with pytest.raises(PtxError, match=r"global\.v2.*\n.*no multiple of 16"):
        changed_step(r"(and\.b64 %rd\d+, %rd\d+, )15;", r"\g<1>0;", [[0, 1, 0, 0, 0]])


def test_another_result_is_seen(c_kernel: BuildC) -> None:
    text = ptx_in(build_for_all(QUICK[2]))[90]
    # The last fma of a packet's second element takes its third operand from the first one.
    fused = re.findall(r"fma\.rn\.f64 (%fd\d+), %fd\d+, %fd\d+, (%fd\d+);", text)
    (one, first), (_, second) = fused[-3], fused[-2]
    assert first != second
    changed = re.sub(rf"(fma\.rn\.f64 {one}, .*), {first};", rf"\1, {second};", text)
    with pytest.raises(AssertionError, match="group 0"):
        assert_steps_agree(changed, QUICK[2], c_kernel(QUICK[2]))


def test_an_access_beside_an_array_is_refused() -> None:
    with pytest.raises(PtxError, match="accesses what is no array"):
        changed_step(r"min\.s64", "max.s64")
