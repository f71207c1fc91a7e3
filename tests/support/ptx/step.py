"""One step of a group by the PTX of its kernel: what the host does around the launches."""

from __future__ import annotations

import re
from dataclasses import dataclass
from typing import Any

import numpy as np

from radam_codegen.ir.dtypes import DType
from radam_codegen.ir.group import slot_dtype
from radam_codegen.ir.interpret import GroupArrays, storage_dtype
from radam_codegen.ir.ops import Slot
from radam_codegen.ir.plan import GroupPlan, KernelStructure, TensorPlan
from radam_codegen.toolchain.abi import chunk_elements
from support.plans import encode
from support.ptx.machine import launch
from support.ptx.memory import GlobalMemory
from support.ptx.reader import Entry, read_module

__all__ = ["PtxKernel", "run_step"]

Array = np.ndarray[Any, np.dtype[Any]]

_SLOTS = (Slot.PARAM, Slot.GRAD, Slot.MOMENT1, Slot.MOMENT2, Slot.MASTER)
_NUMBER_TYPES = (DType.FLOAT64, DType.FLOAT32, DType.BFLOAT16, DType.FLOAT16)
#: More than a record of any class of tensors has; its size is nowhere in PTX.
_RECORD_BYTES = 256

_ENTRY = np.dtype(
    [
        *((slot.value, "u8") for slot in _SLOTS),
        ("numel", "i8"),
        ("lr_scale", "f8"),
        ("decay", "f8"),
        ("need_clip", "i4"),
        ("body", "i4"),
        ("first_part", "i4"),
        ("decay_at_run_time", "i4"),
    ]
)
_TABLE = np.dtype(
    [
        ("first_tensor", "i8"),
        ("first_chunk", "i8"),
        ("tensor_count", "i4"),
        ("part_count", "i4"),
        ("entries", _ENTRY, (400,)),
    ]
)
_ARGUMENTS = np.dtype(
    [
        *((name, "f8") for name in ("beta1", "beta2", "epsilon", "clip_bound", "clip_lower")),
        ("tensor_count", "i8"),
        *((name, "u8") for name in ("step", "lr", "weight_decay", "found_inf")),
        *((name, "u8") for name in ("chunk_sums", "tensor_sums", "records")),
        ("lr_dtype", "i4"),
        ("weight_decay_dtype", "i4"),
    ]
)


@dataclass(frozen=True)
class PtxKernel:
    """A kernel's PTX, and the length of the parts that tensors are cut into."""

    entries: dict[str, Entry]
    each_part: int

    @classmethod
    def read(cls, ptx: str, source: str) -> PtxKernel:
        """Read a kernel's PTX, and its source."""
        found = re.search(r"#define EACH_PART (\d+)", source)
        assert found is not None
        return cls(read_module(ptx), int(found[1]))


def run_step(
    kernel: PtxKernel,
    structure: KernelStructure,
    group: GroupPlan,
    arrays: GroupArrays,
    lr: float,
    lr_dtype: DType = DType.FLOAT32,
    found_inf: bool = False,
    offsets: Array | None = None,
    most_tensors: int = 400,
    most_blocks: int = 1 << 20,
) -> GroupArrays:
    """Run one step, and return the arrays after it.

    Args:
        kernel: The kernel for ``structure``.
        structure: What it was made from.
        group: Tensors and numbers.
        arrays: Parameters, gradients and state; they are not changed.
        lr: Learning rate.
        lr_dtype: In which type the learning rate lies in device memory.
        found_inf: Given to kernels with a skip flag.
        offsets: Per tensor and array, how many elements its address lies behind a multiple of 64.
        most_tensors: Of one launch.
        most_blocks: Of one launch.
    """
    memory = GlobalMemory()
    table = np.zeros(len(group.tensors), _ENTRY)
    for index, tensor in enumerate(group.tensors):
        _place(memory, table, index, tensor, structure, arrays, offsets)
    steps = memory.add(arrays.step)
    chunks = sum(-(-tensor.numel // chunk_elements()) for tensor in group.tensors)
    arguments = np.zeros((), _ARGUMENTS)
    for name, number in (
        *(("beta1", group.beta1), ("beta2", group.beta2), ("epsilon", group.epsilon)),
        *(("clip_bound", group.clip.bound), ("clip_lower", group.clip.lower)),
        *(("tensor_count", len(group.tensors)), ("step", steps)),
        ("lr", memory.add(encode(np.array([lr]), lr_dtype), fixed=True)),
        ("lr_dtype", _NUMBER_TYPES.index(lr_dtype)),
        ("found_inf", memory.add(np.array([found_inf]), fixed=True) if structure.skip else 0),
        ("chunk_sums", memory.add(np.full(chunks, np.nan))),
        ("tensor_sums", memory.add(np.full(len(group.tensors), np.nan))),
        ("records", memory.add(np.full(len(group.tensors) * _RECORD_BYTES, 0xEE, np.uint8))),
    ):
        arguments[name] = number
    memory.close()
    chunk = chunk_elements()
    phases = [("scalar", chunk, 64), ("each", kernel.each_part, 0)]
    if "radam_codegen_reduce" in kernel.entries:
        phases = [("reduce", chunk, 0), ("sums", chunk, 1), *phases]
    for name, part, tensors_per_block in phases:
        entry = kernel.entries[f"radam_codegen_{name}"]
        for given in _tables(table, part, most_tensors):
            blocks = int(given["part_count"])
            if tensors_per_block:
                blocks = -(-int(given["tensor_count"]) // tensors_per_block)
            if blocks:
                blocks = min(blocks, most_blocks)
                launch(entry, memory, blocks, (given.tobytes(), arguments.tobytes()))
    columns: dict[str, list[Any]] = {slot.value: [] for slot in _SLOTS}
    for index in range(len(group.tensors)):
        for slot in _SLOTS:
            array = getattr(arrays, slot.value)[index]
            where = int(table[index][slot.value])
            columns[slot.value].append(None if array is None else memory.get(where, array))
    return GroupArrays(**columns, step=memory.get(steps, arrays.step))


def _place(
    memory: GlobalMemory,
    table: Array,
    index: int,
    tensor: TensorPlan,
    structure: KernelStructure,
    arrays: GroupArrays,
    offsets: Array | None,
) -> None:
    """Put a tensor's arrays into memory, and what the kernel is told of it into the table."""
    for place, slot in enumerate(_SLOTS):
        array = getattr(arrays, slot.value)[index]
        if array is not None:
            assert array.dtype == storage_dtype(slot_dtype(tensor.tensor_class, slot))
            offset = 0 if offsets is None else int(offsets[index][place]) * array.itemsize
            table[index][slot.value] = memory.add(array, offset, fixed=slot is Slot.GRAD)
    table[index]["numel"] = tensor.numel
    table[index]["lr_scale"] = tensor.lr_scale
    table[index]["decay"] = tensor.decay.coefficient
    table[index]["need_clip"] = tensor.need_clip
    table[index]["body"] = structure.classes.index(tensor.tensor_class)


def _tables(entries: Array, part: int, most: int) -> list[Array]:
    """What each launch is told of its tensors."""
    tables = []
    first_chunk = 0
    for begin in range(0, len(entries), most):
        some = entries[begin : begin + most].copy()
        parts = -(-some["numel"] // part)
        some["first_part"] = np.cumsum(parts) - parts
        table = np.zeros((), _TABLE)
        table["first_tensor"], table["first_chunk"] = begin, first_chunk
        table["tensor_count"], table["part_count"] = len(some), parts.sum()
        table["entries"][: len(some)] = some
        first_chunk += int(parts.sum())
        tables.append(table)
    return tables
