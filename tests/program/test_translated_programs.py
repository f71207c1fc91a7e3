"""Legacy programs in a process whose Executor translates to PIR.

Whether it does is read from the environment when Paddle is imported, so a process of its own runs
tests of other files there, which hold the trajectories to native RAdam and to a float64 reference.
"""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

import pytest

pytestmark = pytest.mark.either_ir

ROOT = Path(__file__).resolve().parents[2]
#: Clip and decay; pruning; found_inf; schedulers; master weights.
TESTS = {
    "tests/numeric/test_clip_and_decay.py": "every_clip_with_every_decay or native",
    "tests/program/test_prune.py": "alternating or use_prune",
    "tests/program/test_amp.py": "a_skipped_step_never_was or static_amp_decorate",
    "tests/program/test_weight_decay_variable.py": "master",
    "tests/program/test_schedulers.py": "two_optimizers_each",
}


@pytest.mark.parametrize(("file", "chosen"), TESTS.items(), ids=lambda each: Path(each).stem)
def test_it_trains_as_in_legacy(file: str, chosen: str, tmp_path: Path) -> None:
    flags = {"FLAGS_enable_pir_api": "0", "FLAGS_enable_pir_in_executor": "1"}
    options = ["-n", "0", "-q", "-p", "no:cacheprovider", f"--basetemp={tmp_path / 'inner'}"]
    done = subprocess.run(
        [sys.executable, "-m", "pytest", *options, file, "-k", chosen],
        cwd=ROOT,
        env={**os.environ, **flags},
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.returncode == 0, done.stdout[-4000:] + done.stderr[-1000:]
    assert " passed" in done.stdout
