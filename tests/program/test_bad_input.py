"""What is refused: with Paddle's kinds of exception, by name, and with both programs left alone."""

from __future__ import annotations

import math
from collections.abc import Callable, Iterator
from typing import Any

import numpy as np
import paddle
import pytest
from paddle.nn import ClipGradByGlobalNorm, ClipGradByNorm, ClipGradByValue
from paddle.regularizer import L1Decay, L2Decay
from support.bad_settings import BAD_SETTINGS
from support.small_programs import SmallProgram, parameter
from support.static_programs import IN_PIR, FedProgram, Tensor, program_text, random_gradients
from support.twin import assert_follows, expected_tensor

import radam_codegen as rc
from radam_codegen.errors import ConfigError, ProgramError, RadamCodegenError
from radam_codegen.ir.plan import GroupPlan
from radam_codegen.program import static_state

pytestmark = pytest.mark.usefixtures("static_mode", "own_names")

NAN, INF = math.nan, math.inf


@pytest.fixture
def own_names() -> Iterator[None]:
    with paddle.utils.unique_name.guard():
        yield


class OwnDecay(L2Decay):  # type: ignore[misc]
    """Another regularizer than the one that it is derived from."""


# ---- Arguments of the constructor ---------------------------------------------------------------

#: Arguments, the kind of exception, and what its message must name.
ARGUMENTS: list[tuple[dict[str, Any], type[Exception], str]] = [
    ({"learning_rate": -1.0}, ValueError, "learning rate: -1.0"),
    ({"learning_rate": -1}, ValueError, "learning rate: -1"),
    ({"learning_rate": NAN}, ValueError, "learning rate: nan"),
    ({"learning_rate": INF}, ValueError, "learning rate: inf"),
    ({"learning_rate": 1}, TypeError, "learning rate .*int"),
    ({"learning_rate": True}, TypeError, "learning rate .*bool"),
    ({"learning_rate": None}, TypeError, "learning rate .*None"),
    ({"learning_rate": "0.1"}, TypeError, "learning rate .*str"),
    *(
        ({beta: value}, ValueError, f"{beta}: {float(value)}")
        for beta in ("beta1", "beta2")
        for value in (1.0, 1, -0.1, 2.0, NAN, INF)
    ),
    *(({beta: "0.9"}, TypeError, f"'{beta}' .* '0.9'") for beta in ("beta1", "beta2")),
    *(({beta: None}, TypeError, f"'{beta}' .* None") for beta in ("beta1", "beta2")),
    *(({"epsilon": value}, ValueError, f"epsilon value: {value}") for value in (-1e-8, NAN, INF)),
    ({"epsilon": None}, TypeError, "'epsilon' .* None"),
    ({"epsilon": "x"}, TypeError, "'epsilon' .* 'x'"),
    *(
        ({"weight_decay": value}, ValueError, f"weight_decay: {value}")
        for value in (-0.1, NAN, INF)
    ),
    ({"weight_decay": L2Decay(NAN)}, ValueError, "weight_decay: nan"),
    ({"weight_decay": L1Decay(-1.0)}, ValueError, "weight_decay: -1.0"),
    ({"weight_decay": "0.1"}, TypeError, "'weight_decay' .* '0.1'"),
    ({"weight_decay": [0.1]}, TypeError, "'weight_decay' .* list"),
    ({"weight_decay": True}, TypeError, "'weight_decay' .* True"),
    ({"grad_clip": 1.0}, TypeError, "'grad_clip' .* float"),
    ({"grad_clip": ClipGradByNorm}, TypeError, "'grad_clip'"),
    ({"multi_precision": "yes"}, TypeError, "'multi_precision' .* 'yes'"),
    ({"decoupled_weight_decay": 1}, TypeError, "'decoupled_weight_decay' .* 1"),
    (
        {"decoupled_weight_decay": True, "weight_decay": L2Decay(0.1)},
        TypeError,
        "decoupled_weight_decay.* L2Decay",
    ),
    ({"target": "tpu"}, ValueError, "'tpu'.* auto, c, cuda, native"),
    ({"parameters": "p"}, TypeError, "iterable .*str"),
    ({"parameters": 3}, TypeError, "iterable .*int"),
    ({"parameters": {"params": ["p"]}}, TypeError, "list of dict"),
    ({"parameters": {"p", "q"}}, TypeError, "ordered .* set"),
    ({"parameters": ["p", 3]}, TypeError, "entry 1 .* 3 of type int"),
    ({"parameters": [None]}, TypeError, "entry 0 .* None"),
    ({"parameters": ["p", "q", "p"]}, ValueError, "'p' is there twice"),
    ({"parameters": ["q", {"params": ["p"]}]}, TypeError, "entry 0 is a str"),
]

