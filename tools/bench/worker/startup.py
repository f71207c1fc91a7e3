"""What a process pays before its first step: imports, ``minimize``, the startup program."""

from __future__ import annotations

import time
from typing import Any

from .paddle_optimizer import make_optimizer
from .workload import Workload

__all__ = ["measure"]

_LAYERS = 10


def measure(options: dict[str, Any]) -> dict[str, float]:
    """Start one optimizer up in a small network.

    Args:
        options: ``optimizer``: ``"ours"`` or ``"native"``.

    Returns:
        Seconds: ``import_paddle``, ``import`` of the package, and ``startup``, which is from
        ``minimize`` until the startup program has run.
    """
    begin = time.perf_counter()
    import paddle

    imported = time.perf_counter()
    if options["optimizer"] == "ours":
        import radam_codegen

        assert callable(radam_codegen.RAdam)  # imported when it is first asked for
    ready = time.perf_counter()
    paddle.enable_static()
    main, startup = paddle.static.Program(), paddle.static.Program()
    executor = paddle.static.Executor(paddle.CPUPlace())
    with paddle.static.program_guard(main, startup):
        value = paddle.static.data("x", [8, 64], "float32")
        for _ in range(_LAYERS):
            value = paddle.tanh(paddle.nn.Linear(64, 64)(value))
        loss = paddle.mean(value)
        workload = Workload((), 1, clip_norm=1.0, weight_decay=0.01)
        optimizer = make_optimizer(options["optimizer"], workload)
        built = time.perf_counter()
        optimizer.minimize(loss)
    executor.run(startup)
    done = time.perf_counter()
    return {
        "import_paddle": imported - begin,
        "import": ready - imported,
        "startup": done - built,
    }
