"""The two operators inside real programs, with a kernel written by hand."""

from __future__ import annotations

import threading
from collections.abc import Iterator
from typing import Any

import numpy as np
import paddle
import pytest
from support.operator_program import IN_PIR, GroupProgram, Registry

from radam_codegen.errors import CompileError
from radam_codegen.program.operator import take_failure

SHAPES = [[3, 5], [1], [], [0], [17], [0, 4], [1023], [40000]]


@pytest.fixture(autouse=True)
def _static() -> Iterator[None]:
    paddle.enable_static()
    yield
    paddle.disable_static()
    take_failure()


@pytest.fixture
def registry() -> Iterator[Registry]:
    registry = Registry()
    yield registry
    for key in registry.groups:
        registry.library.forget(key)


def random_grads(program: GroupProgram, seed: int) -> list[Any]:
    rng = np.random.default_rng(seed)
    return [
        rng.standard_normal(shape).astype(dtype)
        for shape, dtype in zip(program.shapes, program.dtypes)
    ]


def check_unclipped(program: GroupProgram, steps: list[list[Any]], lr: float = 0.5) -> None:
    for i, (shape, dtype) in enumerate(zip(program.shapes, program.dtypes)):
        param, m, v = (np.full(shape, x, dtype) for x in (1.0, 0.0, 0.0))
        for grads in steps:
            m = m + grads[i]
            v = v + grads[i] * grads[i]
            param = param - np.array(lr, dtype) * grads[i]
        np.testing.assert_array_equal(program.read(f"m{i}"), m)
        np.testing.assert_array_equal(program.read(f"v{i}"), v)
        np.testing.assert_array_equal(program.read(f"p{i}"), param)


@pytest.mark.parametrize("dtype", ["float32", "float64"])
def test_updates_every_tensor_of_any_shape(registry: Registry, dtype: str) -> None:
    program = GroupProgram(registry, SHAPES, [dtype] * len(SHAPES), key=1)
    program.run_startup()
    steps = [random_grads(program, seed) for seed in range(3)]
    for grads in steps:
        program.step(grads)
    check_unclipped(program, steps)
    np.testing.assert_array_equal(program.read("step"), [3] * len(SHAPES))


def test_dtypes_may_be_mixed_in_a_group(registry: Registry) -> None:
    program = GroupProgram(registry, [[7], [9], []], ["float32", "float64", "float64"], key=2)
    program.run_startup()
    steps = [random_grads(program, 1)]
    program.step(steps[0])
    check_unclipped(program, steps)


def test_three_hundred_tensors(registry: Registry) -> None:
    program = GroupProgram(registry, [[i % 7, 3] for i in range(300)], key=3)
    program.run_startup()
    steps = [random_grads(program, seed) for seed in range(2)]
    for grads in steps:
        program.step(grads)
    check_unclipped(program, steps)


def test_a_norm_over_the_group_is_reduced_before_the_update(registry: Registry) -> None:
    program = GroupProgram(registry, [[50000], [3]], key=4, clip_bound=1.0, lr=1.0)
    program.run_startup()
    grads = [np.ones(50000, "float32"), np.full(3, 2.0, "float32")]
    program.step(grads)
    scale = np.float32(1.0 / np.sqrt(50000 + 12))
    np.testing.assert_array_equal(program.read("p0"), np.full(50000, 1 - scale, "float32"))
    np.testing.assert_array_equal(program.read("p1"), np.full(3, 1 - 2 * scale, "float32"))


@pytest.mark.parametrize("lr_dtype", ["float32", "float64", "float16", "bfloat16"])
def test_reads_learning_rates_of_any_dtype(registry: Registry, lr_dtype: str) -> None:
    program = GroupProgram(registry, [[4]], key=5, lr_dtype=lr_dtype, lr=0.5)
    program.run_startup()
    program.step([np.full(4, 2.0, "float32")])
    np.testing.assert_array_equal(program.read("p0"), np.zeros(4, "float32"))


def test_found_inf_reaches_the_kernel(registry: Registry) -> None:
    program = GroupProgram(registry, [[4]], key=6, found_inf=True)
    program.run_startup()
    program.step([np.ones(4, "float32")], found_inf=True)
    np.testing.assert_array_equal(program.read("p0"), np.ones(4, "float32"))
    np.testing.assert_array_equal(program.read("step"), [0])
    program.step([np.ones(4, "float32")], found_inf=False)
    np.testing.assert_array_equal(program.read("p0"), np.full(4, 0.5, "float32"))


