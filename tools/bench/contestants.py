"""Who takes part: each contestant, how its process is started, and what memory it needs."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

from radam_codegen.tools.bench.suites import Suite

__all__ = [
    "CONTESTANTS",
    "EMPTY",
    "KERNEL",
    "NATIVE",
    "OURS",
    "PEERS",
    "Contestant",
]

#: What a process needs before it has any parameters, bytes.
_PROCESS_BYTES = 500 << 20
#: What a program costs without an optimizer, and what division and root cost, matters where the
#: memory does not take longer.
_MOST_FOR_SMALL = 2_000_000
_PIR = {"FLAGS_enable_pir_api": "1"}
_LEGACY = {"FLAGS_enable_pir_api": "0"}


@dataclass(frozen=True)
class Contestant:
    """One contestant.

    Attributes:
        name: What it is called on the command line and in reports.
        title: The same for people.
        module: File of the folder ``worker`` that makes it.
        options: What that is told.
        environment: Set in its process beside everything else.
        needs: What its interpreter must be able to import.
        state_bytes: Bytes per element in all: parameter, gradient, state.
        temporary_bytes: Bytes per element that a step takes for a while, with clip and decay.
        most_elements: Of larger suites it would say nothing; None: of none.
        on_request: Takes part only where it is named, or everything is asked for.
    """

    name: str
    title: str
    module: str
    options: Mapping[str, Any] = field(default_factory=dict)
    environment: Mapping[str, str] = field(default_factory=dict)
    needs: str = "paddle"
    state_bytes: int = 16
    temporary_bytes: int = 0
    most_elements: int | None = None
    on_request: bool = False

    @property
    def is_peer(self) -> bool:
        """Whether this is neither ours nor Paddle's, and may be in another interpreter."""
        return self.needs not in ("paddle", "numpy")

    def bytes_for(self, suite: Suite) -> int:
        """Memory of its process over a suite at most, bytes."""
        per_element = self.state_bytes + self.temporary_bytes
        return _PROCESS_BYTES + per_element * suite.elements


def _paddle(name: str, title: str, module: str, optimizer: str, **more: Any) -> Contestant:
    native = optimizer == "native"
    return Contestant(
        name,
        title,
        module,
        {"optimizer": optimizer},
        state_bytes=28 if native else 16,
        # The clipped gradient, the one with the decay, and what lies between them.
        temporary_bytes=12 if native else 0,
        **more,
    )


def _torch(name: str, title: str, optimizer: str, **more: Any) -> Contestant:
    return Contestant(
        name,
        title,
        "torch_steps",
        {"optimizer": optimizer},
        needs="torch",
        temporary_bytes=4 if optimizer == "adam-fused" else 12,
        **more,
    )


KERNEL = Contestant("kernel", "ours, kernel alone", "kernel", environment=_PIR)
OURS = (
    _paddle("ours-dygraph", "ours, dygraph", "paddle_dynamic", "ours"),
    _paddle("ours-pir", "ours, PIR static", "paddle_static", "ours", environment=_PIR),
    _paddle("ours-legacy", "ours, legacy static", "paddle_static", "ours", environment=_LEGACY),
)
NATIVE = (
    _paddle("native-dygraph", "native, dygraph", "paddle_dynamic", "native"),
    _paddle("native-pir", "native, PIR static", "paddle_static", "native", environment=_PIR),
    _paddle(
        "native-legacy", "native, legacy static", "paddle_static", "native", environment=_LEGACY
    ),
)
#: The ceiling with a division and a root per element: no IEEE results come cheaper.
_IEEE = Contestant(
    "ieee-ceiling",
    "ceiling with division and root",
    "ieee_ceiling",
    needs="numpy",
    most_elements=_MOST_FOR_SMALL,
)
#: The programs of the static contestants without an optimizer.
EMPTY = (
    _paddle(
        "empty-pir",
        "no optimizer, PIR static",
        "paddle_static",
        "none",
        environment=_PIR,
        most_elements=_MOST_FOR_SMALL,
    ),
    _paddle(
        "empty-legacy",
        "no optimizer, legacy static",
        "paddle_static",
        "none",
        environment=_LEGACY,
        most_elements=_MOST_FOR_SMALL,
    ),
)
#: The same with one operator that adds 1 to a number: no program that does anything runs sooner.
_ONE_OPERATOR = (
    _paddle(
        "one-op-pir",
        "one small operator, PIR static",
        "paddle_static",
        "one-op",
        environment=_PIR,
        most_elements=_MOST_FOR_SMALL,
    ),
    _paddle(
        "one-op-legacy",
        "one small operator, legacy static",
        "paddle_static",
        "one-op",
        environment=_LEGACY,
        most_elements=_MOST_FOR_SMALL,
    ),
)
#: Ours where nothing is moved: what it takes to hand many tensors to an operator.
_SKIPPED = _paddle(
    "skipped-legacy",
    "ours, legacy static, steps skipped",
    "paddle_static",
    "skipped",
    environment=_LEGACY,
    most_elements=_MOST_FOR_SMALL,
)
PEERS = (
    _torch("torch-radam", "torch RAdam, foreach", "radam"),
    _torch("torch-radam-compiled", "torch RAdam, compiled", "radam-compiled", on_request=True),
    _torch("torch-adam-fused", "torch Adam, fused", "adam-fused"),
    Contestant(
        "optax-radam",
        "optax RAdam, jitted",
        "optax_steps",
        needs="optax",
        temporary_bytes=12,
    ),
)

#: By name, in the order of reports.
CONTESTANTS: Mapping[str, Contestant] = {
    each.name: each
    for each in (_IEEE, KERNEL, *OURS, *NATIVE, *EMPTY, *_ONE_OPERATOR, _SKIPPED, *PEERS)
}
