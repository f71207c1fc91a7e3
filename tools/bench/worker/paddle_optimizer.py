"""RAdam for Paddle: ours, Paddle's own, or none."""

from __future__ import annotations

from typing import Any

from .workload import Workload

__all__ = ["make_optimizer"]


def make_optimizer(kind: str, workload: Workload, parameters: Any = None) -> Any:
    """Make an optimizer with the workload's numbers; None for what is neither ours nor native.

    Args:
        kind: ``"ours"``, ``"native"`` or something else.
        workload: Its numbers.
        parameters: What to optimize, in dynamic graph.
    """
    import paddle

    if kind not in ("ours", "native"):
        return None
    clip = None
    if workload.clip_norm is not None:
        clip = paddle.nn.ClipGradByGlobalNorm(workload.clip_norm)
    make: Any = paddle.optimizer.RAdam
    if kind == "ours":
        import radam_codegen

        make = radam_codegen.RAdam
    optimizer = make(
        learning_rate=workload.learning_rate,
        beta1=workload.beta1,
        beta2=workload.beta2,
        epsilon=workload.epsilon,
        parameters=parameters,
        weight_decay=workload.weight_decay,
        grad_clip=clip,
    )
    if kind == "native" and parameters is None and optimizer._dtype is None:
        # Paddle takes it from the loss, of which there is none where gradients are given.
        optimizer._dtype = paddle.float32
    return optimizer
