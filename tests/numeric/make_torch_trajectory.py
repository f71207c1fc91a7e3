"""Write ``data/torch_trajectory.json``: where PyTorch's RAdam goes in 2,000 steps.

PyTorch is no dependency of this project. To make the numbers anew, from the project's folder::

    python3 -m venv torchvenv
    torchvenv/bin/pip install torch==2.13.0 numpy
    torchvenv/bin/python tests/numeric/make_torch_trajectory.py
"""

from __future__ import annotations

import json
import sys
from pathlib import Path
from typing import Any

import numpy as np
import torch

_TESTS = Path(__file__).resolve().parents[1]
sys.path.insert(0, str(_TESTS))

from support.torch_trajectory import (  # noqa: E402
    GROUPS,
    LEARNING_RATE,
    RECORDED,
    STEPS,
    VARIANTS,
    gradients,
    start,
)


def _groups(params: list[Any]) -> list[dict[str, Any]]:
    rest = iter(params)
    return [
        {
            "params": [next(rest) for _ in group["shapes"]],
            "lr": LEARNING_RATE * group["learning_rate"],
            "betas": (group["beta1"], group["beta2"]),
            "eps": group["epsilon"],
            "weight_decay": group["weight_decay"],
        }
        for group in GROUPS
    ]


def _train(decoupled: bool) -> dict[str, list[float]]:
    params = [torch.tensor(value, dtype=torch.float64, requires_grad=True) for value in start()]
    optimizer = torch.optim.RAdam(_groups(params), decoupled_weight_decay=decoupled, foreach=False)
    recorded = {}
    for step in range(1, STEPS + 1):
        found = gradients([param.detach().numpy() for param in params], step)
        for param, grad in zip(params, found):
            param.grad = torch.from_numpy(grad)
        optimizer.step()
        if step in RECORDED:
            flat = np.concatenate([param.detach().numpy().ravel() for param in params])
            recorded[str(step)] = [float(value) for value in flat]
    return recorded


def main() -> None:
    trajectories = {name: _train(decoupled) for name, decoupled in VARIANTS.items()}
    written = {"made_by": f"torch {torch.__version__.split('+')[0]}", **trajectories}
    lines = json.dumps(written).replace("], ", "],\n").replace("}, ", "},\n")
    (_TESTS / "numeric" / "data" / "torch_trajectory.json").write_text(lines + "\n", "utf-8")


if __name__ == "__main__":
    main()
