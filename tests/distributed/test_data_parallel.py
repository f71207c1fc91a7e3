"""Two processes on this machine, over gloo, each with a share of the data."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

TRAINING = Path(__file__).with_name("data_parallel_training.py")


def test_two_processes_train_one_network(tmp_path: Path) -> None:
    options = ["--nproc_per_node", "2", "--log_dir", str(tmp_path)]
    launched = subprocess.run(
        [sys.executable, "-m", "paddle.distributed.launch", *options, str(TRAINING)],
        capture_output=True,
        text=True,
        timeout=180,
        cwd=tmp_path,
    )
    logs = {path.name: path.read_text() for path in sorted(tmp_path.glob("workerlog.*"))}
    assert launched.returncode == 0, launched.stdout[-3000:] + str(logs)
    for rank in (0, 1):
        done = f"process {rank}: the same as native and everywhere"
        assert done in logs[f"workerlog.{rank}"], logs
