"""What is counted in machine code, on small pieces of it."""

from __future__ import annotations

import pytest

from radam_codegen.tools.inspect import x86
from radam_codegen.tools.inspect.assembly import LoopCounts, count, hot_loops
from radam_codegen.tools.inspect.listing import (
    Instruction,
    innermost_loops,
    read_assembly,
    read_objdump,
)

GAS = """
	.type	each, @function
each:
	.loc 1 7 3
	movq	%rsp, %rbp
.L3:
	xorl	%eax, %eax
.L5:
	.loc 1 9 9
	vmovups	(%rdi,%rax,4), %ymm0
	vfmadd213ps	(%rsi,%rax,4), %ymm1, %ymm0
	vsqrtps	%ymm0, %ymm2
	.loc 1 10 9
	vdivps	-88(%rbp), %ymm2, %ymm2
	vmovups	%ymm2, (%rsi,%rax,4)
	addq	$8, %rax
	cmpq	%rax, %rdx
	jne	.L5
	call	other@PLT
	jmp	.L3
	ret
	.size	each, .-each
"""

OBJDUMP = """
kernel.so:     file format elf64-x86-64

Disassembly of section .text:

0000000000001100 <each>:
each():
/somewhere/kernel.c:7
    1100:	mov    %rsp,%rbp
    1103:	xor    %eax,%eax
/somewhere/kernel.c:9 (discriminator 3)
    1105:	vmovups (%rdi,%rax,4),%ymm0
    110a:	vfmadd213ps (%rsi,%rax,4),%ymm1,%ymm0
    1110:	vsqrtps %ymm0,%ymm2
/somewhere/kernel.c:10
    1114:	vdivps -0x58(%rbp),%ymm2,%ymm2
    1119:	vmovups %ymm2,(%rsi,%rax,4)
    111e:	add    $0x8,%rax
    1122:	cmp    %rax,%rdx
    1125:	jne    1105 <each+0x5>
    1127:	call   1030 <other@plt>
    112c:	jmp    1103 <each+0x3>
    112e:	ret
"""

EXPECTED = LoopCounts(
    vector_bits=256,
    elements=8,
    instructions=8,
    loads=2,
    stores=1,
    loaded_bytes=64,
    stored_bytes=32,
    fma=1,
    sqrt=1,
    div=1,
    spill_loads=1,
    spill_stores=0,
    scalar_loads=0,
    calls=(),
)


@pytest.mark.parametrize("routines", [read_assembly(GAS), read_objdump(OBJDUMP)], ids=["S", "d"])
def test_both_listings_are_read_alike(routines: tuple[object, ...]) -> None:
    (loop,) = hot_loops(routines, ["f32_l2"])  # type: ignore[arg-type]
    assert (loop.phase, loop.body, loop.is_main) == ("each", "f32_l2", True)
    assert loop.counts == EXPECTED
    assert loop.counts.bytes_per_element == 12
    assert [each.line for each in loop.instructions] == [9, 9, 9, *[10] * 5]


def test_a_loop_is_placed_by_its_lines() -> None:
    places = {9: ("each", "f64_l1"), 10: ("each", "f64_l1")}
    (loop,) = hot_loops(read_assembly(GAS), ["f32_l2", "f64_l1"], places)
    assert loop.body == "f64_l1"
    assert hot_loops(read_assembly(GAS), ["f32_l2"], {1: ("each", "f32_l2")}) == ()


def test_the_body_is_not_guessed() -> None:
    (loop,) = hot_loops(read_assembly(GAS), ["f32_l2", "f64_l1"])
    assert loop.body is None


PADDED = """
0000000000001100 <each>:
    1100:	jmp    1106 <each+0x6>
    1102:	data16 cs nopw 0x0(%rax,%rax,1)
    1106:	xchg   %ax,%ax
    1108:	vsqrtps (%rdi,%rax,4),%ymm0
    110d:	jmp    1114 <each+0x14>
    110f:	nopw   0x0(%rax,%rax,1)
    1112:	nop
    1113:	cs nopw 0x0(%rax,%rax,1)
    1114:	add    $0x8,%rax
    1118:	nopl   0x0(%rax)
    111c:	jne    1106 <each+0x6>
    111e:	xchg   %ax,%bx
"""


def test_padding_is_no_instruction_of_a_loop() -> None:
    (routine,) = read_objdump(PADDED)
    assert [each.mnemonic for each in routine.instructions].count("xchg") == 1
    (loop,) = innermost_loops(routine)
    assert [each.mnemonic for each in loop] == ["vsqrtps", "jmp", "add", "jne"]


def test_jumps_to_the_start_of_a_loop_are_one_loop() -> None:
    text = (
        "\t.type f, @function\nf:\n.L1:\n\tincl %eax\n\tje .L1\n\tdecl %eax\n\tjne .L1\n\t.size f\n"
    )
    (routine,) = read_assembly(text)
    (loop,) = innermost_loops(routine)
    assert len(loop) == 4


def counted(*code: str, phase: str = "each") -> LoopCounts:
    found = count([Instruction(*text.split(maxsplit=1)) for text in code], phase)
    assert found is not None
    return found


STEP = ("addq $64,%rax", "vsqrtps %zmm0,%zmm0")


