"""What each process of test_data_parallel.py runs: one network, with ours and with native RAdam."""

from __future__ import annotations

from typing import Any

import numpy as np
import paddle
import paddle.distributed as dist

import radam_codegen as rc

STEPS = 8


def train(optimizer_class: Any) -> Any:
    """Return all parameters in one array, after steps on data that differ by process."""
    with paddle.utils.unique_name.guard():
        attr = paddle.ParamAttr(initializer=paddle.nn.initializer.Constant(0.3))
        network = paddle.nn.Linear(3, 2, weight_attr=attr)
        model = paddle.DataParallel(network)
        optimizer = optimizer_class(0.05, parameters=model.parameters(), weight_decay=0.1)
        for step in range(STEPS):
            x = np.array([[1.0, 2.0, 3.0 + step]], "float32") * (dist.get_rank() + 1)
            paddle.mean(model(paddle.to_tensor(x)) ** 2).backward()
            optimizer.step()
            optimizer.clear_grad()
        return np.concatenate([each.numpy().ravel() for each in network.parameters()])


def main() -> None:
    """Compare with native RAdam, and the processes with each other."""
    dist.init_parallel_env()
    assert dist.get_world_size() == 2
    ours, native = train(rc.RAdam), train(paddle.optimizer.RAdam)
    np.testing.assert_allclose(ours, native, 2e-5, 2e-6)
    everywhere: list[Any] = []
    dist.all_gather(everywhere, paddle.to_tensor(ours))
    for other in everywhere:
        np.testing.assert_array_equal(other.numpy(), ours)
    print(f"process {dist.get_rank()}: the same as native and everywhere", flush=True)


if __name__ == "__main__":
    main()
