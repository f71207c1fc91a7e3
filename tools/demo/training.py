"""The network, the data and the training loop of the demo."""

from __future__ import annotations

import time
from dataclasses import dataclass, field
from types import TracebackType
from typing import Any

import numpy as np
from numpy.typing import NDArray

from radam_codegen.errors import RadamCodegenError

__all__ = ["BATCH", "LEARNING_RATE", "Digits", "Epoch", "StaticMode", "Trainee", "load_digits"]

BATCH = 32
LEARNING_RATE = 5e-3
_TEST_IMAGES = 360


@dataclass(frozen=True)
class Digits:
    """Handwritten digits: images of shape ``[N, 1, 8, 8]`` in 0..1, labels of shape ``[N, 1]``."""

    train_images: NDArray[np.float32]
    train_labels: NDArray[np.int64]
    test_images: NDArray[np.float32]
    test_labels: NDArray[np.int64]


def load_digits() -> Digits:
    """Load the 1,797 images that come with scikit-learn, always split in the same way."""
    try:
        from sklearn import datasets
    except ImportError as error:
        raise RadamCodegenError(
            "the demo trains on scikit-learn's digits, and scikit-learn is not installed: "
            "pip install 'radam-codegen[demo]'"
        ) from error

    bunch = datasets.load_digits()
    order = np.random.RandomState(0).permutation(len(bunch.target))
    images = (bunch.images[order] / 16.0).astype(np.float32)[:, np.newaxis]
    labels = bunch.target[order].astype(np.int64)[:, np.newaxis]
    return Digits(
        train_images=images[:-_TEST_IMAGES],
        train_labels=labels[:-_TEST_IMAGES],
        test_images=images[-_TEST_IMAGES:],
        test_labels=labels[-_TEST_IMAGES:],
    )


@dataclass(frozen=True)
class Epoch:
    """What one pass over the training images came to."""

    #: Mean cross entropy over the epoch's batches.
    loss: float
    #: Part of the test images that are recognised after the epoch, 0..1.
    accuracy: float


class StaticMode:
    """Context in which Paddle builds static programs; the mode from before comes back at exit."""

    def __enter__(self) -> None:
        import paddle

        self._was_dynamic = paddle.in_dynamic_mode()
        paddle.enable_static()

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        traceback: TracebackType | None,
    ) -> None:
        import paddle

        if self._was_dynamic:
            paddle.disable_static()


def _forward() -> tuple[Any, Any]:
    """Append a small convolutional network to the current program; return logits and loss.

    It is smooth: at the kinks of a ReLU or a maximum, training would blow the rounding by which two
    optimizers differ up to differences in the second digit, and comparing them would say nothing.
    """
    import paddle
    from paddle.nn import functional

    image = paddle.static.data("image", [None, 1, 8, 8], "float32")
    label = paddle.static.data("label", [None, 1], "int64")
    hidden = functional.silu(paddle.nn.Conv2D(1, 16, 3, padding=1)(image))
    hidden = functional.silu(paddle.nn.Conv2D(16, 32, 3, padding=1)(hidden))
    hidden = paddle.flatten(functional.avg_pool2d(hidden, 2), 1)
    logits = paddle.nn.Linear(32 * 4 * 4, 10)(hidden)
    return logits, functional.cross_entropy(logits, label)


@dataclass
class Trainee:
    """One optimizer with a program, a scope and a record of its own.

    Args:
        optimizer: A ``paddle.optimizer.Optimizer`` that has minimized nothing yet.
        seed: Seed of the initial parameters.

    Must be made, and used, inside :class:`StaticMode`.

    """

    optimizer: Any
    seed: int
    epochs: list[Epoch] = field(default_factory=list)
    #: One per step: a whole ``Executor.run``, so forward, backward and update.
    step_seconds: list[float] = field(default_factory=list)
    #: From calling ``minimize`` until the startup program has run.
    startup_seconds: float = field(init=False)

    def __post_init__(self) -> None:
        import paddle

        self._executor = paddle.static.Executor(paddle.CPUPlace())
        self._scope = paddle.static.Scope()
        self._main, self._startup = paddle.static.Program(), paddle.static.Program()
        self._test = paddle.static.Program()
        # Parameters must have the same names in the training and in the test program, and with
        # either optimizer.
        test_guard = paddle.static.program_guard(self._test, paddle.static.Program())
        with paddle.utils.unique_name.guard(), test_guard:
            self._logits, _ = _forward()
        paddle.seed(self.seed)
        with paddle.utils.unique_name.guard():
            with paddle.static.program_guard(self._main, self._startup):
                _, self._loss = _forward()
                start = time.perf_counter()
                self.optimizer.minimize(self._loss)
            self._executor.run(self._startup, scope=self._scope)
            self.startup_seconds = time.perf_counter() - start
        self._losses: list[float] = []

    def step(self, images: NDArray[np.float32], labels: NDArray[np.int64]) -> None:
        """Train on one batch."""
        start = time.perf_counter()
        (loss,) = self._executor.run(
            self._main,
            feed={"image": images, "label": labels},
            fetch_list=[self._loss],
            scope=self._scope,
        )
        self.step_seconds.append(time.perf_counter() - start)
        self._losses.append(float(loss))

    def end_epoch(self, images: NDArray[np.float32], labels: NDArray[np.int64]) -> Epoch:
        """Test, and record the epoch."""
        (logits,) = self._executor.run(
            self._test,
            feed={"image": images, "label": labels},
            fetch_list=[self._logits],
            scope=self._scope,
        )
        hits = np.argmax(logits, axis=1) == labels[:, 0]
        epoch = Epoch(float(np.mean(self._losses)), float(np.mean(hits)))
        self._losses.clear()
        self.epochs.append(epoch)
        return epoch

    def parameters(self) -> dict[str, NDArray[np.float32]]:
        """Copy all parameters; return them by name."""
        return {
            parameter.name: self._value(parameter.name)
            for parameter in self._main.global_block().all_parameters()
        }

    def state_bytes(self) -> int:
        """Bytes that the optimizer keeps from step to step, the learning rate left out."""
        names = self._main.state_dict("opt", self._scope)
        return sum(
            self._value(name).nbytes for name in names if not name.startswith("learning_rate")
        )

    def _value(self, name: str) -> NDArray[Any]:
        return np.array(self._scope.find_var(name).get_tensor())
