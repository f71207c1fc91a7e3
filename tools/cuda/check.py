"""Checking CUDA kernels on a GPU: ``python -m radam_codegen.tools.cuda.check``.

Each kernel's step is compared bit by bit with the interpreter of the IR, then timed on tensors that
are too large for any cache. Where PyTorch or Paddle with CUDA is installed, the steps of
``torch.optim.RAdam`` and ``paddle.optimizer.RAdam`` are timed on tensors of the same sizes.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from typing import Any

import click
import numpy as np

from radam_codegen.codegen import CUDA_TARGET, render
from radam_codegen.config import Config, current
from radam_codegen.errors import RadamCodegenError
from radam_codegen.ir.dtypes import DType
from radam_codegen.ir.group import GroupIR, slot_dtype
from radam_codegen.ir.interpret import GroupArrays, interpret, storage_dtype
from radam_codegen.ir.ops import Slot
from radam_codegen.ir.plan import (
    Clip,
    ClipKind,
    Decay,
    DecayKind,
    GroupPlan,
    KernelStructure,
    TensorPlan,
    UpdatePlan,
)
from radam_codegen.ir.structure_name import structure_from_name
from radam_codegen.passes import lower_plan, lower_structure
from radam_codegen.runtime.cuda_loader import LoadedCudaKernel, load_cuda_kernel
from radam_codegen.runtime.interface import ffi
from radam_codegen.toolchain.cuda import build_cuda_kernel
from radam_codegen.tools.cuda.driver import Gpu
from radam_codegen.tools.cuda.table import KERNELS
from radam_codegen.tools.inspect.traffic import traffic_of

__all__ = ["check"]

Array = np.ndarray[Any, np.dtype[Any]]

_SLOTS = (Slot.PARAM, Slot.GRAD, Slot.MOMENT1, Slot.MOMENT2, Slot.MASTER)
#: Heads, tails, single elements; more than a block updates, more than a chunk, several launches.
_SIZES = (*range(1, 70), 1000, 4099, 16390, 100_003) * 6
_LR = 0.015625
_REPEATS = 20


class _Step:
    """A group in the memory of a GPU, and the step of its kernel."""

    def __init__(
        self, gpu: Gpu, kernel: LoadedCudaKernel, group: GroupPlan, arrays: GroupArrays
    ) -> None:
        self._gpu, self._kernel, self._arrays = gpu, kernel, arrays
        count = len(group.tensors)
        self._tensors = ffi().new("radam_tensor[]", count)
        self._numbers = ffi().new("radam_tensor_numbers[]", count)
        self._places: list[dict[str, int]] = []
        for index, tensor in enumerate(group.tensors):
            places = {}
            for slot in _SLOTS:
                array = getattr(arrays, slot.value)[index]
                if array is not None:
                    places[slot.value] = gpu.put(array)
                    pointer = ffi().cast("void *", places[slot.value])
                    setattr(self._tensors[index], slot.value, pointer)
            self._places.append(places)
            self._tensors[index].numel = tensor.numel
            self._numbers[index].lr_scale = tensor.lr_scale
            self._numbers[index].decay = tensor.decay.coefficient
            self._numbers[index].need_clip = tensor.need_clip
        self._group = ffi().new("radam_cuda_group *")
        self._group.tensors, self._group.tensor_numbers = self._tensors, self._numbers
        self._group.tensor_count = count
        numbers = self._group.numbers
        numbers.beta1, numbers.beta2, numbers.epsilon = group.beta1, group.beta2, group.epsilon
        numbers.clip_bound, numbers.clip_lower = group.clip.bound, group.clip.lower
        self._steps = gpu.put(arrays.step)
        self._group.step = ffi().cast("int64_t *", self._steps)
        self._group.lr = ffi().cast("void *", gpu.put(np.array([_LR], np.float32)))
        self._group.lr_dtype = 1  # RADAM_CUDA_FLOAT32
        size = int(kernel.kernel.workspace_size(self._group))
        self._group.workspace = ffi().cast("void *", gpu.put(np.zeros(size, np.uint8)))
        self._group.workspace_bytes = size

    def run(self) -> None:
        status = self._kernel.kernel.step(self._group, ffi().NULL)
        if status != 0:
            raise RadamCodegenError(
                f"{self._kernel.name}: CUDA error {status}, {self._kernel.error_text(status)}"
            )

    def result(self) -> GroupArrays:
        columns: dict[str, list[Any]] = {slot.value: [] for slot in _SLOTS}
        for index, places in enumerate(self._places):
            for name, column in columns.items():
                array = getattr(self._arrays, name)[index]
                column.append(None if array is None else self._gpu.get(places[name], array))
        return GroupArrays(**columns, step=self._gpu.get(self._steps, self._arrays.step))


def _group(structure: KernelStructure, sizes: tuple[int, ...]) -> GroupPlan:
    clips = {
        ClipKind.NONE: Clip(),
        ClipKind.VALUE: Clip(ClipKind.VALUE, 0.5, -0.25),
        ClipKind.NORM: Clip(ClipKind.NORM, 0.5),
        ClipKind.GLOBAL_NORM: Clip(ClipKind.GLOBAL_NORM, 0.75),
    }
    (each,) = structure.classes
    decay = Decay() if each.decay is DecayKind.NONE else Decay(each.decay, 0.01)
    tensors = tuple(
        TensorPlan(
            name=f"p{index}",
            shape=(size,),
            param_dtype=each.param_dtype,
            grad_dtype=each.grad_dtype,
            moment_dtype=each.moment_dtype,
            master=each.master,
            decay=decay,
        )
        for index, size in enumerate(sizes)
    )
    return GroupPlan(tensors, clip=clips[structure.clip], skip=structure.skip)


def _arrays(group: GroupPlan) -> GroupArrays:
    random = np.random.default_rng(1)
    columns: dict[str, list[Any]] = {slot.value: [] for slot in _SLOTS}
    for tensor in group.tensors:
        for slot, column in zip(_SLOTS, columns.values()):
            if slot is Slot.MASTER and not tensor.master:
                column.append(None)
                continue
            values = random.standard_normal(tensor.numel, np.float32)
            if slot is Slot.MOMENT2:
                values = values * values
            dtype = slot_dtype(tensor.tensor_class, slot)
            if dtype is DType.BFLOAT16:
                column.append((values.view(np.uint32) >> np.uint32(16)).astype(np.uint16))
            else:
                column.append(values.astype(storage_dtype(dtype)))
    return GroupArrays(**columns, step=np.full(len(group.tensors), 9, np.int64))


def _differences(found: GroupArrays, expected: GroupArrays) -> int:
    """How many elements have other bits."""
    count = int((found.step != expected.step).sum())
    for slot in _SLOTS:
        for one, other in zip(getattr(found, slot.value), getattr(expected, slot.value)):
            if one is not None and other is not None:
                bits = f"u{one.itemsize}"
                count += int((one.view(bits) != other.view(bits)).sum())
    return count


def _check_one(gpu: Gpu, name: str, elements: int, config: Config) -> bool:
    structure = structure_from_name(name)
    ir = lower_structure(structure)
    built = build_cuda_kernel(render(ir, CUDA_TARGET), config)
    kernel = load_cuda_kernel(built.library)
    kernel.device_count()
    group = _group(structure, _SIZES)
    arrays = _arrays(group)
    step = _Step(gpu, kernel, group, arrays)
    step.run()
    module = lower_plan(UpdatePlan((group,)))
    (expected,) = interpret(module, [arrays], _LR)
    differing = _differences(step.result(), expected)
    gpu.clear()
    same = "the same bits" if differing == 0 else f"{differing} ELEMENTS DIFFER"
    click.echo(f"{name}: {same}; {_speed(gpu, kernel, structure, ir, elements)}")
    return differing == 0


def _speed(
    gpu: Gpu, kernel: LoadedCudaKernel, structure: KernelStructure, ir: GroupIR, elements: int
) -> str:
    group = _group(structure, (elements,))
    step = _Step(gpu, kernel, group, _arrays(group))
    seconds = gpu.seconds(step.run, _REPEATS)
    gpu.clear()
    moved = traffic_of(ir.bodies[0]).total * elements
    return f"{seconds * 1e3:.3f} ms for {elements:,} elements, {moved / seconds / 1e9:,.0f} GB/s"


def _time_torch(gpu: Gpu, elements: int) -> str:
    import torch

    if not torch.cuda.is_available():
        return "torch.optim.RAdam: this PyTorch finds no GPU"
    param = torch.nn.Parameter(torch.randn(elements, device="cuda"))
    param.grad = torch.randn(elements, device="cuda")
    optimizer = torch.optim.RAdam([param], weight_decay=0.01, foreach=True)
    return f"torch.optim.RAdam: {_median(gpu, optimizer.step, torch.cuda.synchronize)}"


def _time_paddle(gpu: Gpu, elements: int) -> str:
    import paddle

    if not paddle.is_compiled_with_cuda() or paddle.device.cuda.device_count() == 0:
        return "paddle.optimizer.RAdam: this Paddle finds no GPU"
    paddle.set_device("gpu")
    param = paddle.create_parameter([elements], "float32")
    optimizer = paddle.optimizer.RAdam(parameters=[param], weight_decay=0.01)
    (param * paddle.randn([elements])).sum().backward()
    synchronize = paddle.device.cuda.synchronize
    return f"paddle.optimizer.RAdam: {_median(gpu, optimizer.step, synchronize)}"


def _median(gpu: Gpu, work: Callable[[], Any], wait: Callable[[], Any]) -> str:
    """Of steps that run on a stream of their own, which are waited for."""

    def whole() -> None:
        work()
        wait()

    return f"{gpu.seconds(whole, _REPEATS) * 1e3:.3f} ms"


@click.command()
@click.option(
    "--kernel", "kernels", multiple=True, metavar="NAME", help="A kernel's name; repeatable."
)
@click.option(
    "--elements",
    type=click.IntRange(min=1),
    default=1 << 26,
    show_default=True,
    help="Of the tensor that is timed.",
)
def check(kernels: tuple[str, ...], elements: int) -> None:
    """Run CUDA kernels on this machine's GPU: are their results right, and how long do they take?

    Exit status: 0 all results are right, 1 one is not, or there is no GPU.
    """
    try:
        for name in kernels:
            structure_from_name(name)
        gpu = Gpu()
        click.echo(f"GPU: {gpu.name}")
        config = replace(current(), mode="auto")
        right = [_check_one(gpu, name, elements, config) for name in kernels or KERNELS]
    except RadamCodegenError as error:
        raise click.ClickException(str(error)) from error
    for name, timed in (("PyTorch", _time_torch), ("Paddle", _time_paddle)):
        try:
            click.echo(f"{timed(gpu, elements)} for {elements:,} float32 elements")
        except ImportError:
            click.echo(f"{name} is not installed; its RAdam is not timed")
    if not all(right):
        raise click.exceptions.Exit(1)


if __name__ == "__main__":
    check()
