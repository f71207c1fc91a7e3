"""Names and numbers that nobody gives in earnest: right values, or an error that says why.

The names are those that Paddle itself takes: a lone surrogate ends the process in PIR, and the
legacy IR takes ASCII only.
"""

from __future__ import annotations

import json
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import paddle
import pytest
from paddle.nn import ClipGradByGlobalNorm, ClipGradByNorm
from paddle.regularizer import L1Decay
from support.agreement import assert_bitwise
from support.eager import parameter, set_gradients
from support.hostile import STRINGS
from support.static_programs import IN_PIR, FedProgram, Tensor, program_text, random_gradients

import radam_codegen as rc
from radam_codegen.errors import ArgumentError, PlanError, ProgramError
from radam_codegen.ir.group import Module
from radam_codegen.ir.interpret import GroupArrays, interpret
from radam_codegen.ir.launch import LaunchSpec
from radam_codegen.ir.plan import UpdatePlan
from radam_codegen.passes import lower_structure

NAMES = tuple(name for name in STRINGS if name and not any("\ud800" <= c <= "\udfff" for c in name))
STATIC_NAMES = tuple(name for name in NAMES if IN_PIR or name.isascii())
SHAPES = ((3,), (), (2, 5))


@pytest.fixture
def own_names(static_mode: None) -> Iterator[None]:
    """Static mode, and names that nobody has yet."""
    with paddle.utils.unique_name.guard():
        yield


def program_of(names: tuple[str, ...]) -> FedProgram:
    """Parameters of these names in two groups, trained for three steps."""
    tensors = [Tensor(name, SHAPES[at % 3]) for at, name in enumerate(names)]

    def optimizer(params: list[Any]) -> Any:
        groups = [
            {"params": params[::2], "weight_decay": 0.1},
            {"params": params[1::2], "grad_clip": ClipGradByNorm(0.5)},
        ]
        return rc.RAdam(0.1, parameters=groups, grad_clip=ClipGradByGlobalNorm(1.0))

    with paddle.utils.unique_name.guard():
        return FedProgram(tensors, optimizer)


def trained(program: FedProgram) -> FedProgram:
    program.start()
    for grads in random_gradients(program.tensors, 3):
        program.step(grads)
    return program


@pytest.fixture(scope="module")
def programs() -> tuple[FedProgram, FedProgram]:
    """The same training under hostile and under plain names."""
    paddle.enable_static()
    plain = tuple(f"p{index}" for index in range(len(STATIC_NAMES)))
    made = trained(program_of(STATIC_NAMES)), trained(program_of(plain))
    paddle.disable_static()
    return made


def test_names_change_no_value(programs: tuple[FedProgram, FedProgram]) -> None:
    hostile, plain = programs
    for name, actual, expected in zip(STATIC_NAMES, hostile.values(), plain.values()):
        assert actual.tobytes() == expected.tobytes(), ascii(name)
    for index, name in enumerate(STATIC_NAMES):
        for moment in ("moment1", "moment2"):
            actual = hostile.read(f"{name}_{moment}_0")
            assert actual.tobytes() == plain.read(f"p{index}_{moment}_0").tobytes(), ascii(name)


def test_names_reach_no_source(programs: tuple[FedProgram, FedProgram]) -> None:
    texts = [[source.text for source in program.optimizer.sources()] for program in programs]
    assert texts[0] == texts[1]
    launches = [
        [LaunchSpec.from_group(group).to_text() for group in program.optimizer.plan.groups]
        for program in programs
    ]
    assert launches[0] == launches[1]


def test_names_stand_in_plans(programs: tuple[FedProgram, FedProgram]) -> None:
    plan = programs[0].optimizer.plan
    assert UpdatePlan.from_json(plan.to_json()) == plan
    found = [tensor.name for group in plan.groups for tensor in group.tensors]
    assert found == [*STATIC_NAMES[::2], *STATIC_NAMES[1::2]]
    assert all(line.isprintable() for line in str(plan).splitlines())


