"""What `radam-codegen inspect --asm` shows of CUDA kernels that nothing was compiled of yet."""

from __future__ import annotations

from dataclasses import replace

from support.nvcc import cuda_compiler

import radam_codegen as rc
from radam_codegen.config import current
from radam_codegen.tools.cuda.ptx import read_ptx

NAME = "radam_clip_norm__bf16_master_l2__f32_no_decay"

MODULE = """
.visible .entry radam_codegen_each(
\t.param .align 8 .b8 radam_codegen_each_param_0[8]
)
{
\t.reg .pred \t%p<3>;
\t.loc\t1 12 3
\tld.global.nc.v4.f32 \t{%f1, %f2, %f3, %f4}, [%rd1];
$L__BB0_1:
\t.loc\t2 7 3, function_name $L__info_string0, inlined_at 1 12 3
\tst.global.u16 \t[%rd1+16], %rs1;
\t@!%p2 bra \t$L__BB0_1;
\tret;
}
\t.file\t1 "/some/where/kernel.cu"
\t.file\t2 "/some/where/else.h"
"""


def test_ptx_is_read() -> None:
    (kernel,) = read_ptx(MODULE, "kernel.cu")
    assert kernel.name == "radam_codegen_each"
    shown = [
        (each.opcode, each.line, each.bytes_moved, each.target) for each in kernel.instructions
    ]
    assert shown == [
        ("ld.global.nc.v4.f32", 12, 16, None),
        ("st.global.u16", None, 2, None),
        ("bra", None, 0, 1),
        ("ret", None, 0, None),
    ]
    assert kernel.instructions[2].guard == "!%p2"


def test_the_ptx_of_a_source_knows_its_lines() -> None:
    cuda_compiler()
    (kernel,) = rc.inspect(NAME, language="cuda", assembly=True).kernels
    assert kernel.assembly is not None
    assert kernel.assembly.origin.startswith("PTX for sm_")
    floors = {traffic.body: traffic.floor for traffic in kernel.traffic}
    main = [each for each in kernel.assembly.loops if each.is_main]
    found = [(each.phase, each.body, each.counts.elements) for each in main]
    assert found == [
        ("reduce", "bf16_master_l2", 8),
        ("reduce", "f32_no_decay", 4),
        ("each", "bf16_master_l2", 8),
        ("each", "f32_no_decay", 4),
    ]
    for each in main:
        floor = floors[each.body or ""]
        expected = floor.each if each.phase == "each" else floor.reduce
        assert each.counts.bytes_per_element == expected
    lines = {line.number: line for line in kernel.source.lines}
    for each in main:
        ops = [lines[one.line].op or "" for one in each.instructions if one.line in lines]
        wanted = "sqrt" if each.phase == "each" else "mul"
        assert sum(wanted in op for op in ops) >= each.counts.elements


def test_without_nvcc_it_says_so() -> None:
    settings = replace(current(), nvcc="/no/nvcc")
    (kernel,) = rc.inspect(NAME, language="cuda", assembly=True, config=settings).kernels
    assert kernel.assembly is not None
    assert "'/no/nvcc'" in kernel.assembly.origin
    assert "pip install 'radam-codegen[cuda]'" in kernel.assembly.origin
    assert kernel.assembly.loops == ()
