"""A process that finds out what the operator for a Paddle with CUDA does, and prints it as JSON.

The Paddle that is installed is one for CPUs. What its other builds have more is made of host memory
by ``tests/cuda/device``: tensors that say that they are on a GPU, and a CUDA kernel that runs a C
kernel on them. The operator itself is compiled, linked and called as ever.

    python -m support.cuda_operator FOLDER cuda     libpaddle_gpu.so and on_the_host.so are in it
    python -m support.cuda_operator FOLDER nvcc     likewise, and nvcc compiles a kernel
    python -m support.cuda_operator FOLDER usual    with the operator for the Paddle that is there
"""

from __future__ import annotations

import ctypes
import dataclasses
import hashlib
import json
import sys
from pathlib import Path
from typing import Any

import numpy as np
import paddle
from paddle.nn import ClipGradByGlobalNorm

import radam_codegen as rc
from radam_codegen.config import current
from radam_codegen.ir.dtypes import DType
from radam_codegen.ir.launch import LaunchSpec
from radam_codegen.ir.plan import Clip, ClipKind, Decay, DecayKind, GroupPlan, TensorPlan
from radam_codegen.program import kernels, operator
from radam_codegen.program.installation import installed_paddle
from radam_codegen.runtime import LoadedKernel, load_cuda_kernel, load_kernel
from radam_codegen.runtime.interface import ffi, parsed
from radam_codegen.toolchain import build_kernel
from radam_codegen.toolchain.cuda import architectures
from support.static_programs import FedProgram, Tensor, random_gradients

Array = np.ndarray[Any, np.dtype[Any]]

F32, BF16 = DType.FLOAT32, DType.BFLOAT16
L2_AT_RUN_TIME = Decay(DecayKind.L2, 0.0, True)
GROUP = GroupPlan(
    (
        TensorPlan("long", (20_000,), F32, F32, F32, decay=L2_AT_RUN_TIME),
        TensorPlan("none", (0,), F32, F32, F32, decay=Decay(DecayKind.L2, 0.25)),
        TensorPlan("half", (513,), BF16, BF16, F32, master=True, lr_scale=0.5),
        TensorPlan("odd", (7,), F32, F32, F32, decay=Decay(DecayKind.L2, 0.25)),
    ),
    clip=Clip(ClipKind.GLOBAL_NORM, 2.0),
    skip=True,
)
DECAY = 0.125
LR = 0.03125
#: Paddle's numbers of types, by those of NumPy; bfloat16 is kept in uint16.
NUMBERS = {"bool": 1, "int64": 9, "float32": 10, "float64": 11, "uint16": 16}
CPU, GPU = -1, 0
CUDA_KEY, C_KEY = 1, 2


class Given(ctypes.Structure):
    """One tensor that an operator is given."""

    _fields_ = (
        ("memory", ctypes.c_void_p),
        ("numel", ctypes.c_int64),
        ("dtype", ctypes.c_int32),
        ("device", ctypes.c_int32),
        ("input", ctypes.c_int32),
        ("listed", ctypes.c_int32),
    )


