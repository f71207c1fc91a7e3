"""Static programs whose gradients are fed: what an optimizer gets is known to the last bit."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from typing import Any

import numpy as np
import paddle

__all__ = [
    "IN_PIR",
    "FedProgram",
    "Tensor",
    "fed_loss",
    "persistable_names",
    "program_text",
    "random_gradients",
]

Array = np.ndarray[Any, np.dtype[Any]]

IN_PIR = bool(paddle.get_flags("FLAGS_enable_pir_api")["FLAGS_enable_pir_api"])


@dataclass(frozen=True)
class Tensor:
    """A parameter to create; ``options`` go to its ``ParamAttr``."""

    name: str
    shape: tuple[int, ...]
    dtype: str = "float32"
    options: dict[str, Any] = field(default_factory=dict)


class FedProgram:
    """One loss, ``sum(parameter * fed)`` over all parameters: each gradient is what is fed.

    Args:
        tensors: the parameters.
        optimizer: makes the optimizer from the parameters; called while the program is current.
        minimize: takes optimizer and loss; the plain ``minimize`` when None.
    """

    def __init__(
        self,
        tensors: Sequence[Tensor],
        optimizer: Callable[[list[Any]], Any],
        minimize: Callable[[Any, Any], Any] | None = None,
    ) -> None:
        self.tensors = tuple(tensors)
        self.main, self.startup = paddle.static.Program(), paddle.static.Program()
        self.scope = paddle.static.Scope()
        self.executor = paddle.static.Executor(paddle.CPUPlace())
        with paddle.static.program_guard(self.main, self.startup):
            self.params = [_create(tensor) for tensor in self.tensors]
            self.loss = _fed_loss(self.tensors, self.params)
            self.optimizer = optimizer(self.params)
            self.state_before = self.state_names()
            self.result = (minimize or (lambda opt, loss: opt.minimize(loss)))(
                self.optimizer, self.loss
            )

    def start(self, values: Sequence[Array] | None = None) -> FedProgram:
        """Run the startup program, and set the parameters to ``values``."""
        self.executor.run(self.startup, scope=self.scope)
        for tensor, value in zip(self.tensors, values or ()):
            self.write(tensor.name, value)
        return self

    def step(self, grads: Sequence[Array], fetch_list: Any = None) -> list[Any]:
        """Run the main program once."""
        feed = {f"fed_{index}": grad for index, grad in enumerate(grads)}
        results: list[Any] = self.executor.run(
            self.main, feed=feed, fetch_list=fetch_list, scope=self.scope
        )
        return results

    def read(self, name: str) -> Array:
        """The value of a variable in the scope, or of an entry of the optimizer's state."""
        variable = self.scope.find_var(name)
        if variable is not None:
            return np.array(variable.get_tensor())
        return np.array(self.optimizer.state_dict(scope=self.scope)[name])

    def write(self, name: str, value: Array) -> None:
        """Set a variable in the scope."""
        self.scope.var(name).get_tensor().set(value, paddle.CPUPlace())

    def values(self) -> list[Array]:
        """The parameters as they are."""
        return [self.read(tensor.name) for tensor in self.tensors]

    def state_names(self) -> set[str]:
        """Names of everything persistable in the main program, parameters included."""
        return persistable_names(self.main)

    def optimizer_state(self) -> dict[str, Array]:
        """What ``minimize`` added to the program and keeps from step to step, by name."""
        added = self.state_names() - self.state_before
        return {name: self.read(name) for name in sorted(added)}


def _create(tensor: Tensor) -> Any:
    options = dict(tensor.options)
    trainable = options.pop("trainable", True)
    attr = paddle.ParamAttr(
        name=tensor.name,
        initializer=paddle.nn.initializer.Constant(0.5),
        trainable=trainable,
        **options,
    )
    return paddle.create_parameter(list(tensor.shape), tensor.dtype, attr=attr)


def _fed_loss(tensors: Sequence[Tensor], params: Sequence[Any]) -> Any:
    fed = [
        paddle.static.data(f"fed_{index}", list(tensor.shape), tensor.dtype)
        for index, tensor in enumerate(tensors)
    ]
    return fed_loss(list(zip(params, fed)))


def fed_loss(pairs: Sequence[tuple[Any, Any]]) -> Any:
    """A loss whose gradient by each of these parameters is what is fed beside it."""
    terms = [_sum(param * fed) for param, fed in pairs]
    if len({str(param.dtype) for param, _ in pairs}) > 1:
        terms = [paddle.cast(term, "float32") for term in terms]
    return terms[0] if len(terms) == 1 else paddle.add_n(terms)


def _sum(value: Any) -> Any:
    if IN_PIR:
        return paddle.sum(value)
    # In this Paddle, paddle.sum takes no legacy variables.
    block = value.block
    out = block.create_var(dtype=value.dtype, shape=[])
    block.append_op(
        type="reduce_sum",
        inputs={"X": [value]},
        outputs={"Out": [out]},
        attrs={"reduce_all": True, "dim": [], "keep_dim": False},
    )
    return out


def persistable_names(program: Any) -> set[str]:
    """Names of everything that a main program keeps from run to run."""
    block = program.global_block()
    if not IN_PIR:
        return {name for name, each in block.vars.items() if each.persistable}
    names = {"builtin.parameter": "parameter_name", "pd_op.data": "name"}
    return {
        op.attrs()[names[op.name()]]
        for op in block.ops
        if op.name() in names and op.result(0).persistable
    }


def random_gradients(tensors: Sequence[Tensor], steps: int, seed: int = 0) -> list[list[Array]]:
    """Gradients for so many steps, of magnitudes that vary from tensor to tensor."""
    random = np.random.default_rng(seed)
    scales = 10.0 ** random.uniform(-2, 1, len(tensors))
    return [
        [
            np.asarray(scale * random.standard_normal(tensor.shape)).astype(tensor.dtype)
            for tensor, scale in zip(tensors, scales)
        ]
        for _ in range(steps)
    ]


def program_text(program: Any) -> str:
    """Everything that a program says of itself."""
    if isinstance(program, paddle.static.Program) and not IN_PIR:
        return str(program.to_string(throw_on_error=False))
    return str(program)