#: The same for options of a parameter group.
GROUP_ARGUMENTS: list[tuple[dict[str, Any], type[Exception], str]] = [
    ({}, ValueError, r"group 1 has no 'params'"),
    ({"lr": 1.0}, ValueError, r"group 1 has no 'params' \(it has \['lr'\]\)"),
    ({"params": ["q"], "betta1": 0.5}, ValueError, "group 1 .* 'betta1'"),
    ({"params": ["q", "p"]}, ValueError, "'p' is there twice"),
    ({"params": {"q"}}, TypeError, "group 1 has a set"),
    ({"params": ["q"], "learning_rate": NAN}, ValueError, "group 1: .*learning_rate: nan"),
    ({"params": ["q"], "learning_rate": -1}, ValueError, "group 1: .*learning_rate: -1"),
    ({"params": ["q"], "beta1": 1.0}, ValueError, "group 1: .*beta1: 1.0"),
    ({"params": ["q"], "beta2": "x"}, TypeError, "group 1: 'beta2'"),
    ({"params": ["q"], "epsilon": NAN}, ValueError, "group 1: .*epsilon value: nan"),
    ({"params": ["q"], "weight_decay": -1}, ValueError, "group 1: .*weight_decay: -1"),
    ({"params": ["q"], "grad_clip": 1.0}, TypeError, "group 1: 'grad_clip'"),
]


@pytest.mark.parametrize(("arguments", "kind", "message"), ARGUMENTS)
def test_arguments(arguments: dict[str, Any], kind: type[Exception], message: str) -> None:
    with pytest.raises(kind, match=message) as caught:
        rc.RAdam(**arguments)
    assert isinstance(caught.value, RadamCodegenError)


@pytest.mark.parametrize(("group", "kind", "message"), GROUP_ARGUMENTS)
def test_options_of_groups(group: dict[str, Any], kind: type[Exception], message: str) -> None:
    with pytest.raises(kind, match=message) as caught:
        rc.RAdam(parameters=[{"params": ["p"]}, group])
    assert isinstance(caught.value, RadamCodegenError)


@pytest.mark.parametrize(
    ("arguments", "kind"),
    [(each, kind) for each, kind, _ in ARGUMENTS if not {"target", "parameters"} & set(each)],
)
def test_native_radam_refuses_nothing_in_another_way(
    arguments: dict[str, Any], kind: type[Exception]
) -> None:
    refused: Exception | None = None
    try:
        paddle.optimizer.RAdam(**arguments)
    except Exception as error:
        refused = error
    assert refused is None or isinstance(refused, kind)


def test_good_arguments_at_the_edge() -> None:
    for arguments in (
        {"learning_rate": 0.0},
        {"beta1": 0.0, "beta2": 0},
        {"beta1": np.float32(0.5), "epsilon": np.float64(1e-3)},
        {"epsilon": 0.0},
        {"weight_decay": 0.0},
        {"weight_decay": 1},
        {"parameters": ["p"]},
        {"parameters": ("p", "q")},
        {"parameters": iter(["p", "q"])},
        {"parameters": [{"params": "p"}, {"params": ["q"], "weight_decay": None}]},
    ):
        rc.RAdam(**arguments)


# ---- Programs -----------------------------------------------------------------------------------

TENSORS = (Tensor("p", (9,)), Tensor("q", (3, 5)))