class Arrays:
    """What a step of :data:`GROUP` works on, and on which device each input is."""

    def __init__(self) -> None:
        random = np.random.default_rng(5)
        sizes = [tensor.numel for tensor in GROUP.tensors]
        types = ["float32", "float32", "uint16", "float32"]
        self.param, self.grad = (
            [_random(random, size, dtype) for size, dtype in zip(sizes, types)] for _ in range(2)
        )
        self.moment1 = [np.zeros(size, "float32") for size in sizes]
        self.moment2 = [np.zeros(size, "float32") for size in sizes]
        self.step = np.zeros(len(sizes), "int64")
        self.lr = np.array([LR], "float32")
        self.master = [_random(random, 513, "float32")]
        self.found_inf = np.array([False])
        self.weight_decay = np.array([DECAY], "float32")

    def given(self, moved: dict[str, int]) -> Any:
        """The inputs, all on one GPU but those that ``moved`` names: on the device that it says."""
        inputs: list[tuple[str, Any]] = [
            (name, getattr(self, name))
            for name in (
                *("param", "grad", "moment1", "moment2", "step", "lr"),
                *("master", "found_inf", "weight_decay"),
            )
        ]
        rows = []
        for number, (name, value) in enumerate(inputs):
            for place, array in enumerate(value if isinstance(value, list) else [value]):
                device = moved.get(f"{name} {place}", moved.get(name, GPU))
                dtype = NUMBERS[array.dtype.name]
                listed = isinstance(value, list)
                rows.append(Given(array.ctypes.data, array.size, dtype, device, number, listed))
        return (Given * len(rows))(*rows)

    def digest(self) -> str:
        """A hash of all that a step updates."""
        updated = [*self.param, *self.moment1, *self.moment2, *self.master, self.step]
        return hashlib.sha256(b"".join(each.tobytes() for each in updated)).hexdigest()


def _random(random: np.random.Generator, size: int, dtype: str) -> Array:
    values = random.standard_normal(size).astype("float32")
    return (values.view(np.uint32) >> 16).astype("uint16") if dtype == "uint16" else values


class Device:
    """The libraries in a folder that stand in for a GPU."""

    def __init__(self, folder: Path) -> None:
        # For all to see, so that the operator finds it before Paddle.
        self.paddle = ctypes.CDLL(str(folder / "libpaddle_gpu.so"), ctypes.RTLD_GLOBAL)
        self.paddle.gpu_stream.restype = ctypes.c_void_p
        for name in ("gpu_live_bytes", "gpu_taken_bytes", "gpu_fills"):
            getattr(self.paddle, name).restype = ctypes.c_int64
        self.kernel = load_cuda_kernel(folder / "on_the_host.so")
        types = parsed()
        types.cdef(
            "extern const radam_kernel *host_kernel; extern int32_t device_status, step_status;"
            "extern radam_cuda_group last_group; extern void *last_stream;"
            "extern int64_t step_calls;"
        )
        self.host = types.dlopen(str(folder / "on_the_host.so"))
        self.types = types

    def use(self, kernel: LoadedKernel) -> None:
        """Have the CUDA kernel do what a C kernel does."""
        self.host.host_kernel = self.types.cast("const radam_kernel *", kernel.address)

    def run(self, name: str, key: int, given: Any, launch: str = "") -> str:
        """Run an operator; returns what Paddle raises, or nothing."""
        message = ctypes.create_string_buffer(1 << 16)
        status = self.paddle.run_operator(
            name.encode(),
            ctypes.c_int64(key),
            launch.encode(),
            given,
            ctypes.c_int64(len(given)),
            message,
            ctypes.c_int64(len(message)),
        )
        assert (status != 0) == bool(message.value)
        return message.value.decode()

    def step(self, arrays: Arrays, key: int = CUDA_KEY, **moved: int) -> str:
        named = {name.replace("_at_", " "): device for name, device in moved.items()}
        return self.run("radam_codegen_step", key, arrays.given(named))


def expected_after(kernel: LoadedKernel, steps: list[bool], lr: float = LR) -> str:
    """What the C kernel makes of the arrays, called by address; a step per ``found_inf``."""
    library, arrays = kernels.operator(), Arrays()
    spec = LaunchSpec.from_group(GROUP)
    tensors = [
        each._replace(decay=DECAY, decay_at_run_time=False) if each.decay_at_run_time else each
        for each in spec.tensors
    ]
    library.register(C_KEY, kernel, spec.numbers, tensors, GROUP.structure.classes)
    masters = iter(arrays.master)
    rows = ffi().new("radam_tensor[]", len(tensors))
    for index, tensor in enumerate(GROUP.tensors):
        slots = [getattr(arrays, name)[index] for name in ("param", "grad", "moment1", "moment2")]
        slots += [next(masters)] if tensor.master else []
        addresses = [ffi().cast("void *", each.ctypes.data) for each in slots]
        rows[index] = (*addresses, *[ffi().NULL] * (5 - len(slots)), tensor.numel)
    step = ffi().cast("int64_t *", arrays.step.ctypes.data)
    for found_inf in steps:
        library.run(C_KEY, rows, len(tensors), step, lr, found_inf)
    return arrays.digest()