@pytest.mark.parametrize("count", [1, 3])
def test_master_weights_reach_the_kernel(registry: Registry, count: int) -> None:
    program = GroupProgram(registry, [[4]] * count, key=7, master=True, found_inf=True)
    program.run_startup()
    program.step([np.ones(4, "float32")] * count, found_inf=False)
    for i in range(count):
        np.testing.assert_array_equal(program.read(f"w{i}"), [1, 0, 0, 0])


@pytest.mark.parametrize("key", [-(2**63), -1, 0, 2**31, 2**63 - 1])
def test_a_key_may_be_any_int64(registry: Registry, key: int) -> None:
    program = GroupProgram(registry, [[2]], key=key, launch='{"quote": "\\" */ é"}')
    program.run_startup()
    program.step([np.ones(2, "float32")])
    assert registry.calls == [(key, '{"quote": "\\" */ é"}')]


def test_startup_builds_and_the_steps_do_not(registry: Registry) -> None:
    program = GroupProgram(registry, [[2]], key=8)
    assert registry.calls == []
    program.run_startup()
    assert len(registry.calls) == 1
    for _ in range(3):
        program.step([np.ones(2, "float32")])
    assert len(registry.calls) == 1
    program.run_startup()
    assert len(registry.calls) == 2


def test_steps_follow_what_becomes_of_their_group(registry: Registry) -> None:
    """A thread remembers the groups that it found: not beyond the next change."""
    program = GroupProgram(registry, [[2]], key=108)
    program.run_startup()
    grads = [np.ones(2, "float32")]
    program.step(grads)
    before = program.read("p0")
    numbers, tensors = registry.groups[108]
    registry.groups[108] = numbers, [each._replace(lr_scale=0.0) for each in tensors]
    registry.build(108, "anew")
    program.step(grads)
    np.testing.assert_array_equal(program.read("p0"), before)
    assert before[0] < 1.0
    built = len(registry.calls)
    assert registry.library.forget(108)
    program.step(grads)
    assert len(registry.calls) == built + 1


def test_main_without_startup_builds_at_its_first_step(registry: Registry) -> None:
    program = GroupProgram(registry, [[2]], key=9)
    for name, value in [("p0", 1.0), ("m0", 0.0), ("v0", 0.0)]:
        program.write(name, np.full(2, value, "float32"))
    program.write("step", np.array([41]))
    program.write("lr", np.array([0.5], "float32"))
    grads = [np.ones(2, "float32")]
    program.step(grads)
    program.step(grads)
    assert registry.calls == [(9, "launch")]
    check_unclipped(program, [grads, grads])
    np.testing.assert_array_equal(program.read("step"), [43])


def test_a_failed_build_keeps_its_message_and_can_be_retried(registry: Registry) -> None:
    program = GroupProgram(registry, [[2]], key=10)
    registry.failure = CompileError("kernel.c:12:3: error: expected ';' (100% of {it})")
    with pytest.raises(OSError, match=r"kernel\.c:12:3: error: expected ';' \(100% of \{it\}\)"):
        program.run_startup()
    assert take_failure() is registry.failure
    assert take_failure() is None
    registry.failure = None
    program.run_startup()
    grads = [np.ones(2, "float32")]
    program.step(grads)
    check_unclipped(program, [grads])


def test_a_failed_build_at_the_first_step_changes_nothing(registry: Registry) -> None:
    program = GroupProgram(registry, [[2]], key=11)
    program.run_startup()
    registry.library.forget(11)
    registry.failure = KeyboardInterrupt()
    with pytest.raises(OSError, match="KeyboardInterrupt"):
        program.step([np.ones(2, "float32")])
    assert isinstance(take_failure(), KeyboardInterrupt)
    np.testing.assert_array_equal(program.read("p0"), [1, 1])
    registry.failure = None
    program.step([np.ones(2, "float32")])
    np.testing.assert_array_equal(program.read("p0"), [0.5, 0.5])


def test_a_long_message_is_cut(registry: Registry) -> None:
    program = GroupProgram(registry, [[2]], key=12)
    registry.failure = RuntimeError("é" * 100_000)
    with pytest.raises(OSError, match="éé"):
        program.run_startup()


def test_a_step_without_memory_names_the_tensor(registry: Registry) -> None:
    program = GroupProgram(registry, [[2], [3]], key=13)
    program.run_startup()
    program.scope.find_var("g13_m1").get_tensor()._clear()
    with pytest.raises(
        (ValueError, RuntimeError), match=r"moment1 1 holds no|1-th .*Moment1@VECTOR"
    ):
        program.step([np.ones(2, "float32"), np.ones(3, "float32")])
    np.testing.assert_array_equal(program.read("p0"), [1, 1])