class Refusal:
    """A program that a bad ``minimize`` must leave as it was."""

    def __init__(self, tensors: tuple[Tensor, ...] = TENSORS) -> None:
        self.program = FedProgram(tensors, lambda params: None, lambda opt, loss: None)

    def refuses(
        self,
        make: Callable[[list[Any]], Any],
        message: str,
        kind: type[Exception] = ValueError,
        minimize: Callable[[Any, Any], Any] = lambda opt, loss: opt.minimize(loss),
    ) -> Any:
        """Return the optimizer after it has been refused."""
        program = self.program
        default = program_text(paddle.static.default_main_program())
        before = self.state()
        with paddle.static.program_guard(program.main, program.startup):
            optimizer = make(program.params)
            with pytest.raises(kind, match=message) as caught:
                minimize(optimizer, program.loss)
        assert isinstance(caught.value, RadamCodegenError)
        assert self.state() == before
        assert program_text(paddle.static.default_main_program()) == default
        return optimizer

    def state(self) -> list[Any]:
        """All that a refusal could leave behind in the programs."""
        found: list[Any] = []
        for program in (self.program.main, self.program.startup):
            block = program.global_block()
            found.append(program_text(program))
            held = vars(program).items()
            found.append({name: each for name, each in held if "lr" in name or "sched" in name})
            found.append(len(block.ops))
            if not IN_PIR:
                found += [
                    sorted(block.vars),
                    len(program.blocks),
                    program.desc.serialize_to_string(),
                ]
        return found

    def then_works(self, optimizer: Any = None, **arguments: Any) -> None:
        """Minimize once more, and follow the reference."""
        program = self.program
        with paddle.static.program_guard(program.main, program.startup):
            program.optimizer = optimizer or rc.RAdam(0.05)
            program.optimizer.minimize(program.loss, **arguments)
        wanted = [each for each in program.tensors if each.dtype in ("float32", "float64")]
        group = GroupPlan(tuple(map(expected_tensor, wanted)))
        assert_follows(program, [group], random_gradients(program.tensors, 7), 0.05)


def test_a_regularizer_of_an_unknown_kind() -> None:
    refusal = Refusal((TENSORS[0], Tensor("q", (3,), options={"regularizer": OwnDecay(0.1)})))
    refusal.refuses(lambda params: rc.RAdam(0.05), "'q' .* OwnDecay")


@pytest.mark.parametrize(
    ("clip", "message"),
    [
        (lambda: ClipGradByGlobalNorm(NAN), "group 0: .* nan"),
        (lambda: ClipGradByGlobalNorm(-1.0), "group 0: .* -1.0"),
        (lambda: ClipGradByNorm(INF), "group 0: .* inf"),
        (lambda: ClipGradByValue(-1.0, 1.0), "group 0: .* 1.0 exceeds its bound -1.0"),
    ],
)
def test_a_clip_with_senseless_bounds(clip: Callable[[], Any], message: str) -> None:
    refusal = Refusal()
    refusal.refuses(lambda params: rc.RAdam(0.05, grad_clip=clip()), message)
    refusal.then_works()


def test_a_name_that_is_no_parameter() -> None:
    refusal = Refusal()
    optimizer = refusal.refuses(
        lambda params: rc.RAdam(0.05),
        "'missing' is no parameter .*'p'",
        minimize=lambda opt, loss: opt.minimize(loss, parameters=["p", "missing"]),
    )
    refusal.then_works(optimizer)


def test_a_parameter_of_another_program() -> None:
    with paddle.utils.unique_name.guard():
        other = FedProgram([Tensor("elsewhere", (3,))], lambda params: None, lambda opt, loss: None)
    refusal = Refusal()
    refusal.refuses(lambda params: rc.RAdam(0.05, parameters=other.params), "'elsewhere'")
    refusal.then_works()


@pytest.mark.parametrize("coefficient", [NAN, -0.5])
def test_a_parameter_s_regularizer_with_a_senseless_coefficient(coefficient: float) -> None:
    options = {"regularizer": L1Decay(coefficient)}
    refusal = Refusal((TENSORS[0], Tensor("q", (3,), options=options)))
    refusal.refuses(lambda params: rc.RAdam(0.05), f"'q'.* {coefficient}")


def test_no_grad_set_that_is_no_collection() -> None:
    refusal = Refusal()
    optimizer = refusal.refuses(
        lambda params: rc.RAdam(0.05),
        "no_grad_set .* str",
        TypeError,
        lambda opt, loss: opt.minimize(loss, no_grad_set="p"),
    )
    refusal.then_works(optimizer)


