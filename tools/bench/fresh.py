"""What only a fresh process shows: startup, imports, memory."""

from __future__ import annotations

import statistics
import sys
import tempfile
from collections.abc import Callable
from pathlib import Path
from typing import Any

from radam_codegen.tools.bench.suites import Variant
from radam_codegen.tools.bench.workers import Worker, WorkerError

__all__ = ["measure_memory", "measure_startup"]

_SECONDS = 300.0
#: Sizes of the one parameter; what grows with it shows in their difference. Either is beyond what
#: the C library keeps for itself when it is freed.
_FEW, _MANY = 12_000_000, 44_000_000
_WAYS = {
    "dygraph": ("paddle_dynamic", {}),
    "pir": ("paddle_static", {"FLAGS_enable_pir_api": "1"}),
}


def measure_startup(
    rounds: int, threads: int, on_progress: Callable[[str], None]
) -> dict[str, dict[str, float]]:
    """Start both optimizers up, each in fresh processes, in turn.

    Returns:
        Medians in seconds by kind: ``cold`` (ours with an empty cache), ``warm`` and ``native``;
        each ``import_paddle``, ``import`` of the package, and ``startup``. Of ``warm`` also
        ``more``: by how much its startup takes longer than the native one of the same round.

    Raises:
        WorkerError: A process failed.
    """
    taken: dict[str, list[dict[str, float]]] = {"cold": [], "warm": [], "native": []}
    for number in range(rounds):
        with tempfile.TemporaryDirectory(prefix="radam_codegen_bench_") as folder:
            cache = {"RADAM_CODEGEN_CACHE_DIR": str(Path(folder, "cache"))}
            for kind, seen in taken.items():
                on_progress(f"startup, {kind}: round {number + 1} of {rounds}")
                optimizer = "native" if kind == "native" else "ours"
                seen.append(_measure("startup", {"optimizer": optimizer}, cache, threads))
    medians = {
        kind: {what: statistics.median(each[what] for each in seen) for what in seen[0]}
        for kind, seen in taken.items()
    }
    medians["warm"]["more"] = statistics.median(
        ours["startup"] - native["startup"] for ours, native in zip(taken["warm"], taken["native"])
    )
    return medians


def measure_memory(
    variant: Variant, threads: int, on_progress: Callable[[str], None]
) -> dict[str, dict[str, float]]:
    """Take steps with few and with many parameters, in fresh processes.

    Returns:
        By optimizer and way, such as ``ours-pir``: bytes per parameter of ``state`` and, at the
        highest, of ``temporary`` memory that grows with the parameters; and ``fixed``, the bytes of
        temporary memory that do not.

    Raises:
        WorkerError: A process failed.
    """
    result = {}
    for optimizer in ("ours", "native"):
        for way, (module, environment) in _WAYS.items():
            name = f"{optimizer}-{way}"
            on_progress(f"memory, {name}")
            few, many = (
                _measure(
                    "memory",
                    {
                        "module": module,
                        "optimizer": optimizer,
                        "elements": elements,
                        "threads": threads,
                        "clip_norm": variant.clip_norm,
                        "weight_decay": variant.weight_decay,
                    },
                    environment,
                    threads,
                )
                for elements in (_FEW, _MANY)
            )
            growth = (many["temporary"] - few["temporary"]) / (_MANY - _FEW)
            result[name] = {
                "state": many["state"] / _MANY,
                "temporary": growth,
                "fixed": few["temporary"] - growth * _FEW,
            }
    return result


def _measure(
    module: str, options: dict[str, Any], environment: dict[str, str], threads: int
) -> dict[str, float]:
    try:
        with Worker(sys.executable, environment, threads) as worker:
            answer = worker.ask(_SECONDS, do="measure", module=module, options=options)
    except WorkerError as error:
        what = f"the {module} of {options['optimizer']} RAdam"
        raise WorkerError(f"{what} could not be measured: {error}") from error
    facts: dict[str, float] = answer["facts"]
    return facts
