"""Whether the installed Paddle can use a GPU."""

from __future__ import annotations

import paddle

from radam_codegen.errors import NoGpuError

__all__ = ["check_gpu"]


def check_gpu() -> None:
    """Demand a GPU.

    Raises:
        NoGpuError: Paddle is built for CPUs only, or finds no GPU; the message says which.
    """
    if not paddle.is_compiled_with_cuda():
        reason = f"the installed Paddle {paddle.__version__} is built for CPUs only"
        advice = "install paddlepaddle-gpu, or leave the target out"
    elif paddle.device.cuda.device_count() == 0:
        reason = "Paddle finds no GPU that this process may use"
        advice = "look at what `nvidia-smi` shows, or leave the target out"
    else:
        return
    raise NoGpuError(f"target='cuda' cannot run here: {reason}; {advice}")