ENTRIES: list[tuple[str, Callable[[], Any], str]] = [
    (
        "no_grad_set",
        lambda: {3},
        "holds 3 of type int; it should hold tensors or names",
    ),
    ("no_grad_set", lambda: ["p", None], "no_grad_set holds None of type NoneType"),
    ("no_grad_set", lambda: {"p", 2.5}, "no_grad_set holds 2.5 of type float"),
    ("no_grad_set", lambda: [np.zeros(1000)], "no_grad_set holds .{,60} of type ndarray"),
    ("no_grad_set", lambda: [["p"]], "no_grad_set holds .* of type list"),
    ("no_grad_set", lambda: 3, "no_grad_set should be .*, got int"),
    ("no_grad_set", lambda: {"p": 1}, "no_grad_set should be .*, got dict"),
    ("no_grad_set", lambda: iter(["p"]), "no_grad_set should be .*, got list_iterator"),
    ("parameters", lambda: [3], "parameters holds 3 of type int; it should hold tensors or names"),
    ("parameters", lambda: ["p", None], "parameters holds None"),
    ("parameters", lambda: iter(["p", b"q"]), "parameters holds b'q' of type bytes"),
    ("parameters", lambda: [{"params": ["p"]}], "parameters holds .* of type dict"),
    ("parameters", lambda: "p", "parameters should be .*, got str"),
    ("parameters", lambda: {"params": ["p"]}, "parameters should be .*, got dict"),
    ("parameters", lambda: 3, "parameters should be .*, got int"),
]


@pytest.mark.parametrize(("argument", "given", "message"), ENTRIES)
def test_entries_that_are_no_tensors(argument: str, given: Callable[[], Any], message: str) -> None:
    refusal = Refusal()
    optimizer = refusal.refuses(
        lambda params: rc.RAdam(0.05),
        message,
        TypeError,
        lambda opt, loss: opt.minimize(loss, **{argument: given()}),
    )
    refusal.then_works(optimizer)


@pytest.mark.parametrize("argument", ["no_grad_set", "parameters"])
def test_a_tensor_in_the_place_of_a_collection(argument: str) -> None:
    refusal = Refusal()
    optimizer = refusal.refuses(
        lambda params: rc.RAdam(0.05),
        f"{argument} should be a .*list or tuple of tensors or names, got",
        TypeError,
        lambda opt, loss: opt.minimize(loss, **{argument: refusal.program.params[0]}),
    )
    refusal.then_works(optimizer)


@pytest.mark.parametrize("argument", ["no_grad_set", "parameters"])
def test_entries_in_dynamic_graph(argument: str) -> None:
    paddle.disable_static()
    try:
        weight = paddle.create_parameter([3], "float32")
        optimizer = rc.RAdam(0.05, parameters=[weight])
        weight.sum().backward()
        before = weight.numpy()
        wrong = [[3], [weight, None], 3, "weight", weight]
        if argument == "parameters":
            wrong.append(["weight"])
        for given in wrong:
            with pytest.raises(TypeError, match=f"^{argument} (holds|should)") as caught:
                optimizer.minimize(weight, **{argument: given})
            assert isinstance(caught.value, RadamCodegenError)
        np.testing.assert_array_equal(weight.numpy(), before)
        optimizer.minimize(weight, **{argument: [weight]})
        assert not np.array_equal(weight.numpy(), before)
    finally:
        paddle.enable_static()


def test_a_name_of_nothing_in_no_grad_set() -> None:
    refusal = Refusal()
    optimizer = refusal.refuses(
        lambda params: rc.RAdam(0.05),
        "no_grad_set names 'missing', .* its parameters are: .*'p'",
        ProgramError,
        lambda opt, loss: opt.minimize(loss, no_grad_set={"p", "missing"}),
    )
    refusal.then_works(optimizer)


def test_a_tensor_of_another_program_in_no_grad_set() -> None:
    with paddle.utils.unique_name.guard():
        other = FedProgram([Tensor("p", (9,))], lambda params: None, lambda opt, loss: None)
    refusal = Refusal()
    optimizer = refusal.refuses(
        lambda params: rc.RAdam(0.05),
        "no_grad_set holds 'p', a tensor of another program",
        ProgramError,
        lambda opt, loss: opt.minimize(loss, no_grad_set=other.params),
    )
    refusal.then_works(optimizer)


