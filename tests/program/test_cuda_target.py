"""``target="cuda"`` without a GPU: everything but running works, and running says why not.

And when ``target="auto"`` means it.
"""

from __future__ import annotations

import itertools
from typing import Any

import numpy as np
import paddle
import pytest
from paddle.nn import ClipGradByGlobalNorm
from support.eager import parameter as eager_parameter
from support.static_programs import FedProgram, Tensor

import radam_codegen as rc
from radam_codegen.codegen import CUDA_TARGET, render
from radam_codegen.errors import NoGpuError
from radam_codegen.passes import lower_structure
from radam_codegen.program.gpu import Gpus, gpus_here, language_of

in_static_mode = pytest.mark.usefixtures("static_mode")
pytestmark = pytest.mark.skipif(
    paddle.is_compiled_with_cuda(), reason="shows what happens with a Paddle for CPUs"
)

TENSORS = (Tensor("weight", (5, 7)), Tensor("bias", (3,)))


def program(target: str) -> FedProgram:
    def make(params: list[Any]) -> Any:
        return rc.RAdam(grad_clip=ClipGradByGlobalNorm(1.0), weight_decay=0.1, target=target)

    return FedProgram(TENSORS, make)


@in_static_mode
def test_plan_and_sources_are_there() -> None:
    cuda, c = program("cuda").optimizer, program("c").optimizer
    assert [each.tensors for each in cuda.plan.groups] == [each.tensors for each in c.plan.groups]
    (group,), (source,) = cuda.plan.groups, cuda.sources()
    assert source == render(lower_structure(group.structure), CUDA_TARGET)
    assert (source.language, source.path) == ("cuda", None)
    assert {each.language for each in c.sources()} == {"c"}


@in_static_mode
def test_startup_says_that_there_is_no_gpu() -> None:
    made = program("cuda")
    for _ in range(2):  # again, too
        with pytest.raises(Exception, match=r"target='cuda' cannot run here: .* for CPUs only"):
            made.start()


@pytest.mark.either_ir
def test_dynamic_graph_says_so_and_updates_nothing() -> None:
    weight = eager_parameter("eager", [3.0])
    optimizer = rc.RAdam(parameters=[weight], target="cuda")
    (weight * weight).sum().backward()
    with pytest.raises(NoGpuError, match="for CPUs only"):
        optimizer.step()
    np.testing.assert_array_equal(weight.numpy(), [3.0])


FACTS = [
    Gpus(*each)
    for each in itertools.product((False, True), (0, 1, 8), ("cpu", "gpu:0", "gpu:3", "xpu:0"))
]
ON_A_GPU = [Gpus(True, count, place) for count in (1, 8) for place in ("gpu:0", "gpu:3")]


@pytest.mark.either_ir
@pytest.mark.parametrize("gpus", FACTS, ids=str)
def test_auto_is_cuda_where_paddle_puts_tensors_on_a_gpu(gpus: Gpus) -> None:
    assert language_of("auto", gpus) == ("cuda" if gpus in ON_A_GPU else "c")
    assert [language_of(target, gpus) for target in ("c", "cuda")] == ["c", "cuda"]


@pytest.mark.either_ir
def test_this_paddle_has_no_gpus() -> None:
    assert gpus_here() == Gpus(with_cuda=False, count=0, place="cpu")


@in_static_mode
def test_auto_is_decided_when_a_program_is_built(monkeypatch: pytest.MonkeyPatch) -> None:
    made = program("auto").optimizer
    assert [each.language for each in made.sources()] == ["c"]
    monkeypatch.setattr("radam_codegen.optimizer.gpus_here", lambda: ON_A_GPU[0])
    on_a_gpu = program("auto").optimizer
    assert [each.language for each in on_a_gpu.sources()] == ["cuda"]
    assert [each.language for each in made.sources()] == ["c"]
    assert [each.language for each in program("c").optimizer.sources()] == ["c"]