def on_the_cpu() -> str:
    """Train on the CPU; a hash of what comes out."""
    tensors = (Tensor("weight", (300, 70)), Tensor("bias", (3,)))

    def optimizer(params: list[Any]) -> Any:
        return rc.RAdam(grad_clip=ClipGradByGlobalNorm(1.0), weight_decay=0.1)

    paddle.enable_static()
    paddle.seed(1)
    program = FedProgram(tensors, optimizer).start()
    program.write("weight", np.ones((300, 70), "float32"))
    program.write("bias", np.ones(3, "float32"))
    for grads in random_gradients(tensors, 8):
        program.step(grads)
    values = [program.read(each.name).tobytes() for each in tensors]
    return hashlib.sha256(b"".join(values)).hexdigest()


def three_steps(device: Device, kernel: LoadedKernel) -> dict[str, Any]:
    """Steps with everything on the GPU, the second of which is to be skipped."""
    arrays, flags = Arrays(), [False, True, False]
    messages = []
    for found_inf in flags:
        arrays.found_inf[0] = found_inf
        messages.append(device.step(arrays))
    group, host = device.host.last_group, device.host
    given = {
        "step": (group.step, arrays.step),
        "lr": (group.lr, arrays.lr),
        "weight_decay": (group.weight_decay, arrays.weight_decay),
        "found_inf": (group.found_inf, arrays.found_inf),
    }
    return {
        "messages": messages,
        "same": arrays.digest() == expected_after(kernel, flags),
        "counts": arrays.step.tolist(),
        "in place": {k: _number(p) == array.ctypes.data for k, (p, array) in given.items()},
        "stream": _number(host.last_stream) == device.paddle.gpu_stream(),
        "asked, taken, left": [
            int(group.workspace_bytes),
            device.paddle.gpu_taken_bytes(),
            device.paddle.gpu_live_bytes(),
        ],
        "filled": device.paddle.gpu_fills(),
    }


def numbers_of_all_types(device: Device, kernel: LoadedKernel) -> list[Any]:
    """Learning rates of several types, on the GPU."""
    expected = expected_after(kernel, [False])
    results = []
    for lr in (np.array([LR], "float64"), np.array([LR], "float32").view("uint16")[1:]):
        arrays = Arrays()
        arrays.lr = lr
        message = device.step(arrays)
        results.append([message, int(device.host.last_group.lr_dtype), arrays.digest() == expected])
    return results


def numbers_on_the_cpu(device: Device, kernel: LoadedKernel) -> list[Any]:
    """Learning rate, decay and flag in host memory, set and not."""
    results = []
    for found_inf in (False, True):
        arrays, before = Arrays(), device.paddle.gpu_fills()
        arrays.found_inf[0] = found_inf
        message = device.step(arrays, lr=CPU, weight_decay=CPU, found_inf=CPU)
        same = arrays.digest() == expected_after(kernel, [found_inf])
        filled = device.paddle.gpu_fills() - before
        results.append([message, same, filled, device.paddle.gpu_live_bytes()])
    return results