def test_good_entries() -> None:
    for given in ({"q"}, ["q"], ("q", "q"), frozenset({"q"}), "value", "mixed"):
        with paddle.utils.unique_name.guard():
            program = FedProgram(TENSORS, lambda params: None, lambda opt, loss: None)
        with paddle.static.program_guard(program.main, program.startup):
            optimizer = rc.RAdam(0.05)
            if isinstance(given, str):
                given = {program.params[1], *(["q"] if given == "mixed" else [])}
            optimizer.minimize(program.loss, parameters=iter(["p", "q"]), no_grad_set=given)
        assert [each.name for each in optimizer.plan.groups[0].tensors] == ["p"]


class Gradient:
    """A program with one parameter and a fed gradient for ``apply_gradients``."""

    def __init__(self, dtype: str, grad_dtype: str) -> None:
        self.main, self.startup = paddle.static.Program(), paddle.static.Program()
        with paddle.static.program_guard(self.main, self.startup):
            initial = paddle.nn.initializer.Constant(0.0)
            attr = paddle.ParamAttr(name="odd", initializer=initial)
            self.param = paddle.create_parameter([3], dtype, attr=attr)
            self.grad = paddle.static.data("fed", [3], grad_dtype)

    def refuses(self, message: str, pairs: Any = None, **arguments: Any) -> None:
        before = program_text(self.main), program_text(self.startup)
        with paddle.static.program_guard(self.main, self.startup):
            optimizer = rc.RAdam(0.05, **arguments)
            with pytest.raises(ValueError, match=message) as caught:
                optimizer.apply_gradients(pairs or [(self.param, self.grad)])
        assert isinstance(caught.value, RadamCodegenError)
        assert (program_text(self.main), program_text(self.startup)) == before


def test_a_type_without_a_kernel() -> None:
    Gradient("int32", "int32").refuses("parameter 'odd' has the type .*int32.* float64, float32")


def test_a_gradient_of_a_type_that_the_parameter_does_not_take() -> None:
    Gradient("float32", "float64").refuses("'odd'.* gradient's dtype is float64")


def test_a_gradient_of_another_program() -> None:
    here, elsewhere = Gradient("float32", "float32"), Gradient("float32", "float32")
    message = "the gradient of parameter 'odd' belongs to another program"
    here.refuses(message, [(here.param, elsewhere.grad)])
    here.refuses("parameter 'odd' belongs to another", [(elsewhere.param, here.grad)])


def test_a_weight_decay_of_another_program() -> None:
    elsewhere = paddle.static.Program()
    with paddle.static.program_guard(elsewhere, paddle.static.Program()):
        decay = paddle.static.data("decay", [1], "float32")
    refusal = Refusal()
    refusal.refuses(lambda params: rc.RAdam(0.05, weight_decay=decay), "weight_decay .* another")
    refusal.then_works()


@pytest.fixture(params=["flat", "per_parameter"])
def layout(request: pytest.FixtureRequest) -> Iterator[str]:
    rc.config(state_layout=request.param)
    yield request.param
    rc.config(state_layout=None)


class Interruption:
    """An interruption while state is made, which is of six variables in either layout."""

    def __init__(self, monkeypatch: pytest.MonkeyPatch) -> None:
        self.left = -1
        for where, name in (
            (static_state, "create_zeros"),  # step counts, and flat moments
            (rc.RAdam, "_add_accumulator"),  # moments of one parameter
        ):
            monkeypatch.setattr(where, name, self._counted(getattr(where, name)))

    def _counted(self, original: Callable[..., Any]) -> Callable[..., Any]:
        def counted(*arguments: Any, **options: Any) -> Any:
            self.left -= 1
            if self.left == -1:
                raise KeyboardInterrupt
            return original(*arguments, **options)

        return counted


