"""Whole training steps of real networks, as static programs."""

from __future__ import annotations

from typing import Any

from .contestant import Contestant
from .paddle_optimizer import make_optimizer
from .workload import Workload

__all__ = ["make"]


def make(workload: Workload, options: dict[str, Any]) -> Contestant:
    """Make one.

    Args:
        workload: Its numbers; it has no shapes, as the network has its own.
        options: ``network``: a name of those below; ``optimizer``: ``"ours"``, ``"native"``, or
            ``"none"`` for forward and backward alone.
    """
    return _TrainingSteps(workload, options["network"], options["optimizer"])


class _TrainingSteps(Contestant):
    def __init__(self, workload: Workload, network: str, kind: str) -> None:
        import numpy as np
        import paddle

        paddle.enable_static()
        paddle.seed(1)
        self._main, startup = paddle.static.Program(), paddle.static.Program()
        self._scope = paddle.static.Scope()
        self._executor = paddle.static.Executor(paddle.CPUPlace())
        shape, forward = _NETWORKS[network]
        with paddle.static.program_guard(self._main, startup):
            batch = paddle.static.data("x", shape, "float32")
            result = forward(paddle, batch)
            loss = paddle.mean(result * result)
            optimizer = make_optimizer(kind, workload)
            if optimizer is None:
                pairs = paddle.static.append_backward(loss)
                # Of a ResNet, PIR also lists statistics, which have no gradient.
                pairs = [
                    (parameter, gradient) for parameter, gradient in pairs if gradient is not None
                ]
                for _, gradient in pairs:
                    # Else their memory is used again at once, and forward and backward run faster
                    # than with any optimizer.
                    gradient.persistable = True
            else:
                _, pairs = optimizer.minimize(loss)
        self._executor.run(startup, scope=self._scope)
        self._sizes = [int(np.prod(parameter.shape)) for parameter, _ in pairs]
        values = np.random.default_rng(0).standard_normal(shape, np.float32)
        self._feed = {"x": values}
        self._loss = loss

    def step(self) -> None:
        # Paddle empties the dict.
        self._executor.run(
            self._main, feed=dict(self._feed), fetch_list=[self._loss], scope=self._scope
        )

    def facts(self) -> dict[str, Any]:
        return {"tensors": len(self._sizes), "elements": sum(self._sizes)}


def _resnet50(paddle: Any, batch: Any) -> Any:
    return paddle.vision.models.resnet50()(batch)


def _bert_base(paddle: Any, batch: Any) -> Any:
    layer = paddle.nn.TransformerEncoderLayer(768, 12, 3072, dropout=0.0, activation="gelu")
    return paddle.nn.TransformerEncoder(layer, 12)(batch)


def _mlp(paddle: Any, batch: Any) -> Any:
    for _ in range(50):
        # These weights hand gradients on undiminished, so that no moment becomes denormal.
        weights = paddle.nn.initializer.KaimingNormal()
        layer = paddle.nn.Linear(256, 256, paddle.ParamAttr(initializer=weights))
        batch = paddle.nn.functional.relu(layer(batch))
    return batch


#: By name: the shape of a batch, and what is made of it.
_NETWORKS = {
    "mlp-50x256": ([8, 256], _mlp),
    "resnet50": ([2, 3, 64, 64], _resnet50),
    "bert-base": ([1, 32, 768], _bert_base),
}
