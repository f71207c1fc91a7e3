"""The table of what kernels cost, and the check that wants a GPU."""

from __future__ import annotations

import ctypes.util
import re
import subprocess
import sys

import pytest
from support.cuda_build import need_tools

from radam_codegen.tools.cuda.resources import Resources, occupancy, read_resources


def run(module: str, *arguments: str) -> subprocess.CompletedProcess[str]:
    command = [sys.executable, "-m", f"radam_codegen.tools.cuda.{module}", *arguments]
    return subprocess.run(command, capture_output=True, text=True, check=False)


def test_the_table_has_a_row_per_architecture_and_one_for_the_library() -> None:
    need_tools()
    done = run("table", "--kernel", "radam_clip_norm__f32_l2", "--arch", "90")
    assert done.returncode == 0, done.stderr
    rows = [line for line in done.stdout.splitlines() if line.startswith("| `radam")]
    assert len(rows) == 2
    cells = [cell.strip() for cell in rows[0].split("|")[1:-1]]
    assert cells[:2] == ["`radam_clip_norm__f32_l2`", "sm_90"]
    assert all(re.fullmatch(r"\d+, \d+%", cell) for cell in cells[4:])
    assert [cell.strip() for cell in rows[1].split("|")[5:-1]] == ["", "", "", ""]


@pytest.mark.parametrize("module", ["table", "check"])
def test_a_kernel_that_there_is_not_is_refused(module: str) -> None:
    done = run(module, "--kernel", "no_kernel")
    assert done.returncode == 1
    assert done.stderr.startswith("Error: 'no_kernel' is not the name of a kernel")
    assert done.stdout == ""


def test_without_a_gpu_the_check_says_so() -> None:
    if ctypes.util.find_library("cuda"):
        pytest.skip("there is a driver")
    done = run("check")
    assert done.returncode == 1
    assert done.stderr.startswith("Error: There is no GPU here that can be used: ")
    assert "nvidia-smi" in done.stderr


@pytest.mark.parametrize(
    ("architecture", "registers", "shared", "threads", "share"),
    [
        (90, 32, 0, 256, 1.0),
        (90, 40, 0, 256, 0.75),
        # 65 registers are given as 72.
        (90, 65, 0, 256, 0.375),
        (75, 64, 0, 256, 1.0),
        (75, 65, 0, 256, 0.75),
        # By shared memory: 164 KiB hold nine blocks of 16 KiB, each with 1 KiB that is reserved.
        (80, 24, 16 << 10, 128, 9 * 128 / 2048),
        # By blocks: 24 of 32 threads.
        (120, 24, 0, 32, 0.5),
    ],
)
def test_occupancy(
    architecture: int, registers: int, shared: int, threads: int, share: float
) -> None:
    needs = Resources(architecture, "f", registers, stack=0, local=0, shared=shared)
    assert occupancy(needs, threads) == pytest.approx(share)


def test_resources_are_read() -> None:
    text = "arch = sm_75\n Function f:\n  REG:40 STACK:8 SHARED:16 LOCAL:4 CONSTANT[0]:9\n"
    assert read_resources(text) == (Resources(75, "f", 40, stack=8, local=4, shared=16),)