def refusals(device: Device) -> dict[str, Any]:
    """What is said of what cannot run, and whether all arrays stayed as they were."""
    moves: dict[str, dict[str, int]] = {
        "gradient": {"grad_at_2": CPU},
        "master": {"master": 1},
        "step": {"step": CPU},
        "lr": {"lr": 1},
    }
    cases = {
        name: lambda arrays, moved=moved: device.step(arrays, **moved)
        for name, moved in moves.items()
    }
    cases["C kernel"] = lambda arrays: device.step(arrays, key=C_KEY)
    arrays = Arrays()
    said = {name: run(arrays) for name, run in cases.items()}
    device.host.step_status = 700
    said["launch"] = device.step(arrays)
    device.host.step_status = 0
    try:
        rows = ffi().new("radam_tensor[]", 4)
        kernels.operator().run(CUDA_KEY, rows, 4, ffi().NULL, LR)
    except rc.RadamCodegenError as error:
        said["call"] = str(error)
    for key, status in ((3, 35), (4, 0)):
        spec = LaunchSpec.from_group(GROUP)
        kernels.operator().register(
            key, device.kernel, spec.numbers, spec.tensors, GROUP.structure.classes
        )
        device.host.device_status = status
        said[f"device {status}"] = device.step(arrays, key=key)
        if status:
            said["unchanged"] = arrays.digest() == Arrays().digest()
    return said


def compiled_at_startup(device: Device) -> dict[str, Any]:
    """What the operator of a startup program makes of a launch for a GPU, and what a step says."""
    # The Paddle here would refuse; nvcc compiles for one architecture, not for all.
    kernels.check_gpu = lambda: None
    architectures.DEFAULT_ARCHITECTURES = (90,)
    spec = LaunchSpec.from_group(GROUP, "cuda")
    arrays = Arrays()
    step = Given(arrays.step.ctypes.data, arrays.step.size, NUMBERS["int64"], GPU, 0, 0)
    built = device.run("radam_codegen_build", spec.key, (Given * 1)(step), spec.to_text())
    source = kernels.source_of(GROUP.structure, "cuda")
    step.device = CPU
    return {
        "built": built,
        "source": None if source.path is None else source.path.name,
        "step": device.step(arrays, key=spec.key),
        "on the CPU": device.run(
            "radam_codegen_build", spec.key, (Given * 1)(step), spec.to_text()
        ),
    }


def _number(pointer: Any) -> int:
    return int(ffi().cast("intptr_t", pointer))


def usual(folder: Path) -> dict[str, Any]:
    """What the operator does that is compiled for the Paddle here."""
    spec, said = LaunchSpec.from_group(GROUP), ""
    kernel = load_cuda_kernel(folder / "on_the_host.so")
    try:
        kernels.operator().register(
            CUDA_KEY, kernel, spec.numbers, spec.tensors, GROUP.structure.classes
        )
    except rc.RadamCodegenError as error:
        said = str(error)
    return {"on the CPU": on_the_cpu(), "refused": said}


def with_cuda(folder: Path, nvcc: bool) -> dict[str, Any]:
    """What the operator does that is compiled for a Paddle with CUDA."""
    operator.installed_paddle = lambda: dataclasses.replace(installed_paddle(), cuda=True)
    device = Device(folder)
    kernel = load_kernel(build_kernel(kernels.source_of(GROUP.structure), current()).library)
    device.use(kernel)
    spec = LaunchSpec.from_group(GROUP)
    kernels.operator().register(
        CUDA_KEY, device.kernel, spec.numbers, spec.tensors, GROUP.structure.classes
    )
    return {
        "operator": str(kernels.operator().path),
        "on the CPU": on_the_cpu(),
        "three steps": three_steps(device, kernel),
        "types": numbers_of_all_types(device, kernel),
        "numbers on the CPU": numbers_on_the_cpu(device, kernel),
        "refusals": refusals(device),
        "startup": compiled_at_startup(device) if nvcc else None,
    }


if __name__ == "__main__":
    place, mode = Path(sys.argv[1]), sys.argv[2]
    found = usual(place) if mode == "usual" else with_cuda(place, nvcc=mode == "nvcc")
    print(json.dumps(found))
