"""Calling a compiled kernel on NumPy arrays, phase by phase, as no launcher would."""

from __future__ import annotations

from typing import Any

import numpy as np

from radam_codegen.ir.group import slot_dtype
from radam_codegen.ir.interpret import GroupArrays, storage_dtype
from radam_codegen.ir.ops import Slot
from radam_codegen.ir.plan import ClipKind, GroupPlan, KernelStructure
from radam_codegen.runtime import LoadedKernel
from radam_codegen.runtime.interface import ffi
from radam_codegen.toolchain.abi import chunk_elements

__all__ = ["run_kernel"]

Array = np.ndarray[Any, np.dtype[Any]]

_SLOTS = (Slot.PARAM, Slot.GRAD, Slot.MOMENT1, Slot.MOMENT2, Slot.MASTER)
#: Elements before and after each array that a kernel must leave alone.
_MARGIN = 37
_GUARD = 0xA5


class _Guarded:
    """A copy of an array between guards, at an address that is only as even as its type wants."""

    def __init__(self, array: Array) -> None:
        margin = _MARGIN * array.dtype.itemsize
        self._memory = np.full(array.nbytes + 2 * margin, _GUARD, np.uint8)
        self._shape, self._dtype = array.shape, array.dtype
        self._inside = slice(margin, margin + array.nbytes)
        self._memory[self._inside] = np.frombuffer(array.tobytes(), np.uint8)
        self.pointer = ffi().cast("void *", self._memory.ctypes.data + margin)

    def result(self) -> Array:
        outside = np.delete(self._memory, self._inside)
        assert np.all(outside == _GUARD), "a kernel wrote beside an array"
        inside = self._memory[self._inside].copy()
        return inside.view(self._dtype).reshape(self._shape)


def run_kernel(
    kernel: LoadedKernel,
    structure: KernelStructure,
    group: GroupPlan,
    arrays: GroupArrays,
    lr: float,
    found_inf: bool = False,
    seed: int = 0,
) -> GroupArrays:
    """Run one step, with the chunks dealt out in ranges, and in an order, that ``seed`` decides.

    Args:
        kernel: The kernel for ``structure``, which may have more bodies than the group needs.
        structure: What the kernel was made from.
        group: Tensors and numbers.
        arrays: Parameters, gradients and state; they are not changed.
        lr: Learning rate.
        found_inf: Given to the kernel whether it has a skip flag or not.
        seed: Of the splits.

    Returns:
        The arrays after the step.
    """
    random = np.random.default_rng(seed)
    held: list[dict[Slot, _Guarded]] = []
    tensors = ffi().new("radam_tensor[]", len(group.tensors))
    numbers = ffi().new("radam_tensor_numbers[]", len(group.tensors))
    for index, tensor in enumerate(group.tensors):
        given = {slot: getattr(arrays, slot.value)[index] for slot in _SLOTS}
        guarded = {slot: _Guarded(each) for slot, each in given.items() if each is not None}
        for slot, each in guarded.items():
            wanted = storage_dtype(slot_dtype(tensor.tensor_class, slot))
            assert given[slot].dtype == wanted
            setattr(tensors[index], slot.value, each.pointer)
        tensors[index].numel = tensor.numel
        numbers[index].lr_scale = tensor.lr_scale
        numbers[index].decay = tensor.decay.coefficient
        numbers[index].need_clip = tensor.need_clip
        numbers[index].body = structure.classes.index(tensor.tensor_class)
        held.append(guarded)

    reduces = structure.clip in (ClipKind.GLOBAL_NORM, ClipKind.NORM)
    chunks = _chunks(group, random, free=not reduces)
    steps = _Guarded(arrays.step)
    sums = _Guarded(np.full(len(chunks), np.nan))
    scalars = _Guarded(np.full(len(group.tensors) * kernel.kernel.scalar_size, 0xEE, np.uint8))
    call = ffi().new("radam_group *")
    call.tensors, call.tensor_numbers, call.tensor_count = tensors, numbers, len(group.tensors)
    call.step = ffi().cast("int64_t *", steps.pointer)
    listed = ffi().new("radam_chunk[]", chunks)
    call.chunks, call.chunk_count = listed, len(chunks)
    call.chunk_sums = ffi().cast("double *", sums.pointer)
    call.scalars = scalars.pointer
    call.numbers.beta1, call.numbers.beta2 = group.beta1, group.beta2
    call.numbers.epsilon = group.epsilon
    call.numbers.clip_bound, call.numbers.clip_lower = group.clip.bound, group.clip.lower
    call.lr, call.found_inf = lr, found_inf

    assert (kernel.kernel.reduce != ffi().NULL) == reduces
    if reduces:
        for begin, end in _ranges(len(chunks), random):
            kernel.kernel.reduce(call, begin, end)
    go_on = kernel.kernel.scalar(call)
    assert go_on == (0 if found_inf and structure.skip else 1)
    if go_on:
        for begin, end in _ranges(len(chunks), random):
            kernel.kernel.each(call, begin, end)
    for each in (sums, scalars):
        each.result()
    after = [{slot: each.result() for slot, each in guarded.items()} for guarded in held]
    columns = {slot.value: [each.get(slot) for each in after] for slot in _SLOTS}
    for given_grad, grad in zip(arrays.grad, columns["grad"]):
        assert given_grad.tobytes() == grad.tobytes(), "a kernel wrote a gradient"
    return GroupArrays(**columns, step=steps.result())


def _chunks(
    group: GroupPlan, random: np.random.Generator, free: bool
) -> list[tuple[int, int, int]]:
    """Chunks of the ABI's length, or, where no sum depends on it, of any length up to that."""
    chunks = []
    for index, tensor in enumerate(group.tensors):
        begin = 0
        while begin < tensor.numel:
            longest = min(chunk_elements(), tensor.numel - begin)
            length = int(random.integers(1, longest + 1)) if free else longest
            chunks.append((index, begin, begin + length))
            begin += length
    return chunks


def _ranges(count: int, random: np.random.Generator) -> list[tuple[int, int]]:
    """Disjoint ranges that cover ``count`` chunks, some of them empty, in any order."""
    inner = random.integers(0, count + 1, int(random.integers(0, 6)))
    bounds = [0, *sorted(int(each) for each in inner), count]
    ranges = list(zip(bounds, bounds[1:]))
    random.shuffle(ranges)
    return ranges
