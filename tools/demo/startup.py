"""Time one startup in a process that has done nothing else; prints seconds as JSON.

Run by the demo as ``python -m radam_codegen.tools.demo.startup native|generated SEED``.
"""

from __future__ import annotations

import json
import os
import subprocess
import sys
from pathlib import Path

from radam_codegen.errors import RadamCodegenError

__all__ = ["main", "measure_startup"]


def measure_startup(kind: str, seed: int, ir: str, cache: Path) -> float:
    """Start a fresh process, let it start one optimizer up, and return the seconds that took.

    Args:
        kind: ``native`` or ``generated``.
        seed: Seed of the initial parameters.
        ir: ``pir`` or ``legacy``.
        cache: The cache folder for the process to use: empty for a cold start.

    Raises:
        RadamCodegenError: The process failed; the message has the end of its output.

    """
    environment = {
        **os.environ,
        "FLAGS_enable_pir_api": "1" if ir == "pir" else "0",
        "RADAM_CODEGEN_CACHE_DIR": str(cache),
    }
    done = subprocess.run(
        [sys.executable, "-m", "radam_codegen.tools.demo.startup", kind, str(seed)],
        env=environment,
        capture_output=True,
        text=True,
        check=False,
    )
    if done.returncode != 0:
        raise RadamCodegenError(
            f"the process that measures the startup of {kind} RAdam failed with status "
            f"{done.returncode}; its output ends in:\n{done.stderr[-2000:]}"
        )
    return float(json.loads(done.stdout.splitlines()[-1]))


def main(kind: str, seed: int) -> None:
    """Start the optimizer up once and print the seconds."""
    from radam_codegen.tools.demo.run import make_optimizer
    from radam_codegen.tools.demo.training import StaticMode, Trainee

    with StaticMode():
        trainee = Trainee(make_optimizer(kind), seed)
        print(json.dumps(trainee.startup_seconds))


if __name__ == "__main__":
    main(sys.argv[1], int(sys.argv[2]))
