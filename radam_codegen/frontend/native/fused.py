"""Reading this package's own steps from programs: what they update, and where the state is.

Both come from the program alone, since whoever built it may be gone: the attribute ``launch`` has
the numbers, the operands have the names.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any

import paddle

from radam_codegen.errors import PlanError, ProgramError
from radam_codegen.ir.launch import LaunchSpec, TensorNumbers
from radam_codegen.ir.plan import TensorClass

__all__ = ["FusedTensor", "FusedUpdate", "MomentPart", "read_fused"]

_STEP = "radam_codegen_step"
#: Operators that gather step counts before a step, and store them after it.
_GATHERING = (
    "assign",
    "assign_out_",
    "assign_value",
    "assign_value_",
    "concat",
    "gather",
    "scatter",
)


@dataclass(frozen=True)
class MomentPart:
    """Where both moments of a parameter are in a scope."""

    moment1: str
    moment2: str
    #: Elements in front of the parameter's; None: the variables are its own.
    offset: int | None


@dataclass(frozen=True)
class FusedTensor:
    """One parameter of a fused step."""

    param: Any
    grad: Any
    name: str
    numbers: TensorNumbers
    tensor_class: TensorClass
    moments: MomentPart
    #: Variable with the step count, and its place in there.
    step: tuple[str, int]

    @property
    def shape(self) -> tuple[int, ...]:
        """Of the parameter."""
        return tuple(int(extent) for extent in self.param.shape)


@dataclass(frozen=True, eq=False)
class FusedUpdate:
    """One operator of this package in a main program."""

    operation: Any
    block: Any
    spec: LaunchSpec
    key: int
    tensors: tuple[FusedTensor, ...]
    learning_rate: Any
    #: Whether a flag, or a coefficient that varies, is read at each step.
    has_flag: bool
    has_coefficient: bool
    #: Operators around it that serve it alone, in their order.
    helpers: tuple[Any, ...]


def read_fused(program: Any) -> tuple[FusedUpdate, ...]:
    """Find every fused step of a program, inside of branches too.

    Args:
        program: of either IR. If it was loaded, the operator was known when that was done.

    Raises:
        ProgramError: an operator of ours is damaged.
    """
    if isinstance(program, paddle.pir.Program):
        found = [
            (op, block)
            for block in _pir_blocks(program.global_block())
            for op in block.ops
            if op.name() == f"custom_op.{_STEP}_"
        ]
        return tuple(_read(_PirStep(op, block)) for op, block in found)
    steps = [(op, block) for block in program.blocks for op in block.ops if op.type == _STEP]
    return tuple(_read(_LegacyStep(op, block)) for op, block in steps)


def _pir_blocks(block: Any) -> Iterator[Any]:
    yield block
    for op in block.ops:
        for inner in op.blocks():
            yield from _pir_blocks(inner)


def _read(step: _PirStep | _LegacyStep) -> FusedUpdate:
    try:
        spec = LaunchSpec.from_text(str(step.attribute("launch")))
    except PlanError as error:
        raise ProgramError(f"the program is damaged: {error}") from error
    params, grads = step.vector("Param"), step.vector("Grad")
    places, helpers = step.counts()
    if not len(spec.tensors) == len(params) == len(grads) == len(places):
        raise ProgramError("the program is damaged: a fused step has too few or too many operands")
    moments = _moments(spec, step.names("Moment1"), step.names("Moment2"))
    tensors = tuple(
        FusedTensor(
            param,
            grad,
            step.name(param),
            numbers,
            spec.structure.classes[numbers.body],
            part,
            place,
        )
        for param, grad, numbers, part, place in zip(params, grads, spec.tensors, moments, places)
    )
    return FusedUpdate(
        operation=step.operation,
        block=step.block,
        spec=spec,
        key=int(step.attribute("key")),
        tensors=tensors,
        learning_rate=step.vector("LearningRate")[0],
        has_flag=bool(step.vector("FoundInf")),
        has_coefficient=bool(step.vector("WeightDecay")),
        helpers=helpers,
    )


def _moments(spec: LaunchSpec, first: list[str], second: list[str]) -> list[MomentPart]:
    if spec.moments is None:
        return [MomentPart(*pair, offset=None) for pair in zip(first, second)]
    return [
        MomentPart(first[place.storage], second[place.storage], place.offset)
        for place in spec.moments.places
    ]


class _PirStep:
    _OPERANDS = (
        *("Param", "Grad", "Moment1", "Moment2", "Step", "LearningRate", "Master", "FoundInf"),
        "WeightDecay",
    )

    def __init__(self, operation: Any, block: Any) -> None:
        self.operation = operation
        self.block = block

    def attribute(self, name: str) -> Any:
        return self.operation.attrs()[name]

    def vector(self, name: str) -> list[Any]:
        value = self.operation.operand_source(self._OPERANDS.index(name))
        if not value.initialized():
            return []
        maker = value.get_defining_op()
        if maker is not None and maker.name() == "builtin.combine":
            return list(maker.operands_source())
        return [value]

    def names(self, name: str) -> list[str]:
        return list(map(self.name, self.vector(name)))

    def name(self, value: Any) -> str:
        return str(value.name)

    def counts(self) -> tuple[list[tuple[str, int]], tuple[Any, ...]]:
        """Where each step count is kept, and the operators that bring it here and back."""
        value = self.vector("Step")[0]
        gather = value.get_defining_op()
        if gather.name() != "pd_op.gather":
            return [(self.name(value), index) for index in range(int(value.shape[0]))], ()
        concat, chosen = (gather.operand_source(place).get_defining_op() for place in (0, 1))
        parts = concat.operand_source(0).get_defining_op().operands_source()
        everywhere = [(self.name(part), index) for part in parts for index in range(part.shape[0])]
        helpers = {op.id(): op for op in (chosen, concat, gather)}
        pending = [self.operation.result(3)]
        while pending:
            for user in pending.pop().all_used_ops():
                if user.name().removeprefix("pd_op.") in _GATHERING:
                    helpers[user.id()] = user
                    pending += user.results()
                    for source in user.operands_source():
                        maker = source.get_defining_op()
                        if maker is not None and maker.name() == "pd_op.assign_value_":
                            helpers[maker.id()] = maker
        ordered = tuple(op for op in self.block.ops if op.id() in helpers)
        return [everywhere[int(place)] for place in chosen.attrs()["values"]], ordered


class _LegacyStep:
    def __init__(self, operation: Any, block: Any) -> None:
        self.operation = operation
        self.block = block

    def attribute(self, name: str) -> Any:
        return self.operation.attr(name)

    def vector(self, name: str) -> list[Any]:
        return [self.block._var_recursive(each) for each in self.names(name)]

    def names(self, name: str) -> list[str]:
        slots = [name, f"{name}@VECTOR", f"{name}@OPTIONAL", f"{name}@VECTOR@OPTIONAL"]
        return [
            each
            for slot in slots
            if slot in self.operation.input_names
            for each in self.operation.input(slot)
        ]

    def name(self, variable: Any) -> str:
        return str(variable.name)

    def counts(self) -> tuple[list[tuple[str, int]], tuple[Any, ...]]:
        """Where each step count is kept, and the operators that bring it here and back."""
        (step,) = self.vector("Step")
        if step.persistable:
            return [(step.name, index) for index in range(int(step.shape[0]))], ()
        place = next(i for i, op in enumerate(self.block.ops) if op is self.operation)
        before, after = self.block.ops[:place], self.block.ops[place + 1 :]
        gather = self._maker(before, step.name)
        concat = self._maker(before, gather.input("X")[0])
        chosen = self._maker(before, gather.input("Index")[0])
        everywhere = [
            (name, index)
            for name in concat.input("X")
            for index in range(int(self.block._var_recursive(name).shape[0]))
        ]
        known, helpers = {step.name}, [concat, chosen, gather]
        for op in after:
            if op.type in _GATHERING and known & set(op.input_arg_names):
                helpers += [self._maker(after, name) for name in self._constants(op)]
                helpers.append(op)
                known |= set(op.output_arg_names)
        ordered = tuple(op for op in self.block.ops if any(op is each for each in helpers))
        return [everywhere[place] for place in _values(chosen)], ordered

    @staticmethod
    def _maker(operators: list[Any], name: str) -> Any:
        return next(op for op in reversed(operators) if name in op.output_arg_names)

    @staticmethod
    def _constants(op: Any) -> list[str]:
        return [
            name for slot in ("Index", "Ids") if slot in op.input_names for name in op.input(slot)
        ]


def _values(op: Any) -> list[int]:
    return [int(each.value()) for each in op.attr("values")]
