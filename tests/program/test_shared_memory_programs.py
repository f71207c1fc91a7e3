"""Variables of a program that share memory: one update after the other, or a refusal by name.

What should come out is what native RAdam makes of such tensors in dynamic graph, where nothing but
the order of the parameters orders its updates.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from typing import Any

import numpy as np
import paddle
import pytest
from paddle.nn import ClipGradByGlobalNorm
from support.overlap import LR, NUMEL, SHIFT, Layout, Training, over, values

import radam_codegen as rc
from radam_codegen.errors import RadamCodegenError, UnsupportedError

Array = np.ndarray[Any, np.dtype[Any]]

LAYOUTS = {
    "one buffer": Layout(b=0),
    "the second begins inside of the first": Layout(b=SHIFT),
    "the first begins inside of the second": Layout(a=SHIFT, b=0),
    "a gradient over its parameter": Layout(grad_a=0),
    "a gradient that begins inside of its parameter": Layout(grad_a=SHIFT),
    "a gradient over an earlier parameter": Layout(grad_b=0),
    "a gradient over a later parameter": Layout(grad_a=2 * NUMEL),
    "everything over everything": Layout(b=SHIFT, grad_a=SHIFT // 2, grad_b=2 * SHIFT),
}


@pytest.fixture(autouse=True)
def threads(static_mode: None) -> Iterator[None]:
    rc.config(num_threads=3)
    yield
    rc.config(num_threads=None)


class Program:
    """A program whose parameters, and the gradients that are fed, lie in one piece of memory."""

    def __init__(self, layout: Layout, state_layout: str | None = None, **options: Any) -> None:
        self.main, self.startup = paddle.static.Program(), paddle.static.Program()
        self.scope, self.executor = paddle.static.Scope(), paddle.static.Executor()
        rc.config(state_layout=state_layout)
        guard = paddle.static.program_guard(self.main, self.startup)
        with paddle.utils.unique_name.guard(), guard:
            params = [
                paddle.create_parameter([NUMEL], "float32", attr=paddle.ParamAttr(name=name))
                for name in "ab"
            ]
            fed = [paddle.static.data(f"fed_{name}", [NUMEL], "float32") for name in "ab"]
            self.optimizer = rc.RAdam(LR, **options)
            self.optimizer.apply_gradients(list(zip(params, fed)))
        rc.config(state_layout=None)
        self.executor.run(self.startup, scope=self.scope)
        paddle.disable_static()
        self.memory = values(3 * NUMEL, 1)
        self.own = [values(NUMEL, 2), values(NUMEL, 3)]
        paddle.enable_static()
        self.feed = {}
        for number, (name, place, grad) in enumerate(
            zip("ab", (layout.a, layout.b), (layout.grad_a, layout.grad_b))
        ):
            self.tensor(name)._share_data_with(self._part(place))
            given = self.own[number].get_tensor() if grad is None else self._part(grad)
            self.feed[f"fed_{name}"] = given

    def _part(self, begin: int) -> Any:
        return self.memory.get_tensor()._slice(begin, begin + NUMEL)

    def tensor(self, name: str) -> Any:
        return self.scope.find_var(name).get_tensor()

    def run(self, steps: int = 8) -> Array:
        for _ in range(steps):
            self.executor.run(self.main, feed=self.feed, scope=self.scope)
        return np.array(self.memory.get_tensor())


def native(
    layout: Layout, prepare: Callable[[Training], None] | None = None, **options: Any
) -> Array:
    """What native RAdam makes of the same in dynamic graph."""
    paddle.disable_static()
    try:
        training = Training(
            lambda parameters: paddle.optimizer.RAdam(LR, parameters=parameters, **options), layout
        )
        if prepare is not None:
            prepare(training)
        return training.run()
    finally:
        paddle.enable_static()


@pytest.fixture(autouse=True)
def clips_of_their_own(monkeypatch: pytest.MonkeyPatch) -> None:
    """Have native RAdam clip in dynamic graph as it does in programs: not in place."""
    monkeypatch.setattr(paddle.nn.clip, "_can_inplace_clip_grad", lambda *_: False)


def same_after_repeats(make: Callable[[], Program], expected: Array) -> None:
    results = [make().run() for _ in range(3)]
    for each in results:
        np.testing.assert_array_equal(each, results[0])
    np.testing.assert_allclose(results[0], expected, 2e-5, 2e-5)


@pytest.mark.parametrize("layout", LAYOUTS)
@pytest.mark.parametrize("clip", [None, 100.0])
def test_parameters_and_gradients(layout: str, clip: float | None) -> None:
    where = LAYOUTS[layout]

    def options() -> dict[str, Any]:
        return {} if clip is None else {"grad_clip": ClipGradByGlobalNorm(clip)}

    same_after_repeats(lambda: Program(where, **options()), native(where, **options()))


@pytest.mark.parametrize("kind", ["moment1", "moment2"])
def test_moments_over_one_another(kind: str) -> None:
    # A moment1 of something else over a moment2 of nearly nothing would be nearly anything.
    def program() -> Program:
        made = Program(Layout(), state_layout="per_parameter")
        for each in made.feed.values():
            each.set(np.abs(np.array(each)) + np.float32(0.5), paddle.CPUPlace())
        made.run(1)
        made.tensor(f"a_{kind}_0")._share_data_with(made.tensor(f"b_{kind}_0"))
        return made

    def share(training: Training) -> None:
        for each in training.params:
            each.grad = each.grad.abs() + 0.5
        training.optimizer.step()
        over(training.state(kind)["a"], training.state(kind)["b"])

    same_after_repeats(program, native(Layout(), share))


def test_flat_moments_over_one_another_are_refused_by_name() -> None:
    program = Program(Layout())
    program.run(1)
    names = program.scope.local_var_names()
    one, other = (
        next(name for name in names if name.startswith(f"radam_{kind}_"))
        for kind in ("moment1", "moment2")
    )
    before = np.array(program.memory.get_tensor())
    program.tensor(one)._share_data_with(program.tensor(other))
    message = r"moment[12] of parameter '[ab]' shares memory with moment[12] of parameter '[ab]'"
    with pytest.raises(UnsupportedError, match=message) as caught:
        program.run(1)
    assert isinstance(caught.value, RadamCodegenError)
    np.testing.assert_array_equal(np.array(program.memory.get_tensor()), before)


def test_a_decay_of_parameters_over_one_another_is_refused_by_name() -> None:
    program = Program(LAYOUTS["one buffer"], weight_decay=0.1)
    before = np.array(program.memory.get_tensor())
    with pytest.raises(UnsupportedError, match=r"'b' shares memory with parameter 'a', .*decay"):
        program.run(1)
    np.testing.assert_array_equal(np.array(program.memory.get_tensor()), before)
