"""Take real optimizer steps in this process, and report what happens, stage by stage.

Run by the doctor as ``python -m radam_codegen.tools.doctor.step DESCRIPTOR``: Paddle, the operator
and a kernel are loaded here, so that whatever they do to their process, the doctor sees it. Each
stage writes a line of JSON when it begins and one when it ends.
"""

from __future__ import annotations

import json
import math
import os
import sys
import traceback
import warnings
from collections.abc import Callable
from pathlib import Path
from typing import Any

from radam_codegen.config import current
from radam_codegen.errors import RadamCodegenError

__all__ = ["KERNEL", "STAGES", "expected_value", "main"]

#: In the order in which they run; a stage that fails ends the process.
STAGES = ("Paddle", "operator", "dynamic graph", "static program")

#: Name of the kernel that does the steps.
KERNEL = "radam_no_clip__f32_no_decay"

_START, _GRADIENT, _RATE = 0.5, 0.25, 0.1
_BETA1, _BETA2, _EPSILON = 0.9, 0.999, 1e-8
#: Rectification sets in at the sixth.
_STEPS = 8


def expected_value() -> float:
    """Where the formula takes a parameter that has the same gradient at every step."""
    value, moment1, moment2 = _START, 0.0, 0.0
    rho_inf = 2.0 / (1.0 - _BETA2) - 1.0
    for t in range(1, _STEPS + 1):
        moment1 = _BETA1 * moment1 + (1.0 - _BETA1) * _GRADIENT
        moment2 = _BETA2 * moment2 + (1.0 - _BETA2) * _GRADIENT**2
        rest = 1.0 - _BETA2**t
        rho = rho_inf - 2.0 * t * _BETA2**t / rest
        update = moment1 / (1.0 - _BETA1**t)
        if rho > 5.0:
            rate = (rho - 4.0) * (rho - 2.0) * rho_inf / ((rho_inf - 4.0) * (rho_inf - 2.0) * rho)
            update *= math.sqrt(rate) * math.sqrt(rest) / (math.sqrt(moment2) + _EPSILON)
        value -= _RATE * update
    return value


def main(descriptor: int) -> int:
    """Run all stages; returns the exit status."""
    warnings.simplefilter("ignore")  # of Paddle's; ours are in what it comes to
    run: dict[str, Callable[[], dict[str, Any]]] = dict(
        zip(STAGES, (_paddle, _operator, _dynamic_graph, _static_program))
    )
    with os.fdopen(descriptor, "w", encoding="utf-8") as stream:

        def say(**facts: Any) -> None:
            print(json.dumps(facts), file=stream, flush=True)

        for stage in STAGES:
            say(begin=stage)
            try:
                facts = run[stage]()
            except Exception as error:
                say(
                    end=stage,
                    error=type(error).__name__,
                    message=str(error),
                    ours=isinstance(error, RadamCodegenError),
                    module=getattr(error, "name", None),
                    traceback=traceback.format_exc(),
                )
                return 1
            say(end=stage, **facts)
    return 0


def _paddle() -> dict[str, Any]:
    import paddle

    root = Path(paddle.__file__).resolve().parent
    header = root / "include" / "paddle" / "phi" / "api" / "ext" / "op_meta_info.h"
    name = "FLAGS_enable_pir_api"
    return {
        "version": str(paddle.version.full_version),
        "folder": str(root),
        "headers": header.is_file(),
        "ir": "PIR" if paddle.get_flags(name)[name] else "legacy",
        "cuda": bool(paddle.is_compiled_with_cuda()),
    }


def _operator() -> dict[str, Any]:
    if current().mode == "off":
        return {"path": None}
    from radam_codegen.program import kernels

    return {"path": str(kernels.operator().path)}


def _dynamic_graph() -> dict[str, Any]:
    import paddle

    from radam_codegen.optimizer import RAdam

    paddle.disable_static()
    paddle.set_device("cpu")
    weight = paddle.create_parameter([4], "float32", default_initializer=_initializer())
    optimizer = RAdam(_RATE, _BETA1, _BETA2, _EPSILON, parameters=[weight])
    for _ in range(_STEPS):
        weight.grad = paddle.full([4], _GRADIENT)
        optimizer.step()
    sources = [str(source.path) for source in optimizer.sources()]
    return {"value": float(weight[0]), "sources": sources}


def _static_program() -> dict[str, Any]:
    import numpy as np
    import paddle

    from radam_codegen.optimizer import RAdam

    paddle.enable_static()
    main, startup = paddle.static.Program(), paddle.static.Program()
    with paddle.static.program_guard(main, startup):
        x = paddle.static.data("x", [4], "float32")
        weight = paddle.create_parameter([4], "float32", default_initializer=_initializer())
        result = RAdam(_RATE, _BETA1, _BETA2, _EPSILON).minimize(paddle.mean(x * weight))
    executor = paddle.static.Executor(paddle.CPUPlace())
    executor.run(startup)
    feed = {"x": np.full(4, 4 * _GRADIENT, "float32")}  # the mean of four
    for _ in range(_STEPS):
        executor.run(main, feed=feed, fetch_list=[result])
    tensor = paddle.static.global_scope().find_var(weight.name).get_tensor()
    return {"value": float(np.array(tensor)[0])}


def _initializer() -> Any:
    import paddle

    return paddle.nn.initializer.Constant(_START)


if __name__ == "__main__":
    sys.exit(main(int(sys.argv[1])))
