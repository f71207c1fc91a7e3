"""The machine code of CUDA kernels is what their IR says, for every architecture.

Compiling with warnings as errors is part of it: ptxas warns of spilled registers.
"""

from __future__ import annotations

from functools import lru_cache

import pytest
from support.cuda_build import ARCHITECTURES, build_for_all, lowered, need_tools
from support.cuda_structures import QUICK

from radam_codegen.ir.dtypes import DType
from radam_codegen.ir.plan import ClipKind, KernelStructure
from radam_codegen.tools.cuda.expectation import expected_loop, found_loop
from radam_codegen.tools.cuda.resources import read_resources
from radam_codegen.tools.cuda.sass import SassKernel, SassLoop, read_sass

MOST_REGISTERS = 64
NORMS = (ClipKind.NORM, ClipKind.GLOBAL_NORM)

Kernels = dict[str, SassKernel]


@lru_cache(maxsize=4)
def machine_code(structure: KernelStructure) -> dict[int, Kernels]:
    """Kernels by architecture and name."""
    _, cuobjdump = need_tools()
    found: dict[int, Kernels] = {each: {} for each in ARCHITECTURES}
    for kernel in read_sass(cuobjdump.read("--dump-sass", build_for_all(structure))):
        found[kernel.architecture][kernel.name] = kernel
    return found


def kernels_of(structure: KernelStructure) -> set[str]:
    phases = ["scalar", "each"]
    if structure.clip in NORMS:
        phases += ["reduce", "sums"]
    return {f"radam_codegen_{phase}" for phase in phases}


def test_nothing_is_spilled_and_registers_are_few(built_structure: KernelStructure) -> None:
    structure = built_structure
    _, cuobjdump = need_tools()
    library = build_for_all(structure)
    found = read_resources(cuobjdump.read("--dump-resource-usage", library))
    assert {(each.architecture, each.name) for each in found} == {
        (architecture, name) for architecture in ARCHITECTURES for name in kernels_of(structure)
    }
    for each in found:
        assert each.registers <= MOST_REGISTERS, each
        assert (each.stack, each.local) == (0, 0), each


def test_no_instruction_touches_local_memory(built_structure: KernelStructure) -> None:
    structure = built_structure
    for architecture, kernels in machine_code(structure).items():
        assert set(kernels) == kernels_of(structure)
        for kernel in kernels.values():
            touching = [each for each in kernel.instructions if each.name in ("LDL", "STL")]
            assert not touching, (architecture, kernel.name)


def test_the_update_of_a_packet_is_what_the_ir_says(built_structure: KernelStructure) -> None:
    structure = built_structure
    bodies = lowered(structure).bodies
    expected = sorted(map(expected_loop, bodies))
    for architecture, kernels in machine_code(structure).items():
        loops = [each for each in kernels["radam_codegen_each"].loops() if each.is_over_packets]
        # ptxas puts the loops of several bodies in any order.
        found = []
        for loop in loops:
            alike = [body for body in bodies if found_loop(loop, body) == expected_loop(body)]
            found.append(found_loop(loop, alike[0] if alike else bodies[0]))
        assert sorted(found) == expected, f"sm_{architecture}"


def test_gradients_are_summed_up_128_bits_at_a_time(built_structure: KernelStructure) -> None:
    structure = built_structure
    if structure.clip not in NORMS:
        pytest.skip("has no norm")
    sizes = sorted({each.grad_dtype.size for each in structure.classes})
    for architecture, kernels in machine_code(structure).items():
        loops = [each for each in kernels["radam_codegen_reduce"].loops() if each.is_over_packets]
        assert loops, f"sm_{architecture}"
        for loop in loops:
            (load,) = loop.accesses("LDG")
            assert load.bytes_moved == 16
            assert not loop.accesses("STG")
            # Squares are summed up in float64: one per element, and nothing else in it.
            squares = loop.count("DMUL")
            assert squares in [16 // size for size in sizes], f"sm_{architecture}"
            assert loop.count("DFMA") == loop.count("DADD") == 0


def test_no_element_is_updated_in_double_precision(built_structure: KernelStructure) -> None:
    structure = built_structure
    if any(each.compute_dtype is DType.FLOAT64 for each in structure.classes):
        pytest.skip("its elements are float64")
    for architecture, kernels in machine_code(structure).items():
        instructions = kernels["radam_codegen_each"].instructions
        wide = [each for each in instructions if each.computes_in_float64]
        assert not wide, f"sm_{architecture}"


@pytest.mark.parametrize("opcode", ["DFMA", "MUFU.RCP", "MUFU.RSQ", "LDG.E.128", "STG.E.128"])
def test_a_loop_that_lacks_an_instruction_is_not_what_the_ir_says(opcode: str) -> None:
    (body,) = lowered(QUICK[2]).bodies
    kernel = machine_code(QUICK[2])[ARCHITECTURES[0]]["radam_codegen_each"]
    (loop,) = [each for each in kernel.loops() if each.is_over_packets]
    index = next(k for k, each in enumerate(loop.instructions) if each.opcode.startswith(opcode))
    less = SassLoop(loop.instructions[:index] + loop.instructions[index + 1 :])
    assert found_loop(loop, body) == expected_loop(body)
    assert found_loop(less, body) != expected_loop(body)
