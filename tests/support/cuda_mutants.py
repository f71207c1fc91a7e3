"""Single faults to plant in a generated kernel, and cases that meet every one of them."""

from __future__ import annotations

from dataclasses import dataclass, replace
from pathlib import Path

import numpy as np

from radam_codegen.ir.plan import ClipKind, KernelStructure, UpdatePlan
from support.cuda_cases import offsets_in_step, random_group
from support.cuda_emulation import Case, Number, Order
from support.plans import random_arrays
from support.structures import CLASSES

__all__ = ["MUTANTS", "STRUCTURE", "WRONG", "Mutant", "gauntlet"]

#: It has a reduction, arrays of two widths, a master weight, and a skip flag.
STRUCTURE = KernelStructure(
    ClipKind.GLOBAL_NORM, True, tuple(each for each in CLASSES if each.name == "bf16_master_l2")
)

REDUCE = "radam_codegen_reduce("
SUMS = "double ordered_sum("
SCALAR = "radam_codegen_scalar("
EACH = "bf16_master_l2_each("
EACH_KERNEL = "radam_codegen_each("
STEP = "int32_t step("

SKIP = """    if (group.found_inf != NULL && *group.found_inf != 0) {
        return;
    }
"""

#: What is said of bits that differ, and of a wait that is missing: it depends on who comes first.
WRONG = "param|moment|master|step"
EARLY = "race|uninitialised"


@dataclass(frozen=True)
class Mutant:
    """A fault: the first ``old`` behind ``after`` becomes ``new``, and what finds it says so."""

    name: str
    finding: str
    old: str
    new: str
    after: str = ""

    def __str__(self) -> str:
        return self.name.replace(" ", "-")

    def fits(self, text: str) -> bool:
        """Whether a kernel has the code that the fault changes."""
        return self.old in text[text.find(self.after) :]

    def plant(self, text: str) -> str:
        """The kernel with the fault."""
        at = text.index(self.after)
        changed = text[:at] + text[at:].replace(self.old, self.new, 1)
        assert changed != text
        return changed


