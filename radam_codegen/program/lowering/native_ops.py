"""Writing native RAdam updates as Paddle's own class writes them, clip and decay in front."""

from __future__ import annotations

from collections.abc import Collection, Iterator, Sequence
from contextlib import contextmanager
from typing import Any

import paddle
from paddle import _C_ops
from paddle.base import framework, unique_name
from paddle.nn import ClipGradByGlobalNorm, ClipGradByNorm, ClipGradByValue
from paddle.regularizer import L1Decay, L2Decay

from radam_codegen.frontend.native.fused import FusedTensor, FusedUpdate, MomentPart
from radam_codegen.frontend.native.update import ACCUMULATORS
from radam_codegen.ir.plan import ClipKind, DecayKind
from radam_codegen.program.variables import ProgramVariables

__all__ = ["NativeWriter", "lowest_names"]

_DECAYS = {DecayKind.L1: L1Decay, DecayKind.L2: L2Decay}


class _Native(paddle.optimizer.RAdam):  # type: ignore[misc]
    """Paddle's class, given the learning rate of each parameter."""

    def __init__(self) -> None:
        super().__init__(learning_rate=0.0)
        self.rate: Any = None
        self.scale = 1.0

    def _create_param_lr(self, param_and_grad: Any) -> Any:
        if self.scale == 1.0:
            return self.rate
        program = paddle.static.default_main_program()
        guard = program._lr_schedule_guard(is_with_opt=True)
        with guard, framework.name_scope("scale_with_param_lr"):
            return self.rate * self.scale


@contextmanager
def lowest_names(prefixes: Collection[str], taken: Collection[str]) -> Iterator[None]:
    """Number new variables from 0 on, past those that there are."""
    generator = unique_name.generator
    before = {prefix: generator.ids[prefix] for prefix in prefixes}
    for prefix in prefixes:
        number = 0
        while f"{generator.prefix}{prefix}_{number}" in taken:
            number += 1
        generator.ids[prefix] = number
    try:
        yield
    finally:
        for prefix, number in before.items():
            generator.ids[prefix] = max(number, generator.ids[prefix])


