"""The key of PIR programs: it is as good as their text, which is printed only when they change."""

from __future__ import annotations

import ctypes
from collections.abc import Iterator
from typing import Any

import numpy as np
import paddle
import pytest
from support.program_changes import CHANGES, READERS, build, names_of
from support.static_programs import IN_PIR, FedProgram, Tensor

import radam_codegen
from radam_codegen.errors import ConfigError
from radam_codegen.program import fingerprint, kernels, program_key
from radam_codegen.program.fingerprint import fingerprint_of
from radam_codegen.program.installation import openmp_path, python_module_path
from radam_codegen.program.program_key import KnownTexts, known_texts, state_of_program

pytestmark = [
    pytest.mark.usefixtures("cache"),
    pytest.mark.skipif(not IN_PIR, reason="Paddle keeps the hash of a legacy program itself"),
]

CPU = paddle.CPUPlace()
Array = np.ndarray[Any, np.dtype[Any]]


@pytest.fixture
def counts() -> Iterator[KnownTexts]:
    """How many texts are printed and found from here on."""
    known_texts.printed = known_texts.found = 0
    yield known_texts
    radam_codegen.config(program_key=None)


@pytest.fixture(scope="module")
def template() -> Any:
    paddle.enable_static()
    yield build()
    paddle.disable_static()


@pytest.fixture
def program(template: Any) -> Any:
    return template.clone()


def plain_program(weight: float = 1.0) -> tuple[Any, Any, Any]:
    """A program that scales what it is fed, and steps one parameter."""
    main, startup = paddle.static.Program(), paddle.static.Program()
    with paddle.static.program_guard(main, startup):
        x = paddle.static.data("x", [2], "float32")
        shown = paddle.scale(x, scale=2.0, bias=weight)
        parameter = paddle.create_parameter([2], "float32")
        radam_codegen.RAdam(0.1).minimize(paddle.sum(parameter * x))
    executor = paddle.static.Executor(CPU)
    executor.run(startup)
    return main, shown, executor


def shown_by(executor: Any, main: Any, shown: Any) -> float:
    (value,) = executor.run(main, feed={"x": np.ones(2, "float32")}, fetch_list=[shown])
    return float(value[0])


@pytest.mark.parametrize("change", CHANGES)
def test_whatever_changes_the_text_changes_the_fingerprint(program: Any, change: str) -> None:
    text, before = str(program), fingerprint_of(program)
    assert before is not None
    assert before.holds_ours
    assert fingerprint_of(program) == before, "it stays while nothing changes"
    CHANGES[change](program)
    assert str(program) != text
    after = fingerprint_of(program)
    assert after is not None
    assert after.value != before.value


@pytest.mark.parametrize("kind", READERS, ids=lambda kind: kind.__name__)
def test_every_way_to_change_a_program_is_among_them(kind: type) -> None:
    changing = {name.split(".")[1] for name in CHANGES if name.startswith(f"{kind.__name__}.")}
    assert names_of(kind) - changing - set(READERS[kind].split()) == set()


def test_equal_programs_have_different_fingerprints(template: Any) -> None:
    seen = [fingerprint_of(template)]
    for _ in range(20):
        # Each is freed before the next one is made, which gets its memory.
        seen.append(fingerprint_of(template.clone()))
    assert len(set(seen)) == len(seen)


def test_a_program_is_printed_once(counts: KnownTexts) -> None:
    main, shown, executor = plain_program()
    printed = counts.printed
    for _ in range(5):
        assert shown_by(executor, main, shown) == 3.0
    assert (counts.printed - printed, counts.found) == (1, 4)
    executor.run(main, feed={"x": np.ones(2, "float32")}, fetch_list=[])
    assert counts.printed - printed == 1, "what is fetched is not in the text"


def test_a_change_in_place_takes_effect(counts: KnownTexts) -> None:
    main, shown, executor = plain_program()
    assert shown_by(executor, main, shown) == 3.0
    scale = shown.get_defining_op()
    scale.set_bool_attr("bias_after_scale", False)
    assert shown_by(executor, main, shown) == 4.0
    scale.set_bool_attr("bias_after_scale", True)
    printed = counts.printed
    assert shown_by(executor, main, shown) == 3.0
    assert counts.printed == printed, "a state that was there before is known"


def test_a_change_in_place_takes_effect_in_a_pruned_run() -> None:
    main, shown, executor = plain_program()
    for expected, after in [(3.0, False), (4.0, True), (3.0, True)]:
        feed = {"x": np.ones(2, "float32")}
        (value,) = executor.run(main, feed=feed, fetch_list=[shown], use_prune=True)
        assert value[0] == expected
        shown.get_defining_op().set_bool_attr("bias_after_scale", after)