MUTANTS = (
    # Barriers and warps.
    Mutant(
        "barrier removed before the sum of a row",
        EARLY,
        "            __syncthreads();\n            if",
        "            if",
        REDUCE,
    ),
    Mutant(
        "barrier removed behind the sum of a row",
        "race",
        "            __syncthreads();\n        }\n",
        "        }\n",
        REDUCE,
    ),
    Mutant("barrier removed before the sum of chunks", EARLY, "__syncthreads();", "", SUMS),
    Mutant("barrier removed behind the sum of the group", EARLY, "__syncthreads();", "", SCALAR),
    Mutant(
        "barrier that one warp alone reaches",
        "deadlock",
        "                sum += summands[k];\n                }",
        "                sum += summands[k];\n                }\n__syncthreads();",
        REDUCE,
    ),
    Mutant("barrier behind a return", "deadlock", SKIP, "if (threadIdx.x > 40) return;", SCALAR),
    Mutant("mask without half of the lanes", "divergence", "0xffffffffu", "0xffffu", REDUCE),
    Mutant(
        "half a warp shuffles",
        "divergence",
        "        if (threadIdx.x < 32) {\n            for (int32_t width",
        "        if (threadIdx.x < 16) {\n            for (int32_t width",
        REDUCE,
    ),
    Mutant(
        "half of the lanes are summed", WRONG, "int32_t width = 16", "int32_t width = 8", REDUCE
    ),
    Mutant("lanes of half the width", WRONG, "k += 32", "k += 16", REDUCE),
    # Where elements are.
    Mutant(
        "half of a packet is used twice",
        WRONG,
        "master, moment1, moment2, param + at",
        "master, moment1, moment2, param",
        EACH,
    ),
    Mutant("swapped arrays", WRONG, "load(moment1, moment1_at", "load(moment1, moment2_at", EACH),
    Mutant(
        "swapped head and tail",
        "out of bounds",
        "k : last + (k - first)",
        "last + k : (k - first)",
        EACH,
    ),
    Mutant("missing tail", WRONG, "first + (count - last)", "first", EACH),
    Mutant("missing tail of a sum", "uninitialised", "first + (count - last)", "first"),
    Mutant(
        "missing head", WRONG, "int32_t k = threadIdx.x", "int32_t k = first + threadIdx.x", EACH
    ),
    Mutant("unguarded packet", "race|out of bounds", "count - (count - first) % 8", "count", EACH),
    Mutant(
        "unguarded end",
        "out of bounds",
        "rest < EACH_PART ? (int32_t)rest : EACH_PART",
        "EACH_PART",
    ),
    Mutant("overlapping packets", "race", "i += blockDim.x * 8", "i += blockDim.x", EACH),
    Mutant(
        "packets from any address",
        "misaligned",
        "(16 - (uintptr_t)array % 16) % 16",
        "(uintptr_t)0",
    ),
    Mutant(
        "an array that is not asked whether it is in step",
        "misaligned",
        "&& packet_begins_at(moment2_at, head)",
        "",
        EACH,
    ),
    Mutant(
        "off by one in a chunk",
        WRONG,
        "? length - done : SUMMANDS",
        "? length - done - 1 : SUMMANDS",
        REDUCE,
    ),
    Mutant("off by one in a table", WRONG, "first_part <= part", "first_part < part"),
    Mutant("one block's parts only", WRONG, "part += gridDim.x", "part = INT32_MAX", EACH_KERNEL),
    Mutant("sums of the first launch only", "uninit|race", "table.first_chunk + part", "part"),
    # What is computed.
    Mutant("fma towards zero", WRONG, "__fmaf_rn(minus_update", "__fmaf_rz(minus_update"),
    Mutant("quotient towards zero", WRONG, "__fdiv_rn(moment1_out", "__fdiv_rz(moment1_out"),
    Mutant(
        "fma rounded twice",
        WRONG,
        "__fmaf_rn(decay_f32, param, clipped_grad)",
        "decay_f32 * param + clipped_grad",
    ),
    Mutant(
        "ties away from even",
        WRONG,
        "UINT32_C(0x7fff) + ((bits >> 16) & 1u)",
        "UINT32_C(0x8000)",
    ),
    Mutant("missing need_clip", WRONG, "need_clip ? norm_scale : 1.0", "norm_scale"),
    Mutant("wrong master weight", WRONG, "master_at[i] = param_out;", "master_at[i] = param;"),
    Mutant("step not written", WRONG, "group.step[tensor] = by_step.step_out;", "", SCALAR),
    Mutant("step of a neighbour", "race", "group.step[tensor])", "group.step[table.first_tensor])"),
    Mutant("decay of the host", WRONG, "decay_at_run_time != 0", "decay_at_run_time == 2", SCALAR),
    # What is there.
    Mutant(
        "uninitialised shared memory",
        "uninitialised",
        "k < length; k += blockDim.x",
        "k + 1 < length; k += blockDim.x",
        SUMS,
    ),
    Mutant("missing check of the flag in scalar", "uninitialised", SKIP, "", SCALAR),
    Mutant("missing check of the flag in each", "uninitialised", SKIP, "", EACH_KERNEL),
    Mutant(
        "stale record",
        WRONG,
        "group.records[table.first_tensor + (entry - table.entries)]",
        "group.records[entry - table.entries]",
    ),
    Mutant(
        "record that is not written",
        "uninitialised",
        "group.records[tensor].bf16_master_l2 =",
        "(void)",
        SCALAR,
    ),
    Mutant(
        "workspace without the tensors' sums",
        "out of bounds",
        "chunks_of(group) + group->tensor_count",
        "chunks_of(group)",
    ),
    Mutant(
        "gradient written",
        "writes to an input",
        "store(param_at + i, param)",
        "store((uint16_t *)grad_at + i, param)",
        EACH,
    ),
    Mutant(
        "learning rate read by the host",
        "the host reads",
        "group_arguments arguments = {};",
        "group_arguments arguments = {}; if (*(const float *)group->lr == 0.0f) return 0;",
        STEP,
    ),
    Mutant(
        "address in the host's memory",
        "neither memory of the device",
        "arguments.lr = group->lr",
        "arguments.lr = &group->lr",
        STEP,
    ),
    Mutant("another stream", "another stream", "(cudaStream_t)stream", "NULL"),
)


def gauntlet() -> list[Case]:
    """Cases that meet everything at which a kernel can fail, as small as they can be."""
    random = np.random.default_rng(3)
    sizes = [5003, 16391, 67, *random.integers(1, 90, 52).tolist()]
    group = random_group(STRUCTURE, random, sizes)
    # Parameters that do not move, halfway between two bfloat16.
    still = next(k for k, each in enumerate(group.tensors) if each.numel == 67)
    tensors = list(group.tensors)
    tensors[still] = replace(tensors[still], lr_scale=0.0)
    group = replace(group, tensors=tuple(tensors))
    (arrays,) = random_arrays(UpdatePlan((group,)), 3)
    master = arrays.master[still]
    assert master is not None
    master.view(np.uint32)[:] = master.view(np.uint32) & 0xFFFF0000 | 0x8000
    ordinary = Case(
        Path(),
        STRUCTURE,
        group,
        arrays,
        Number((0.01,)),
        found_inf=(False,),
        weight_decay=Number((0.3,)),
        at_run_time=(0, 7),
        offsets=offsets_in_step(group, random),
        order=Order.SHUFFLED,
        most_blocks=5,
    )
    few = random_group(STRUCTURE, random, [40] * 4)
    (arrays,) = random_arrays(UpdatePlan((few,)), 4)
    odd = replace(ordinary, group=few, arrays=arrays, offsets=[[0, 0, 0, 1, 0]] * 4, at_run_time=())
    return [ordinary, odd, replace(odd, found_inf=(True,))]