@pytest.mark.parametrize("left", range(6))
def test_what_interrupts_minimize_leaves_no_trace(
    layout: str, left: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    refusal = Refusal()
    before = refusal.state()
    program = refusal.program
    scheduler = paddle.optimizer.lr.StepDecay(0.05, 100)
    optimizer = rc.RAdam(
        scheduler,
        parameters=[{"params": program.params[:1]}, {"params": program.params[1:]}],
    )
    interruption = Interruption(monkeypatch)
    interruption.left = left
    with pytest.raises(KeyboardInterrupt):
        optimizer.minimize(program.loss, program.startup)
    assert refusal.state() == before
    refusal.then_works(optimizer)
    assert [len(group.tensors) for group in optimizer.plan.groups] == [1, 1]


def test_what_interrupts_a_second_minimize_leaves_the_first_scheduler_alone(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    refusal = Refusal()
    program = refusal.program
    first = rc.RAdam(paddle.optimizer.lr.StepDecay(0.05, 100), parameters=program.params[:1])
    first.minimize(program.loss, program.startup)
    before = refusal.state()
    second = rc.RAdam(paddle.optimizer.lr.StepDecay(0.1, 7), parameters=program.params[1:])
    Interruption(monkeypatch).left = 0
    with pytest.raises(KeyboardInterrupt):
        second.minimize(program.loss, program.startup)
    assert refusal.state() == before


@pytest.mark.skipif(IN_PIR, reason="gradients of embeddings are dense in PIR")
@pytest.mark.parametrize("by_backward", [True, False])
def test_a_sparse_gradient(by_backward: bool) -> None:
    main, startup = paddle.static.Program(), paddle.static.Program()
    with paddle.static.program_guard(main, startup):
        ids = paddle.static.data("ids", [4], "int64")
        attr = paddle.ParamAttr(name="table")
        hidden = paddle.nn.Embedding(10, 3, sparse=True, weight_attr=attr)(ids)
        loss = paddle.mean(paddle.nn.Linear(3, 1)(hidden))
        optimizer = rc.RAdam(0.05)

        def minimize() -> None:
            optimizer.minimize(loss)

        def apply() -> None:
            optimizer.apply_gradients(pairs)

        pairs = [] if by_backward else paddle.static.append_backward(loss)
        before = program_text(main), program_text(startup)
        message = r"'table'.* sparse .*sparse=False"
        with pytest.raises(ValueError, match=message) as caught:
            (minimize if by_backward else apply)()
        assert isinstance(caught.value, RadamCodegenError)
        assert (program_text(main), program_text(startup)) == before
        optimizer.minimize(loss, no_grad_set={"table"})
    executor, scope = paddle.static.Executor(paddle.CPUPlace()), paddle.static.Scope()
    executor.run(startup, scope=scope)
    executor.run(main, feed={"ids": np.arange(4)}, fetch_list=[loss], scope=scope)


def test_an_operator_of_another_program_in_the_fetch_list() -> None:
    program = FedProgram(TENSORS, lambda params: rc.RAdam(0.05)).start()
    with paddle.utils.unique_name.guard():
        other = FedProgram(TENSORS, lambda params: rc.RAdam(0.05))
    grads = random_gradients(TENSORS, 1)[0]
    before = [program.read(name) for name in sorted(program.state_names())]
    texts = program_text(program.main), program_text(other.main)
    for fetches in ([program.loss, other.result], [other.result], [other.result[0]]):
        with pytest.raises(ValueError, match="radam_codegen_step") as caught:
            program.step(grads, fetches)
        assert isinstance(caught.value, RadamCodegenError)
    after = [program.read(name) for name in sorted(program.state_names())]
    for one, another in zip(before, after):
        np.testing.assert_array_equal(one, another)
    assert (program_text(program.main), program_text(other.main)) == texts
    program.step(grads, [program.loss, program.result])
    np.testing.assert_array_equal(program.read("radam_step_0"), [1, 1])


def test_a_refused_optimizer_can_be_used_again() -> None:
    refusal = Refusal()
    scheduler = paddle.optimizer.lr.StepDecay(0.05, 100)
    optimizer = refusal.refuses(
        lambda params: rc.RAdam(scheduler),
        "'missing'",
        minimize=lambda opt, loss: opt.minimize(loss, parameters=["missing"]),
    )
    refusal.then_works(optimizer)


def test_groups_given_by_iterators_are_read_whole() -> None:
    def make(params: list[Any]) -> Any:
        return rc.RAdam(
            0.05, parameters=[{"params": iter(params[:1])}, {"params": iter(params[1:])}]
        )

    program = FedProgram(TENSORS, make)
    plan = program.optimizer.plan
    assert [[each.name for each in group.tensors] for group in plan.groups] == [["p"], ["q"]]


@pytest.mark.parametrize(("variable", "value"), BAD_SETTINGS.items())
def test_settings(variable: str, value: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv(variable, value)
    with pytest.raises(ConfigError) as caught:
        SmallProgram(lambda: rc.RAdam().minimize(paddle.mean(parameter("weight"))))
    assert str(caught.value).startswith(f"{variable}={value!r} ")