def test_names_stand_in_saved_programs_and_state(
    own_names: None, programs: tuple[FedProgram, FedProgram], tmp_path: Path
) -> None:
    hostile = programs[0]
    prefix = str(tmp_path / "saved")
    with paddle.static.scope_guard(hostile.scope):
        paddle.static.save(hostile.main, prefix)
    main = tmp_path / ("main.json" if IN_PIR else "main.pdmodel")
    paddle.save(hostile.main, str(main))
    loaded = paddle.load(str(main))

    grads = random_gradients(hostile.tensors, 1, seed=5)[0]
    feed = {f"fed_{index}": grad for index, grad in enumerate(grads)}
    scope = paddle.static.Scope()
    with paddle.static.scope_guard(scope):
        hostile.executor.run(hostile.startup)
        paddle.static.load(loaded, prefix, hostile.executor)
        hostile.executor.run(loaded, feed=feed)
    after = [np.array(scope.find_var(name).get_tensor()) for name in STATIC_NAMES]
    hostile.step(grads)
    for name, actual, expected in zip(STATIC_NAMES, after, hostile.values()):
        assert actual.tobytes() == expected.tobytes(), ascii(name)


@pytest.mark.either_ir
def test_names_in_dynamic_graph() -> None:
    # Paddle ends a name at its first NUL.
    names = tuple(name for name in NAMES if "\0" not in name)

    def train(names: tuple[str, ...]) -> list[Any]:
        random = np.random.default_rng(3)
        values = [random.standard_normal(SHAPES[at % 3]) for at in range(len(names))]
        grads = [[random.standard_normal(np.shape(each)) for each in values] for _ in range(4)]
        params = [parameter(name, value) for name, value in zip(names, values)]
        optimizer = rc.RAdam(0.1, parameters=params, weight_decay=0.1)
        for number, each in enumerate(grads):
            if number == 2:
                state = optimizer.state_dict()
                optimizer = rc.RAdam(0.1, parameters=params, weight_decay=0.1)
                optimizer.set_state_dict(state)
            set_gradients(dict(zip(params, each)))
            optimizer.step()
            optimizer.clear_grad()
        return [param.numpy() for param in params]

    plain = train(tuple(f"p{index}" for index in range(len(names))))
    for name, actual, expected in zip(names, train(names), plain):
        assert actual.tobytes() == expected.tobytes(), ascii(name)


# ---- Names that the optimizer's own variables have ----------------------------------------------


@pytest.mark.parametrize("other", ["w_moment1_0", "w_moment2_0", "radam_step_0"])
@pytest.mark.parametrize("first", [True, False])
def test_a_parameter_named_as_another_one_s_state(own_names: None, other: str, first: bool) -> None:
    names = ("w", other) if first else (other, "w")
    program = FedProgram([Tensor(name, (2,)) for name in names], lambda params: None, nothing)
    before = program_text(program.main), program_text(program.startup)
    with paddle.static.program_guard(program.main, program.startup):
        optimizer = rc.RAdam(0.1)
        with pytest.raises(ProgramError, match=f"already has a variable '{other}'.* another name"):
            optimizer.minimize(program.loss)
    assert (program_text(program.main), program_text(program.startup)) == before


def test_a_parameter_named_as_the_learning_rate(own_names: None) -> None:
    program = FedProgram([Tensor("learning_rate_0", ())], lambda params: None, nothing)
    with paddle.static.program_guard(program.main, program.startup):
        optimizer = rc.RAdam(0.1)
        with pytest.raises(ProgramError, match=r"'learning_rate_0'.* learning rate would be"):
            optimizer.minimize(program.loss)


def nothing(optimizer: Any, loss: Any) -> None:
    """Leave a program without an optimizer."""


# ---- Numbers ------------------------------------------------------------------------------------

HUGE = 10**400
LARGEST = 1.7976931348623157e308


@pytest.mark.parametrize(
    "arguments",
    [
        {"beta1": HUGE},
        {"beta2": -HUGE},
        {"epsilon": HUGE},
        {"weight_decay": HUGE},
        {"weight_decay": L1Decay(HUGE)},
        {"parameters": [{"params": ["p"], "learning_rate": HUGE}]},
        {"parameters": [{"params": ["p"], "weight_decay": HUGE}]},
    ],
    ids=lambda each: " ".join(each),
)
def test_integers_that_no_float_is_near_to(arguments: dict[str, Any]) -> None:
    with pytest.raises(ArgumentError, match="float64 can hold, got an integer of 1329 bits"):
        rc.RAdam(**arguments)