def test_programs_that_follow_each_other_in_memory() -> None:
    for weight in range(3):
        main, shown, executor = plain_program(float(weight))
        assert shown_by(executor, main, shown) == 2.0 + weight
        del main, shown, executor


def test_one_executor_keeps_programs_scopes_feeds_and_fetches_apart() -> None:
    first, second = (
        FedProgram([Tensor(f"p{number}", (2,))], lambda params: radam_codegen.RAdam(0.1))
        for number in range(2)
    )
    second.executor = first.executor
    gradient = [np.ones(2, "float32")]
    for each in (first, second):
        each.start([np.zeros(2, "float32")])
    for _ in range(2):
        first.step(gradient)
    (loss,) = second.step(gradient, fetch_list=[second.loss])
    assert loss == 0.0
    assert first.values()[0][0] < second.values()[0][0] < 0.0
    first.scope = paddle.static.Scope()
    first.start([np.zeros(2, "float32")]).step(gradient)
    assert first.values()[0][0] == second.values()[0][0]


def test_the_setting_switches_it_off(counts: KnownTexts, monkeypatch: pytest.MonkeyPatch) -> None:
    main, shown, executor = plain_program()
    radam_codegen.config(program_key="text")
    counts.printed = counts.found = 0
    assert state_of_program(main) == hash(str(main))
    for expected, after in [(3.0, False), (4.0, True), (3.0, True)]:
        assert shown_by(executor, main, shown) == expected
        shown.get_defining_op().set_bool_attr("bias_after_scale", after)
    assert (counts.printed, counts.found) == (0, 0)
    monkeypatch.setenv("RADAM_CODEGEN_PROGRAM_KEY", "memoised")
    assert radam_codegen.config(program_key=None).program_key == "memoised"
    shown_by(executor, main, shown)
    assert counts.printed == 1
    monkeypatch.setenv("RADAM_CODEGEN_PROGRAM_KEY", "hash")
    with pytest.raises(ConfigError, match="PROGRAM_KEY='hash'"):
        radam_codegen.config()


def test_programs_of_others_are_left_alone(counts: KnownTexts) -> None:
    main = paddle.static.Program()
    with paddle.static.program_guard(main):
        shown = paddle.full([1], 3.0)
    found = fingerprint_of(main)
    assert found is not None
    assert not found.holds_ours
    for _ in range(2):
        (value,) = paddle.static.Executor(CPU).run(main, fetch_list=[shown])
        assert value[0] == 3.0
    assert (counts.printed, counts.found) == (0, 0)


def test_programs_of_others_are_looked_at_once_per_run(monkeypatch: pytest.MonkeyPatch) -> None:
    main = paddle.static.Program()
    with paddle.static.program_guard(main):
        shown = paddle.full([1], 3.0)
    looks: list[Any] = []

    def looked(program: Any) -> Any:
        looks.append(program)
        return fingerprint_of(program)

    monkeypatch.setattr(program_key, "fingerprint_of", looked)
    executor = paddle.static.Executor(CPU)
    for _ in range(3):
        executor.run(main, fetch_list=[shown])
    assert looks == [main] * 3


def test_no_more_hashes_are_kept_than_allowed(template: Any) -> None:
    texts = KnownTexts(capacity=2)
    programs = [template.clone() for _ in range(3)]
    hashes = [texts.hash_of(each) for each in programs]
    assert set(hashes) == {hash(str(template))}
    assert [texts.hash_of(each) for each in programs[1:]] == hashes[1:]
    assert (texts.printed, texts.found) == (3, 2)
    texts.hash_of(programs[0])
    assert (texts.printed, texts.found) == (4, 2)


def test_a_paddle_whose_programs_cannot_be_read(counts: KnownTexts) -> None:
    main, shown, executor = plain_program()
    library = kernels.operator()
    try:
        assert not library.set_python_module(openmp_path().with_name("libphi_core.so"))
        counts.printed = 0
        assert fingerprint_of(main) is None
        assert state_of_program(main) == hash(str(main))
        assert shown_by(executor, main, shown) == 3.0
        assert counts.printed == 0
    finally:
        assert library.set_python_module(python_module_path())
    assert fingerprint_of(main) is not None


def test_python_objects_of_another_layout(program: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    class Another:
        id = "0x1"

    assert not fingerprint._is_as_expected(Another())
    monkeypatch.setattr(fingerprint, "_checked", None)
    with monkeypatch.context() as patch:
        patch.setattr(fingerprint, "_POINTERS", 8 * ctypes.sizeof(ctypes.c_void_p))
        assert fingerprint_of(program) is None
        assert fingerprint_of(program) is None
    monkeypatch.setattr(fingerprint, "_checked", None)
    assert fingerprint_of(program) is not None


def test_an_empty_program() -> None:
    found = fingerprint_of(paddle.static.Program())
    assert found is not None
    assert not found.holds_ours
