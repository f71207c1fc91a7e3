"""What every test gets: the IR it runs in, a cache of its own run, and what a run shares."""

from __future__ import annotations

import os
import shutil
import tempfile
from pathlib import Path

import pytest
from support.other_cpus import CPUS, make_compilers, runs_here
from support.recording_compiler import make_recording_compiler

_TESTS = Path(__file__).resolve().parent
_BOTH_IRS = (_TESTS / "program", _TESTS / "numeric")
#: What takes ten seconds and more. It comes first: a worker that had one of these left at the end
#: would work on it alone.
_LONG = (
    "program/test_demo.py",
    "numeric/test_random_plans_static.py",
    "program/test_lower_models.py",
    "program/test_compile_at_startup.py",
    "program/test_ahead_of_time.py",
    "cuda/test_emulation_agrees_with_c.py",
    "cuda/test_instructions.py",
    "toolchain/test_doctor.py",
    "reliability/test_training.py",
    "cuda/test_emulation_finds_faults.py",
    "reliability/test_failing_calls.py",
    "golden/test_compiles.py",
    "golden/test_cuda_rendering.py",
    "packaging/test_installed.py",
    "cuda/test_operator.py",
    "numeric/test_kernel_matches_interpreter.py",
    "unit/test_passes_preserve.py",
    "toolchain/test_hostile_commands.py",
)
_CACHE = "RADAM_CODEGEN_CACHE_DIR"
_own_folder = pytest.StashKey[str]()


def pytest_addoption(parser: pytest.Parser) -> None:
    parser.addoption(
        "--cpu",
        choices=CPUS,
        help="let -march=native mean this CPU; one that this machine is not is only compiled for",
    )


def pytest_configure(config: pytest.Config) -> None:
    # One cache for a whole run, shared by its workers (they inherit the environment), empty at the
    # start: tests neither see nor leave anything in the user's own.
    if not hasattr(config, "workerinput"):
        config.stash[_own_folder] = tempfile.mkdtemp(prefix="radam_codegen_tests_")
        os.environ[_CACHE] = f"{config.stash[_own_folder]}/cache"
        cpu = config.getoption("--cpu")
        if cpu is not None:
            compilers = make_compilers(Path(config.stash[_own_folder], "compilers"), cpu)
            os.environ["PATH"] = f"{compilers}{os.pathsep}{os.environ['PATH']}"


def pytest_unconfigure(config: pytest.Config) -> None:
    if _own_folder in config.stash:
        shutil.rmtree(config.stash[_own_folder], ignore_errors=True)


def pytest_collection_modifyitems(config: pytest.Config, items: list[pytest.Item]) -> None:
    for item in items:
        inside = any(folder in item.path.parents for folder in _BOTH_IRS)
        if inside and item.get_closest_marker("either_ir") is None:
            item.add_marker(pytest.mark.both_irs)
    cpu = config.getoption("--cpu")
    if cpu is not None and not runs_here(cpu):
        runs = [item for item in items if item.get_closest_marker("runs_no_kernel") is None]
        config.hook.pytest_deselected(items=runs)
        items[:] = [item for item in items if item.get_closest_marker("runs_no_kernel")]
    ranks = {_TESTS / name: rank for rank, name in enumerate(_LONG)}
    items.sort(key=lambda item: ranks.get(item.path, len(ranks)))


@pytest.fixture(scope="session")
def run_folder() -> Path:
    """A folder of this run, which all of its workers share."""
    return Path(os.environ[_CACHE]).parent


@pytest.fixture(scope="session")
def recording_cxx(run_folder: Path, worker_id: str) -> str:
    """A C++ compiler that compiles the operator once in a run, for all that only need a build."""
    return make_recording_compiler(run_folder / "made", "g++", f"recording-{worker_id}")