@pytest.mark.parametrize("options", [{"learning_rate": HUGE}, {"regularizer": L1Decay(HUGE)}])
def test_huge_integers_that_a_parameter_brings_along(
    own_names: None, options: dict[str, Any]
) -> None:
    program = FedProgram([Tensor("p", (3,), options=options)], lambda params: None, nothing)
    before = program_text(program.main)
    with paddle.static.program_guard(program.main, program.startup):
        optimizer = rc.RAdam(0.1)
        with pytest.raises(ArgumentError, match=r"'p'.* an integer of 1329 bits"):
            optimizer.minimize(program.loss)
    assert program_text(program.main) == before


@pytest.mark.parametrize("rate", [0.0, 5e-324, 1e30, LARGEST])
@pytest.mark.parametrize(
    "arguments",
    [
        {"epsilon": LARGEST, "beta1": 5e-324},
        {"epsilon": 0.0, "beta2": 1 - 2**-53, "weight_decay": LARGEST},
        {"weight_decay": 5e-324, "beta1": 0, "beta2": 0},
        {"weight_decay": LARGEST, "decoupled_weight_decay": True},
    ],
)
def test_numbers_at_the_edge(own_names: None, rate: float, arguments: dict[str, Any]) -> None:
    tensors = [Tensor("p", (9,)), Tensor("q", (5,), "float64")]
    program = FedProgram(tensors, lambda params: rc.RAdam(rate, **arguments))
    program.start()
    plan = program.optimizer.plan
    module = Module(plan, (lower_structure(plan.groups[0].structure),), (0,))
    grads = {"p": np.full(9, 3.0, "float32"), "q": np.full(5, -1e300)}
    for number in range(2):
        before = _arrays(program, grads, number)
        with np.errstate(all="ignore"):
            expected = interpret(module, [before], float(program.read("learning_rate_0")))
        program.step([grads["p"], grads["q"]])
        assert_bitwise(plan, [_arrays(program, grads, number + 1)], expected)


def _arrays(program: FedProgram, grads: dict[str, Any], step: int) -> GroupArrays:
    """What the program holds, in the order of its plan."""
    names = [tensor.name for tensor in program.optimizer.plan.groups[0].tensors]
    return GroupArrays(
        param=[program.read(name) for name in names],
        grad=[grads[name] for name in names],
        moment1=[program.read(f"{name}_moment1_0") for name in names],
        moment2=[program.read(f"{name}_moment2_0") for name in names],
        master=[None] * len(names),
        step=np.full(len(names), step),
    )


# ---- Programs that were tampered with -----------------------------------------------------------


def test_a_program_whose_launch_was_changed(own_names: None, tmp_path: Path) -> None:
    program = FedProgram([Tensor("p", (3,))], lambda params: rc.RAdam(0.1))
    for old, new, message in (
        ("[1,1.0,0.0,true,0]", "[1,2.0,0.0,true,0]", "does not belong to"),
        ("[1,1.0,0.0,true,0]", "[1,NaN,0.0,true,0]", r"tensors\[0\]\[1\]: NaN is no finite"),
        ("[1,1.0,0.0,true,0]", "[9,1.0,0.0,true,0]", "must have 9 entries, not 1"),
        ('"moments":[[3]', '"moments":[[4]', "does not belong to"),
        ('"float32","float32","float32"', '"float64","float64","float64"', "does not belong"),
        ('"version":1', '"version":2', "version: is 2, but must be 1"),
        ('{"version"', '["version"', "not valid JSON"),
    ):
        startup = _changed(program.startup, old, new, tmp_path)
        with pytest.raises(PlanError, match=message):
            program.executor.run(startup, scope=paddle.static.Scope())


def _changed(startup: Any, old: str, new: str, folder: Path) -> Any:
    """A program as it comes back from a file in which something was replaced."""
    if not IN_PIR:
        changed = startup.clone()
        (operator,) = [op for op in changed.global_block().ops if op.has_attr("launch")]
        launch = operator.attr("launch")
        assert old in launch
        operator._set_attr("launch", launch.replace(old, new))
        return changed
    path = folder / "startup.json"
    paddle.save(startup, str(path))
    text = path.read_text()
    quoted = json.dumps(old)[1:-1]
    assert quoted in text
    path.write_text(text.replace(quoted, json.dumps(new)[1:-1]))
    return paddle.load(str(path))
