"""GPUs as the installed Paddle sees them, and which language of kernels they call for."""

from __future__ import annotations

from dataclasses import dataclass

import paddle

from radam_codegen.errors import NoGpuError

__all__ = ["Gpus", "check_gpu", "gpus_here", "language_of"]


@dataclass(frozen=True)
class Gpus:
    """What Paddle can use.

    Attributes:
        with_cuda: Whether it is built for CUDA.
        count: How many GPUs it finds.
        place: Where it puts tensors that nobody says a place of: ``"cpu"``, ``"gpu:0"``.
    """

    with_cuda: bool
    count: int
    place: str


def gpus_here() -> Gpus:
    """Ask the installed Paddle."""
    # A Paddle for AMD's GPUs says that it is compiled with CUDA, too.
    with_cuda = paddle.is_compiled_with_cuda() and not paddle.is_compiled_with_rocm()
    count = paddle.device.cuda.device_count() if with_cuda else 0
    return Gpus(with_cuda, count, paddle.device.get_device())


def language_of(target: str, gpus: Gpus) -> str:
    """The language of the kernels of a static program, ``"c"`` or ``"cuda"``.

    A program is built before an executor says where it runs, so ``"auto"`` follows the place that
    Paddle is set to, which is a GPU where there is one, unless ``paddle.set_device`` was called.

    Args:
        target: ``"c"``, ``"cuda"`` or ``"auto"``.
        gpus: What Paddle can use.
    """
    if target != "auto":
        return target
    on_gpu = gpus.with_cuda and gpus.count > 0 and gpus.place.partition(":")[0] == "gpu"
    return "cuda" if on_gpu else "c"


def check_gpu() -> None:
    """Demand a GPU.

    Raises:
        NoGpuError: Paddle is built for CPUs only, or finds no GPU; the message says which.
    """
    gpus = gpus_here()
    if not gpus.with_cuda:
        reason = f"the installed Paddle {paddle.__version__} is built for CPUs only"
        if paddle.is_compiled_with_rocm():
            reason = f"the installed Paddle {paddle.__version__} is built for AMD's GPUs"
        advice = "install paddlepaddle-gpu, or leave the target out"
    elif gpus.count == 0:
        reason = "Paddle finds no GPU that this process may use"
        advice = "look at what `nvidia-smi` shows, or leave the target out"
    else:
        return
    raise NoGpuError(f"target='cuda' cannot run here: {reason}; {advice}")