class NativeWriter:
    """Writes native operators into the current programs.

    Args:
        taken: names of the program's variables.
        read: names of the variables that other operators read, which are not to be overwritten.
    """

    def __init__(self, taken: Collection[str], read: Collection[str]) -> None:
        self._taken = taken
        self._read = read
        self._optimizer = _Native()
        #: Names of variables by kind, for each state that was made.
        self.states: dict[MomentPart, dict[str, str]] = {}

    def write(self, fused: FusedUpdate, block: Any) -> None:
        """Add what does the same as a fused step.

        Args:
            fused: what was found in the program.
            block: the current block.
        """
        numbers = fused.spec.numbers
        optimizer = self._optimizer
        optimizer._beta1, optimizer._beta2 = numbers.beta1, numbers.beta2
        optimizer._epsilon = numbers.epsilon
        grads = self._decayed(fused, self._clipped(fused, block), block)
        for tensor in fused.tensors:
            self._give_state(tensor)
        for tensor, grad in zip(fused.tensors, grads):
            optimizer.rate, optimizer.scale = fused.learning_rate, tensor.numbers.lr_scale
            with _optimizing(tensor.param, grad):
                optimizer._append_optimize_op(block, (tensor.param, grad))

    def _give_state(self, tensor: FusedTensor) -> None:
        """Have Paddle's class know the state of a parameter, made where it is missing."""
        found = self._optimizer._accumulators
        for kind in ACCUMULATORS:
            found[kind].pop(tensor.name, None)
        if tensor.moments in self.states:
            variables = ProgramVariables(paddle.static.default_main_program())
            for kind, name in self.states[tensor.moments].items():
                found[kind][tensor.name] = variables.get(name)
            return
        prefixes = [f"{tensor.name}_{kind}" for kind in ACCUMULATORS]
        with lowest_names(prefixes, self._taken):
            self._optimizer._add_moments_pows(tensor.param)
        self.states[tensor.moments] = {
            kind: str(found[kind][tensor.name].name) for kind in ACCUMULATORS
        }
        self._taken = {*self._taken, *self.states[tensor.moments].values()}

    def _clipped(self, fused: FusedUpdate, block: Any) -> list[Any]:
        kind, numbers = fused.spec.structure.clip, fused.spec.numbers
        pairs = [
            (tensor.param, tensor.grad) for tensor in fused.tensors if tensor.numbers.need_clip
        ]
        if kind is ClipKind.NONE or not pairs:
            return [tensor.grad for tensor in fused.tensors]
        pir, bound = framework.in_pir_mode(), numbers.clip_bound
        if kind is ClipKind.GLOBAL_NORM and not pir:
            clipped = self._clip_by_global_norm(pairs, bound, block)
        elif kind is ClipKind.VALUE and pir:
            clipped = [paddle.clip(grad, numbers.clip_lower, bound) for _, grad in pairs]
        else:
            clips = {
                ClipKind.GLOBAL_NORM: lambda: ClipGradByGlobalNorm(bound),
                ClipKind.NORM: lambda: ClipGradByNorm(bound),
                ClipKind.VALUE: lambda: ClipGradByValue(bound, numbers.clip_lower),
            }
            clipped = [grad for _, grad in clips[kind]()(pairs)]
        found = iter(clipped)
        return [
            next(found) if tensor.numbers.need_clip else tensor.grad for tensor in fused.tensors
        ]

    def _clip_by_global_norm(
        self, pairs: Sequence[tuple[Any, Any]], bound: float, block: Any
    ) -> list[Any]:
        # What Paddle's class would write, if it did not fail in the legacy IR.
        grads = [grad for _, grad in pairs]
        wide = any(grad.dtype == paddle.float64 for grad in grads)
        dtype = grads[0].dtype if not wide else next(g.dtype for g in grads if _is_wide(g))
        squares = []
        for param, grad in pairs:
            with _optimizing(param, grad):
                square = _append(block, "squared_l2_norm", {"X": grad}, grad.dtype, [1])
                if square.dtype != dtype:
                    square = _cast(block, square, dtype)
                squares.append(square)
        with _optimizing(*pairs[-1]):
            total = _append(block, "sum", {"X": squares}, dtype, [1])
            norm = _append(block, "sqrt", {"X": total}, dtype, [1])
            number = {"shape": [1], "value": float(bound), "dtype": dtype}
            largest = _append(block, "fill_constant", {}, dtype, [1], number)
            greater = _append(block, "elementwise_max", {"X": largest, "Y": norm}, dtype, [1])
            factor = _append(block, "elementwise_div", {"X": largest, "Y": greater}, dtype, [1])
        clipped = []
        for param, grad in pairs:
            with _optimizing(param, grad):
                own = factor if grad.dtype == dtype else _cast(block, factor, grad.dtype)
                out = self._in_place(grad, block)
                block.append_op(
                    type="elementwise_mul", inputs={"X": grad, "Y": own}, outputs={"Out": out}
                )
                clipped.append(out)
        return clipped

    def _decayed(self, fused: FusedUpdate, grads: Sequence[Any], block: Any) -> list[Any]:
        return [
            self._with_decay(tensor, grad, block) if tensor.tensor_class.decay in _DECAYS else grad
            for tensor, grad in zip(fused.tensors, grads)
        ]

    def _with_decay(self, tensor: FusedTensor, grad: Any, block: Any) -> Any:
        decay = _DECAYS[tensor.tensor_class.decay](tensor.numbers.decay)
        with _optimizing(tensor.param, grad, "regularization"):
            term = decay(tensor.param, grad, block)
            if framework.in_pir_mode():
                return _C_ops.add_n([grad, term])
            out = self._in_place(grad, block)
            block.append_op(type="sum", inputs={"X": [grad, term]}, outputs={"Out": [out]})
            return out

    def _in_place(self, grad: Any, block: Any) -> Any:
        """A gradient's own variable, as the native class has it, unless others read that."""
        if grad.name not in self._read:
            return grad
        return block.create_var(dtype=grad.dtype, shape=grad.shape)


@contextmanager
def _optimizing(param: Any, grad: Any, scope: str = "optimizer") -> Iterator[None]:
    """Mark legacy operators as an optimizer's; in PIR native ones have no mark."""
    if framework.in_pir_mode():
        yield
        return
    with param.block.program._optimized_guard([param, grad]), framework.name_scope(scope):
        yield


def _append(
    block: Any, kind: str, inputs: Any, dtype: Any, shape: list[int], attrs: Any = None
) -> Any:
    out = block.create_var(dtype=dtype, shape=shape)
    block.append_op(type=kind, inputs=inputs, outputs={"Out": out}, attrs=attrs or {})
    return out


def _cast(block: Any, value: Any, dtype: Any) -> Any:
    attrs = {"in_dtype": value.dtype, "out_dtype": dtype}
    return _append(block, "cast", {"X": value}, dtype, list(value.shape), attrs)


def _is_wide(grad: Any) -> bool:
    return bool(grad.dtype == paddle.float64)
