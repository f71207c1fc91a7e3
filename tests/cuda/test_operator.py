"""The operator for a Paddle with CUDA, compiled and run where there is neither that nor a GPU.

What comes from Paddle and from CUDA's runtime only where there is a GPU is made of host memory, so
this shows what the operator hands over, asks for and says; not that a GPU does it.
"""

from __future__ import annotations

import json
import os
import re
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest
from support.nvcc import cuda_compiler

from radam_codegen._resources import include_dir, runtime_dir
from radam_codegen.errors import CompilerNotFoundError
from radam_codegen.toolchain.cuda import find_cuda_compiler
from radam_codegen.toolchain.manifest import read_manifest
from radam_codegen.toolchain.operator import PaddleInstallation, operator_text

paddle = pytest.importorskip("paddle")
pytestmark = pytest.mark.skipif(
    paddle.is_compiled_with_cuda(), reason="stands in for what this Paddle has"
)

TESTS = Path(__file__).resolve().parents[1]
DEVICE = TESTS / "cuda" / "device"


@pytest.fixture(scope="module")
def installed() -> PaddleInstallation:
    from radam_codegen.program.installation import installed_paddle

    return installed_paddle()


def command_of(*command: object) -> None:
    done = subprocess.run(list(map(str, command)), capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr


def headers_of(paddle: PaddleInstallation) -> tuple[object, ...]:
    return tuple(word for each in paddle.include_dirs for word in ("-isystem", each))


@pytest.fixture(scope="module")
def libraries(tmp_path_factory: pytest.TempPathFactory, installed: PaddleInstallation) -> Path:
    folder = tmp_path_factory.mktemp("device")
    flags = ("-shared", "-fPIC", "-Wall", "-Wextra", "-Werror")
    kernel, paddle_gpu = folder / "on_the_host.so", folder / "libpaddle_gpu.so"
    command_of("gcc", *flags, "-I", include_dir(), DEVICE / "kernel.c", "-o", kernel)
    command_of(
        *("g++", *flags, "-std=c++17", "-O0", *headers_of(installed), DEVICE / "paddle_gpu.cc"),
        *("-o", paddle_gpu, *installed.libraries, "-ldl", "-Wl,--no-undefined"),
    )
    return folder


def found_out(libraries: Path, mode: str) -> Any:
    done = subprocess.run(
        [sys.executable, "-W", "ignore", "-m", "support.cuda_operator", libraries, mode],
        cwd=TESTS,
        env={**os.environ, "PYTHONPATH": str(TESTS)},
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.returncode == 0, done.stderr
    return json.loads(done.stdout.splitlines()[-1])


@pytest.fixture(scope="module")
def found(libraries: Path) -> Any:
    try:
        find_cuda_compiler()
        return found_out(libraries, "nvcc")
    except CompilerNotFoundError:
        return found_out(libraries, "cuda")


def test_it_links_with_nothing_left_undefined(found: Any) -> None:
    command = read_manifest(Path(found["operator"]).parent)["build"]["command"]
    assert {"-DRADAM_CODEGEN_WITH_CUDA", "-Wl,--no-undefined"} <= set(command)


STREAM = """
static_assert(std::is_same<decltype(&paddle::Tensor::stream),
                           cudaStream_t (paddle::Tensor::*)() const>::value,
              "Paddle's stream is CUDA's");
cudaStream_t by_its_declaration(const paddle::Tensor &tensor) { return tensor.stream(); }
"""


def test_it_compiles_with_the_headers_of_cuda(
    installed: PaddleInstallation, tmp_path: Path
) -> None:
    # As Paddle compiles operators for GPUs. Usually it is compiled without: see cuda_step.h.
    (nvcc,) = (path for path in cuda_compiler().programs if path.name == "nvcc")
    cuda, source = nvcc.parents[1] / "include", tmp_path / "operator.cc"
    source.write_text(operator_text() + STREAM, encoding="utf-8")
    library = tmp_path / "operator.so"
    command_of(
        *("g++", "-shared", "-fPIC", "-std=c++17", "-O0", "-fvisibility=hidden"),
        *("-DPADDLE_WITH_CUDA", "-DRADAM_CODEGEN_WITH_CUDA", "-I", include_dir()),
        *("-isystem", DEVICE / "paddle_headers", *headers_of(installed)),
        *("-isystem", cuda, "-isystem", cuda / "cccl", source, "-o", library),
        *(*installed.libraries, "-ldl", "-pthread", "-Wl,--no-undefined"),
    )
    wanted = subprocess.run(
        ["nm", "--dynamic", "--undefined-only", library], capture_output=True, text=True, check=True
    ).stdout.split()
    called = (runtime_dir() / "operator" / "cuda_step.h").read_text(encoding="utf-8")
    (name,) = re.findall(r'"(_Z\w+)"', called)
    assert [each for each in wanted if "6stream" in each] == [name]
    register = (
        "import sys\n"
        "from paddle.base.framework import OpProtoHolder\n"
        "from paddle.utils.cpp_extension import load_op_meta_info_and_register_op as register\n"
        "register(sys.argv[1])\n"
        "print(OpProtoHolder.instance().get_op_proto('radam_codegen_step').type)\n"
    )
    command_of(sys.executable, "-W", "ignore", "-c", register, library)


def test_on_the_cpu_it_is_the_usual_operator(found: Any, libraries: Path) -> None:
    usual = found_out(libraries, "usual")
    assert found["on the CPU"] == usual["on the CPU"]
    assert "was compiled for a Paddle without CUDA" in usual["refused"]


def test_steps_reach_the_kernel(found: Any) -> None:
    steps = found["three steps"]
    assert steps["messages"] == ["", "", ""]
    assert steps["same"]
    assert steps["counts"] == [2, 2, 2, 2]  # the second step was skipped
    assert steps["stream"]
    assert all(steps["in place"].values()), "read where they are, not in a copy"
    assert steps["filled"] == 0


def test_the_workspace_is_taken_for_a_step_and_given_back(found: Any) -> None:
    asked, taken, left = found["three steps"]["asked, taken, left"]
    assert asked == taken > 0
    assert left == 0


def test_the_type_of_the_learning_rate_is_passed_on(found: Any) -> None:
    assert found["types"] == [["", 0, True], ["", 2, True]]  # float64, bfloat16


def test_numbers_in_host_memory_are_put_on_the_gpu(found: Any) -> None:
    assert found["numbers on the CPU"] == [["", True, 3, 0]] * 2


@pytest.mark.parametrize(
    ("case", "message"),
    [
        ("gradient", "gradient 2 is not on GPU 0, where the step counts are."),
        ("master", "the master weight is not on GPU 0, where the step counts are."),
        ("lr", "the learning rate is not on GPU 0, where the step counts are."),
        ("step", "the tensor of step counts is not on a GPU, for which this kernel was generated."),
        ("C kernel", "parameter 0 is not on the CPU, for which this kernel was generated."),
        ("launch", "CUDA kernel on_the_host was not started: CUDA error 700, out of luck."),
        ("device 35", "CUDA kernel on_the_host cannot run: CUDA error 35, out of luck."),
        ("call", "its kernel is for a GPU."),
        ("device 0", ""),
    ],
)
def test_what_cannot_run_is_refused(found: Any, case: str, message: str) -> None:
    said = found["refusals"][case]
    assert message in said if message else said == ""
    assert found["refusals"]["unchanged"]


def test_the_startup_program_compiles_the_kernel(found: Any) -> None:
    cuda_compiler()
    startup = found["startup"]
    assert (startup["built"], startup["source"]) == ("", "kernel.cu")
    assert "the tensor of step counts is not on a GPU" in startup["on the CPU"]
    assert "cannot run: CUDA error 35, CUDA driver version is insufficient" in startup["step"]
