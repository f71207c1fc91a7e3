"""Training in processes that :mod:`support.fork_server` forks, and what they start."""

from __future__ import annotations

import hashlib
import importlib
import os
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import paddle

_STARTS = ("subprocess.Popen", "os.posix_spawn", "os.exec", "os.fork", "os.forkpty", "os.system")
_STEPS = 7
_START = 0.5
#: The same number in float32, in which a program has it, and in float64.
_LR = 2.0**-7
_SHAPES = ((9,), (3, 5), (20001,))

started: list[str] = []


def _note(event: str, arguments: tuple[Any, ...]) -> None:
    if event in _STARTS:
        started.append(f"{event}: {arguments[:2]}")


def _optimizer(clip: float, params: Any) -> Any:
    import radam_codegen as rc

    return rc.RAdam(
        _LR,
        parameters=params,
        weight_decay=0.1,
        grad_clip=paddle.nn.ClipGradByGlobalNorm(clip) if clip else None,
    )


def _gradients() -> Iterator[list[Any]]:
    random = np.random.default_rng(5)
    for _ in range(_STEPS):
        yield [random.standard_normal(shape).astype("float32") for shape in _SHAPES]


def _static(clip: float, save: Path | None) -> list[Any]:
    from support.static_programs import FedProgram, Tensor

    paddle.enable_static()
    tensors = [Tensor(f"p{number}", shape) for number, shape in enumerate(_SHAPES)]
    program = FedProgram(tensors, lambda params: _optimizer(clip, params))
    program.start([np.full(shape, _START, "float32") for shape in _SHAPES])
    for gradients in _gradients():
        program.step(gradients)
    _save(program.optimizer, save)
    if save is not None:
        with paddle.static.scope_guard(program.scope):
            paddle.static.save(program.main, str(save / "program"))
    return [np.asarray(value) for value in program.values()]


def _dynamic(clip: float, save: Path | None) -> list[Any]:
    params = [
        paddle.create_parameter(
            list(shape), "float32", default_initializer=paddle.nn.initializer.Constant(_START)
        )
        for shape in _SHAPES
    ]
    optimizer = _optimizer(clip, params)
    for gradients in _gradients():
        for param, gradient in zip(params, gradients):
            (param * paddle.to_tensor(gradient)).sum().backward()
        optimizer.step()
        optimizer.clear_grad()
    _save(optimizer, save)
    return [param.numpy() for param in params]


def _save(optimizer: Any, save: Path | None) -> None:
    if save is not None:
        (save / "plan.json").write_text(optimizer.plan.to_json())


def warm_up(folder: Path) -> None:
    """Import all that is imported late, but this project."""
    for name in ("filelock", "jinja2", "platformdirs"):
        importlib.import_module(name)


def train(
    mode: str, clip: float, environ: dict[str, str | None], save: str | None = None
) -> dict[str, Any]:
    """Train, and look what that starts.

    Args:
        mode: ``"static"`` or ``"dynamic"``.
        clip: The norm that all gradients are clipped to, or 0.
        environ: Variables to set, or to take away.
        save: The folder that plan and program go to.

    Returns:
        A digest of all parameters, and what was started.
    """
    for name, text in environ.items():
        if text is None:
            os.environ.pop(name, None)
        else:
            os.environ[name] = text
    sys.addaudithook(_note)
    values = {"static": _static, "dynamic": _dynamic}[mode](clip, Path(save) if save else None)
    digest = hashlib.sha256(b"".join(value.tobytes() for value in values)).hexdigest()
    return {"values": digest, "started": started}