def test_bytes_that_are_read_twice_count_once() -> None:
    both = counted("vmovups (%rdi,%rax),%zmm1", "vcvtps2pd (%rdi,%rax),%zmm2", *STEP)
    assert (both.loads, both.loaded_bytes) == (2, 64)


def test_a_step_in_the_middle_is_accounted_for() -> None:
    same = counted("vmovups (%rdi,%rax),%zmm1", *STEP, "vmovups -64(%rdi,%rax),%zmm2")
    assert (same.loads, same.loaded_bytes) == (2, 64)
    other = counted("vmovups (%rdi,%rax),%zmm1", *STEP, "vmovups (%rdi,%rax),%zmm2")
    assert (other.loads, other.loaded_bytes) == (2, 128)


def test_what_never_moves_is_no_array() -> None:
    found = counted(
        "vmovups (%rdi,%rax),%zmm1",
        "vmulps 8(%rbx){1to16},%zmm1,%zmm1",
        "vmulps .LC0(%rip),%zmm1,%zmm1",
        "vmovaps %zmm1,-64(%rsp)",
        "call fmaf@PLT",
        *STEP,
    )
    assert (found.loads, found.scalar_loads) == (1, 2)
    assert (found.spill_loads, found.spill_stores) == (0, 1)
    assert found.calls == ("fmaf",)


def test_scalars_are_no_vectors() -> None:
    found = counted("vmovss (%rdi,%rax),%xmm0", "vsqrtss %xmm0,%xmm0,%xmm0", "addq $4,%rax")
    assert (found.vector_bits, found.elements, found.loaded_bytes) == (0, 1, 4)


def test_what_is_not_per_element_is_not_counted() -> None:
    assert (
        count([Instruction("vmovups", "(%rdi,%rax),%zmm1"), Instruction("incq", "%rax")], "each")
        is None
    )
    fold = [Instruction("vaddpd", "(%rdi,%rax),%zmm1,%zmm1"), Instruction("incq", "%rax")]
    assert count(fold, "reduce") is None


@pytest.mark.parametrize(
    ("code", "size", "loads", "stores"),
    [
        ("vmovups (%rdi),%zmm1", 64, True, False),
        ("vmovups %ymm1,(%rdi)", 32, False, True),
        ("movss %xmm1,4(%rdi,%rax,4)", 4, False, True),
        ("vaddsd (%rdi),%xmm1,%xmm1", 8, True, False),
        ("vfmadd213ps (%rdi){1to8},%ymm1,%ymm2", 4, True, False),
        ("vcvtps2pd (%rdi),%ymm1", 16, True, False),
        ("vpmovzxwd (%rdi),%zmm1", 32, True, False),
        ("vpmovdw %zmm1,(%rdi)", 32, False, True),
        ("vcvtph2ps (%rdi),%ymm1", 16, True, False),
        ("vcvtps2ph $4,%ymm1,(%rdi)", 16, False, True),
        ("vextracti128 $1,%ymm1,(%rdi)", 16, False, True),
        ("vbroadcastss (%rdi),%zmm1", 4, True, False),
        ("vcvtss2sd (%rdi),%xmm1,%xmm1", 4, True, False),
        ("movzwl (%rdi,%rax,2),%eax", 2, True, False),
        ("movw %ax,(%rdi)", 2, False, True),
        ("mov %r8d,(%rdi)", 4, False, True),
        ("mov (%rdi),%rax", 8, True, False),
        ("addl $1,(%rdi)", 4, True, True),
        ("cmpl $1,(%rdi)", 4, True, False),
        ("cmp %rax,(%rdi)", 8, True, False),
    ],
)
def test_accesses(code: str, size: int, loads: bool, stores: bool) -> None:
    found = x86.access(Instruction(*code.split(maxsplit=1)))
    assert found is not None
    assert (found.size, found.loads, found.stores) == (size, loads, stores)


@pytest.mark.parametrize(
    "code", ["lea (%rdi,%rax,4),%rcx", "nopw 0x0(%rax,%rax,1)", "ret ", "vaddps %ymm0,%ymm1,%ymm2"]
)
def test_no_accesses(code: str) -> None:
    mnemonic, _, operands = code.partition(" ")
    assert x86.access(Instruction(mnemonic, operands)) is None


@pytest.mark.parametrize(
    ("code", "register", "step"),
    [
        ("addq $64,%rax", "%rax", 64),
        ("sub $0xffffffffffffff80,%r8", "%r8", 128),
        ("addl $8,%r9d", "%r9", 8),
        ("incl %esi", "%rsi", 1),
        ("leaq 32(%rdx),%rdx", "%rdx", 32),
        ("lea 0x8(%rdi,%rax,1),%rdi", "%rdi", None),
        ("mov %rax,%rbx", "%rbx", None),
    ],
)
def test_steps_of_registers(code: str, register: str, step: int | None) -> None:
    each = Instruction(*code.split(maxsplit=1))
    assert (x86.written_register(each), x86.constant_step(each)) == (register, step)


@pytest.mark.parametrize(
    "code", ["cmp %rax,%rdx", "test %eax,%eax", "vmovups (%rdi),%ymm0", "jne 40 <f>"]
)
def test_writes_no_general_register(code: str) -> None:
    assert x86.written_register(Instruction(*code.split(maxsplit=1))) is None
