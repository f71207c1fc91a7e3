"""The demo: one network, trained with native RAdam and with a generated kernel, side by side."""

from __future__ import annotations

import statistics
import tempfile
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from radam_codegen.errors import ArgumentError, RadamCodegenError
from radam_codegen.tools.demo.startup import measure_startup
from radam_codegen.tools.demo.training import (
    BATCH,
    LEARNING_RATE,
    Digits,
    Epoch,
    StaticMode,
    Trainee,
    load_digits,
)

__all__ = ["DemoResult", "Outcome", "Source", "Startup", "make_optimizer", "run_demo"]

#: How far rounding alone may take the parameters of two sound optimizers apart, with room to spare.
_LARGEST_DIFFERENCE = 1e-3


@dataclass(frozen=True)
class Outcome:
    """What training with one of the two optimizers came to."""

    epochs: tuple[Epoch, ...]
    #: Optimizer state, the learning rate left out.
    state_bytes: int
    #: Median over all steps but those of the first epoch, of a whole ``Executor.run``.
    step_seconds: float


@dataclass(frozen=True)
class Startup:
    """Seconds from ``minimize`` until the startup program has run, each in a fresh process."""

    native: float
    #: With an empty cache: operator and kernel are compiled.
    cold: float
    #: With the cache that the cold start left.
    warm: float


@dataclass(frozen=True)
class Source:
    """A generated source, as ``RAdam.sources()`` lists it."""

    language: str
    path: str
    sha256: str
    text: str


@dataclass(frozen=True)
class DemoResult:
    """Everything that the demo prints."""

    #: ``pir`` or ``legacy``.
    ir: str
    seed: int
    parameter_count: int
    native: Outcome
    generated: Outcome
    #: Largest absolute difference of a parameter before training; 0 for equal seeds.
    initial_difference: float
    #: Largest absolute difference of a parameter after training.
    largest_difference: float
    sources: tuple[Source, ...]
    #: Absent when it was not asked for.
    startup: Startup | None

    @property
    def agrees(self) -> bool:
        """Whether both optimizers started from and arrived at the same parameters."""
        # A NaN compares false.
        return self.initial_difference == 0.0 and self.largest_difference <= _LARGEST_DIFFERENCE


def make_optimizer(kind: str) -> Any:
    """Make the ``native`` or the ``generated`` RAdam with the demo's hyperparameters."""
    if kind == "native":
        import paddle

        return paddle.optimizer.RAdam(learning_rate=LEARNING_RATE)
    if kind == "generated":
        import radam_codegen

        return radam_codegen.RAdam(learning_rate=LEARNING_RATE)
    raise ArgumentError(f"no optimizer is called {kind!r}; there are 'native' and 'generated'")


def run_demo(
    *,
    epochs: int = 18,
    seed: int = 7,
    startup: bool = True,
    on_step: Callable[[], None] = lambda: None,
    on_epoch: Callable[[int, Epoch, Epoch], None] = lambda number, native, generated: None,
) -> DemoResult:
    """Train a small convolutional network on handwritten digits with both optimizers.

    Both start from the same parameters and see the same batches in turn, so that whatever else
    the machine does slows both. The IR is the one that this process's Paddle is set to.

    Args:
        epochs: Passes over the 1,437 training images, at least 1.
        seed: Seed of the initial parameters and of the order of the images.
        startup: Whether to measure startup as well, in three processes of its own.
        on_step: Called after each batch.
        on_epoch: Called after each epoch with its number, from 1, and both records.

    Raises:
        ArgumentError: ``epochs`` is less than 1.
        RadamCodegenError: Paddle or scikit-learn is not installed.

    """
    if epochs < 1:
        raise ArgumentError(f"epochs is {epochs}; train for at least one")
    try:
        import paddle
    except ImportError as error:
        raise RadamCodegenError(
            "the demo needs Paddle: pip install 'radam-codegen[demo]'"
        ) from error

    digits = load_digits()
    with StaticMode():
        ir = "pir" if paddle.framework.in_pir_mode() else "legacy"
        native = Trainee(make_optimizer("native"), seed)
        generated = Trainee(make_optimizer("generated"), seed)
        initial = _largest_difference(native, generated)
        order = np.random.RandomState(seed)
        for number in range(1, epochs + 1):
            _train_epoch(digits, order, native, generated, on_step)
            on_epoch(number, native.epochs[-1], generated.epochs[-1])
        return DemoResult(
            ir=ir,
            seed=seed,
            parameter_count=sum(value.size for value in native.parameters().values()),
            native=_outcome(native, epochs),
            generated=_outcome(generated, epochs),
            initial_difference=initial,
            largest_difference=_largest_difference(native, generated),
            sources=_sources(generated.optimizer),
            startup=_measure_startups(seed, ir) if startup else None,
        )


def steps_per_epoch() -> int:
    """How many batches an epoch has; what is left over after the last full one is not used."""
    return len(load_digits().train_labels) // BATCH


def _train_epoch(
    digits: Digits,
    order: np.random.RandomState,
    native: Trainee,
    generated: Trainee,
    on_step: Callable[[], None],
) -> None:
    shuffled = order.permutation(len(digits.train_labels))
    for start in range(0, len(shuffled) - BATCH + 1, BATCH):
        batch = shuffled[start : start + BATCH]
        for trainee in (native, generated):
            trainee.step(digits.train_images[batch], digits.train_labels[batch])
        on_step()
    for trainee in (native, generated):
        trainee.end_epoch(digits.test_images, digits.test_labels)


def _outcome(trainee: Trainee, epochs: int) -> Outcome:
    warm_up = len(trainee.step_seconds) // epochs if epochs > 1 else 0
    return Outcome(
        epochs=tuple(trainee.epochs),
        state_bytes=trainee.state_bytes(),
        step_seconds=statistics.median(trainee.step_seconds[warm_up:]),
    )


def _largest_difference(native: Trainee, generated: Trainee) -> float:
    ours, theirs = generated.parameters(), native.parameters()
    return max(float(np.max(np.abs(ours[name] - theirs[name]))) for name in theirs)


def _sources(optimizer: Any) -> tuple[Source, ...]:
    return tuple(
        Source(source.language, str(source.path), source.sha256, source.text)
        for source in optimizer.sources()
    )


def _measure_startups(seed: int, ir: str) -> Startup:
    with tempfile.TemporaryDirectory(prefix="radam_codegen_demo_") as folder:
        cache = Path(folder) / "cache"
        return Startup(
            native=measure_startup("native", seed, ir, cache),
            cold=measure_startup("generated", seed, ir, cache),
            warm=measure_startup("generated", seed, ir, cache),
        )
