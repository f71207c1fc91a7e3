"""Writing the two operators into programs, in PIR and in the legacy IR."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from typing import Any

import paddle
from paddle import _C_ops
from paddle.base import core, framework

from radam_codegen.errors import ProgramError
from radam_codegen.program.operator import BUILD_OP, STEP_OP

__all__ = ["emit_build", "emit_step"]

_OPTIMIZE = int(core.op_proto_and_checker_maker.OpRole.Optimize)


def emit_build(startup_program: Any, step: Any, key: int, launch: str) -> Any:
    """Append the operator that has a group's kernel built when the startup program runs.

    Args:
        startup_program: The program to append to; it must already initialize ``step``.
        step: The group's step counts: the variable, of either program, or its name; or as many
            numbers of the startup program.
        key: The group's key, int64.
        launch: Text from which the group can be made.

    Returns:
        The operator: ``paddle.pir.Operation``, or ``framework.Operator`` in the legacy IR.

    Raises:
        ProgramError: The startup program does not initialize ``step``.
    """
    if isinstance(step, paddle.pir.Value) and step.block == startup_program.global_block():
        with _appending_to(startup_program):
            return _operation(_C_ops._run_custom_op(BUILD_OP, step, key, launch))
    name = step if isinstance(step, str) else step.name
    if not _is_pir(startup_program):
        block = startup_program.global_block()
        if not block.has_var(name):
            raise _not_initialized(name)
        return block.append_op(
            type=BUILD_OP,
            inputs={"Step": [name]},
            outputs={"StepOut": [name]},
            attrs={"key": key, "launch": launch},
        )
    value = _initial_value(startup_program, name)
    with _appending_to(startup_program):
        return _operation(_C_ops._run_custom_op(BUILD_OP, value, key, launch))


def emit_step(
    main_program: Any,
    params: Sequence[Any],
    grads: Sequence[Any],
    moment1s: Sequence[Any],
    moment2s: Sequence[Any],
    step: Any,
    lr: Any,
    *,
    master: Sequence[Any] | None = None,
    found_inf: Any | None = None,
    weight_decay: Any | None = None,
    key: int,
    launch: str,
) -> Any:
    """Append the operator that does one fused step over a group.

    It carries the role Optimize; in the legacy IR also ``op_role_var``, the parameters and
    gradients in turn. It is appended where operators of ``main_program`` are being added, which is
    inside a branch when the caller is building one.

    Args:
        main_program: The program to append to.
        params: The group's parameters, at least one. Like all state, they are updated in place.
        grads: Their gradients.
        moment1s: First moments, of the parameters' shapes.
        moment2s: Second moments, of the parameters' shapes.
        step: Step counts: int64, shape [number of parameters].
        lr: Learning rate: one element, float32, float64, bfloat16 or float16.
        master: Master weights, float32, one per parameter that has one; None: none has.
        found_inf: One bool that makes kernels with a skip flag leave everything as it is.
        weight_decay: Coefficient for those tensors whose decay is read at run time: one element,
            of the learning rate's types. None: there are no such tensors.
        key: The group's key, int64.
        launch: Text from which the group can be made, when the startup program has not run.

    Returns:
        The operator: ``paddle.pir.Operation``, or ``framework.Operator`` in the legacy IR.
    """
    if not _is_pir(main_program):
        return _append_legacy_step(
            main_program,
            params,
            grads,
            moment1s,
            moment2s,
            step,
            lr,
            master=master,
            found_inf=found_inf,
            weight_decay=weight_decay,
            key=key,
            launch=launch,
        )
    with _appending_to(main_program), framework.pir_op_role_guard(_OPTIMIZE):
        results = _C_ops._run_custom_op(
            STEP_OP,
            list(params),
            list(grads),
            list(moment1s),
            list(moment2s),
            step,
            lr,
            None if master is None else list(master),
            found_inf,
            weight_decay,
            key,
            launch,
        )
    operation = _operation(results)
    _drop_unused_splits(results)
    return operation


def _append_legacy_step(
    main_program: Any,
    params: Sequence[Any],
    grads: Sequence[Any],
    moment1s: Sequence[Any],
    moment2s: Sequence[Any],
    step: Any,
    lr: Any,
    *,
    master: Sequence[Any] | None,
    found_inf: Any | None,
    weight_decay: Any | None,
    key: int,
    launch: str,
) -> Any:
    inputs = {
        "Param@VECTOR": list(params),
        "Grad@VECTOR": list(grads),
        "Moment1@VECTOR": list(moment1s),
        "Moment2@VECTOR": list(moment2s),
        "Step": [step],
        "LearningRate": [lr],
    }
    outputs = {
        "ParamOut@VECTOR": list(params),
        "Moment1Out@VECTOR": list(moment1s),
        "Moment2Out@VECTOR": list(moment2s),
        "StepOut": [step],
    }
    if master is not None:
        inputs["Master@VECTOR@OPTIONAL"] = list(master)
        outputs["MasterOut@VECTOR@OPTIONAL"] = list(master)
    if found_inf is not None:
        inputs["FoundInf@OPTIONAL"] = [found_inf]
    if weight_decay is not None:
        inputs["WeightDecay@OPTIONAL"] = [weight_decay]
    pairs = [each for pair in zip(params, grads) for each in pair]
    with main_program._optimized_guard(pairs):
        return main_program.current_block().append_op(
            type=STEP_OP, inputs=inputs, outputs=outputs, attrs={"key": key, "launch": launch}
        )


def _is_pir(program: Any) -> bool:
    return not isinstance(program, framework.Program)


@contextmanager
def _appending_to(program: Any) -> Iterator[None]:
    """Append to a PIR program, leaving the place alone if it is being built at the moment."""
    if paddle.static.default_main_program() is program:
        yield
        return
    with paddle.static.program_guard(program):
        yield


def _operation(results: Any) -> Any:
    """The custom operator that the results come from, directly or through ``builtin.split``."""
    first = next(each for each in _flat(results) if each is not None)
    operation = first.get_defining_op()
    if operation.name() == "builtin.split":
        operation = operation.operand_source(0).get_defining_op()
    return operation


def _drop_unused_splits(results: Any) -> None:
    # Paddle takes every Vec result apart. All of ours are written in place, so nobody reads the
    # parts, and the Executor pays for each in every run: it prints the program for its cache key.
    splits = {}
    for each in _flat(results):
        if each is not None:
            operation = each.get_defining_op()
            if operation.name() == "builtin.split":
                splits[operation.id()] = operation
    for operation in splits.values():
        if all(result.use_empty() for result in operation.results()):
            operation.get_parent_block().remove_op(operation)


def _flat(results: Any) -> Iterator[Any]:
    if isinstance(results, (list, tuple)):
        for each in results:
            yield from _flat(each)
    else:
        yield results


def _initial_value(startup_program: Any, name: str) -> Any:
    """The value that a PIR startup program writes into a variable."""
    names = {"builtin.shadow_output": "output_name", "builtin.set_parameter": "parameter_name"}
    for operation in reversed(startup_program.global_block().ops):
        attribute = names.get(operation.name())
        if attribute is not None and operation.attrs()[attribute] == name:
            return operation.operand_source(0)
    raise _not_initialized(name)


def _not_initialized(name: str) -> ProgramError:
    return ProgramError(
        f"The startup program does not initialize {name!r}, the step counts of a parameter group. "
        "Give the startup program that the optimizer's state was created in."
    )