def test_a_size_that_does_not_match_names_the_tensor(registry: Registry) -> None:
    program = GroupProgram(registry, [[2], [3]], key=14)
    program.run_startup()
    program.write("v1", np.zeros(4, "float32"))
    with pytest.raises(ValueError, match="moment2 1 has 4 elements where 3 must be"):
        program.step([np.ones(2, "float32"), np.ones(3, "float32")])
    np.testing.assert_array_equal(program.read("p0"), [1, 1])


@pytest.mark.parametrize("name", ["p1", "m1", "v1", "w1"])
@pytest.mark.parametrize("dtype", ["float16", "float64", "int32"])
def test_another_type_names_the_tensor(registry: Registry, name: str, dtype: str) -> None:
    # Half as long, and the kernel would write past its end.
    program = GroupProgram(registry, [[2], [3]], key=16, master=True)
    program.run_startup()
    program.write(name, np.zeros(3, dtype))
    role = {"p": "parameter", "m": "moment1", "v": "moment2", "w": "master weight"}[name[0]]
    found = "of Paddle's data type number" if dtype == "int32" else dtype
    message = f"{role} 1 is {found}.*, but the kernel was generated for float32"
    with pytest.raises(ValueError, match=message):
        program.step([np.ones(2, "float32"), np.ones(3, "float32")])
    np.testing.assert_array_equal(program.read("p0"), [1, 1])


@pytest.mark.parametrize(
    ("steps", "message"),
    [
        (np.zeros(2, "int32"), "step counts must be int64"),
        (np.zeros(3, "int64"), "step counts has 3 elements where 2 must be"),
    ],
)
def test_wrong_step_counts_are_refused(registry: Registry, steps: Any, message: str) -> None:
    program = GroupProgram(registry, [[2], [3]], key=15)
    program.run_startup()
    program.write("step", steps)
    with pytest.raises(ValueError, match=message):
        program.step([np.ones(2, "float32"), np.ones(3, "float32")])


def test_a_count_that_does_not_match_the_group_is_refused(registry: Registry) -> None:
    program = GroupProgram(registry, [[2], [3]], key=16)
    numbers, tensor_numbers = registry.groups[16]
    program.run_startup()
    registry.groups[16] = (numbers, tensor_numbers[:1])
    registry.build(16, "launch")
    with pytest.raises(ValueError, match="the group wants 1 parameter, but got 2"):
        program.step([np.ones(2, "float32"), np.ones(3, "float32")])


def test_one_step_is_one_operator_of_role_optimize(registry: Registry) -> None:
    program = GroupProgram(registry, [[2], [3]], key=17)
    ops = program.main.global_block().ops
    if IN_PIR:
        names = [op.name() for op in ops if op.name() not in ("pd_op.data", "builtin.parameter")]
        assert names == ["builtin.combine"] * 4 + ["custom_op.radam_codegen_step_"]
        assert program.step_op.name() == "custom_op.radam_codegen_step_"
        assert {op.op_role for op in ops if op.name() in names} == {2}
        assert program.step_op.id() == ops[-1].id()
    else:
        assert [op.type for op in ops] == ["radam_codegen_step"]
        assert program.step_op is ops[0]
        assert ops[0].attr("op_role") == 2
        pairs = ["g17_p0", "g17_grad0", "g17_p1", "g17_grad1"]
        assert ops[0].attr("op_role_var") == pairs


def test_two_executors_in_two_threads_run_one_group(registry: Registry) -> None:
    steps = 40
    programs = [GroupProgram(registry, [[50000], [3]], key=18) for _ in range(2)]
    for program in programs:
        program.run_startup()
    all_grads = [
        [random_grads(program, 100 * n + s) for s in range(steps)]
        for n, program in enumerate(programs)
    ]
    failures: list[BaseException] = []

    def train(program: GroupProgram, all_steps: list[list[Any]]) -> None:
        try:
            for grads in all_steps:
                program.step(grads)
        except BaseException as error:
            failures.append(error)

    threads = [threading.Thread(target=train, args=pair) for pair in zip(programs, all_grads)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert failures == []
    for program, grads in zip(programs, all_grads):
        check_unclipped(program, grads)


def test_two_groups_in_one_startup_are_both_built(registry: Registry) -> None:
    program = GroupProgram(registry, [[2]], key=19)
    other = GroupProgram(registry, [[3]], key=20)
    program.run_startup()
    other.run_startup()
    program.step([np.ones(2, "float32")])
    other.step([np.ones(3, "float32")])
    assert {key for key, _ in registry.calls} == {19, 20}
