"""A PIR program with a bit of everything, and the ways in which Paddle lets one change it."""

from __future__ import annotations

import inspect
from collections.abc import Callable
from typing import Any

import paddle
import paddle.distributed
from paddle.base.libpaddle import pir

import radam_codegen

__all__ = ["CHANGES", "READERS", "build", "names_of"]

#: What the classes of PIR define in C++ and only looks at a program, does not work on programs, or
#: changes nothing that the text shows.
READERS = {
    paddle.pir.Program: """
        _list_named_vars _seed _state_dict _sync_with_cpp clone get_all_parameter_values
        get_output_value_by_name get_parameter_value_by_name get_value_by_op_id global_block
        global_seed list_vars num_ops parameters_num random_seed set_parameters_from set_state_dict
    """,
    paddle.pir.Block: """
        _sync_with_cpp all_parameters args back empty front get_values_by_op_idx kwargs num_ops
    """,
    paddle.pir.Operation: """
        as_if_op as_pylayer_op as_tuple_pop_op as_while_op attrs blocks callstack clone
        get_attr_names get_input_grad_semantics get_input_names get_output_intermediate_status
        get_output_names get_parent_block has_attr id int_attr is_no_need_buffer name num_operands
        num_regions num_results operand operand_source operands operands_source result results
        str_attr
    """,
    paddle.pir.Value: """
        _clone _has_only_one_name _local_shape _rename all_used_ops all_used_ops_in_same_block apply
        dense_dim detach do_model_average dtype element_size first_use get_defining_op has_one_use
        hash index initialized is_coalesced is_combine is_dense_tensor_array_type
        is_dense_tensor_type is_dist is_dist_dense_tensor_type is_same is_selected_row_type
        is_sparse_coo_tensor_type is_sparse_csr_tensor_type optimize_attr place_attr regularizer
        replace_grad_users_with shape sparse_dim stride type use_empty value_assign
    """,
    paddle.pir.OpOperand: "index owner source",
}


def build() -> Any:
    """A program with parameters, branches, a loop and our operator."""
    main, startup = paddle.static.Program(), paddle.static.Program()
    with paddle.static.program_guard(main, startup), paddle.utils.unique_name.guard():
        x = paddle.static.data("x", [4, 4])
        hidden = paddle.nn.Linear(4, 4)(x)
        hidden = paddle.static.nn.cond(
            paddle.mean(x) > 0, lambda: paddle.tanh(hidden) + 1, lambda: hidden * 2
        )
        first = [paddle.full([1], 0, "int64"), x + 1]
        _, looped = paddle.static.nn.while_loop(
            lambda i, value: i < 3, lambda i, value: [i + 1, value * 0.5], first
        )
        dropped = paddle.nn.functional.dropout(hidden, 0.5)
        radam_codegen.RAdam(0.1).minimize(paddle.mean(dropped) + paddle.mean(looped))
        paddle.full([3], 1.0)
        paddle.full([5], 1.0)
    it = _Program(main)
    it.op("cf.stack_create").set_str_attr("note", "red")
    it.block.add_kwarg("key", it.added.type())
    return main


def names_of(kind: type) -> set[str]:
    """Names of methods and of settable properties that a class of PIR defines in C++."""
    names = set()
    for name in dir(kind):
        found = inspect.getattr_static(kind, name)
        settable = isinstance(found, property) and found.fset is not None
        if not name.startswith(("__", "_pybind11")) and (
            type(found).__name__ == "instancemethod" or settable
        ):
            names.add(name)
    return names


class _Program:
    """A program, for short changes."""

    def __init__(self, program: Any) -> None:
        self.program = program
        self.block = program.global_block()

    def op(self, name: str, index: int = 0) -> Any:
        return [op for op in self.block.ops if op.name() == name][index]

    def value(self, name: str, index: int = 0) -> Any:
        return self.op(name, index).result(0)

    def inner(self, name: str, index: int = 0) -> Any:
        return list(self.op(name).blocks())[index]

    @property
    def matmul(self) -> Any:
        return self.op("pd_op.matmul")

    @property
    def parameter(self) -> Any:
        return self.value("builtin.parameter")

    @property
    def added(self) -> Any:
        return self.value("pd_op.add")

    @property
    def fed(self) -> Any:
        return self.value("pd_op.data", -1)

    @property
    def unused(self) -> Any:
        return self.op("pd_op.full", -2)


def _rename_attribute(it: _Program) -> None:
    # It has no other one, which would come before or behind it now.
    it.op("cf.stack_create").erase_attr("note")
    it.op("cf.stack_create").set_str_attr("nose", "red")


def _equal_op_instead(it: _Program) -> None:
    # Freed memory is what the next operator of this size is given.
    it.unused.erase()
    with paddle.static.program_guard(it.program):
        paddle.full([3], 2.0)


def _add_inside(it: _Program) -> None:
    block = it.inner("pd_op.if")
    with paddle.static.program_guard(it.program):
        paddle.pir.set_insertion_point(block.ops[0])
        paddle.full([1], 7.0)


def _add(it: _Program) -> None:
    with paddle.static.program_guard(it.program):
        paddle.full([1], 7.0)


def _copy_in(it: _Program) -> None:
    other = paddle.static.Program()
    with paddle.static.program_guard(other):
        paddle.full([2], 1.0)
    other.copy_to_block(paddle.pir.IrMapping(), it.block)


def _refresh(it: _Program) -> None:
    for index in range(2):
        it.value("builtin.parameter", index).stop_gradient = True
    it.block.refresh_stopgradient()


def _put(name: str, value: Any) -> Callable[[Any], None]:
    return lambda target: setattr(target, name, value)


def _mesh() -> Any:
    return paddle.distributed.ProcessMesh([0], dim_names=["x"])


def _spread() -> Any:
    return pir.create_tensor_dist_attribute(_mesh(), [-1, -1], {})


def _pass(name: str) -> Callable[[_Program], None]:
    def run(it: _Program) -> None:
        manager = paddle.pir.PassManager()
        manager.add_pass(name, {})
        manager.run(it.program)

    return run


#: By what changes (``Class.member``, or a description), how. Every one shows in the text.
_CHANGES: dict[str, Callable[[_Program], Any]] = {
    "Operation.set_bool_attr": lambda it: it.matmul.set_bool_attr("transpose_x", True),
    "Operation.set_int_attr": lambda it: it.op("pd_op.dropout").set_int_attr("seed", 3),
    "Operation.set_int_array_attr": lambda it: it.unused.set_int_array_attr("shape", [2]),
    "Operation.set_str_attr": lambda it: it.op("pd_op.dropout").set_str_attr("mode", "no"),
    "Operation.set_str_array_attr": lambda it: it.matmul.set_str_array_attr("new", ["a"]),
    "Operation.erase_attr": lambda it: it.matmul.erase_attr("struct_name"),
    "an attribute with another name": _rename_attribute,
    "Operation.copy_attrs_from": lambda it: it.matmul.copy_attrs_from(it.unused),
    "Operation.op_role": lambda it: _put("op_role", 1)(it.matmul),
    "Operation.chunk_id": lambda it: _put("chunk_id", 1)(it.matmul),
    "Operation.set_execution_stream": lambda it: it.matmul.set_execution_stream("s"),
    "Operation.set_scheduling_priority": lambda it: it.matmul.set_scheduling_priority(3),
    "Operation.dist_attr": lambda it: _put(
        "dist_attr", pir.create_op_dist_attribute(_mesh(), [], [])
    )(it.matmul),
    "Operation.move_before": lambda it: it.unused.move_before(it.matmul),
    "Operation.erase": lambda it: it.unused.erase(),
    "Operation.replace_all_uses_with": lambda it: it.matmul.replace_all_uses_with([it.fed]),
    "an equal operator in place of another": _equal_op_instead,
    "Value.set_type": lambda it: it.added.set_type(it.unused.result(0).type()),
    "Value.name": lambda it: _put("name", "another")(it.parameter),
    "Value.persistable": lambda it: _put("persistable", True)(it.added),
    "Value.stop_gradient": lambda it: _put("stop_gradient", True)(it.added),
    "Value.trainable": lambda it: _put("trainable", False)(it.parameter),
    "Value.need_clip": lambda it: _put("need_clip", False)(it.parameter),
    "Value.is_distributed": lambda it: _put("is_distributed", True)(it.parameter),
    "Value.is_parameter": lambda it: _put("is_parameter", False)(it.parameter),
    "Value.requires_grad": lambda it: _put("requires_grad", False)(it.parameter),
    "Value.update_dist_attr": lambda it: it.added.update_dist_attr(_spread()),
    "a type on devices": lambda it: it.added.set_type(
        pir.cvt_to_dist_type(it.added.type(), _spread())
    ),
    "Value.replace_all_uses_with": lambda it: it.matmul.result(0).replace_all_uses_with(it.fed),
    "OpOperand.set_source": lambda it: it.op("pd_op.add").operand(0).set_source(it.fed),
    "an operand that was not there": lambda it: (
        it.op("pd_op.dropout").operand(1).set_source(it.value("pd_op.full"))
    ),
    "Block.move_op": lambda it: it.block.move_op(it.unused, 0),
    "Block.move_op_to_block_end": lambda it: it.block.move_op_to_block_end(it.unused),
    "Block.remove_op": lambda it: it.block.remove_op(it.unused),
    "Block.refresh_stopgradient": _refresh,
    "Block.add_arg": lambda it: it.inner("pd_op.while").add_arg(it.added.type()),
    "Block.add_kwarg": lambda it: it.block.add_kwarg("other", it.added.type()),
    "Block.erase_kwarg": lambda it: it.block.erase_kwarg("key"),
    "an argument's attribute": lambda it: _put("stop_gradient", False)(
        it.inner("pd_op.while").args()[0]
    ),
    "an argument's type": lambda it: it.inner("pd_op.while").args()[0].set_type(it.added.type()),
    "an attribute inside a branch": lambda it: (
        it.inner("pd_op.if", 1).ops[1].set_bool_attr("bias_after_scale", False)
    ),
    "an operand inside a loop": lambda it: (
        it.inner("pd_op.while").ops[1].operand(0).set_source(it.inner("pd_op.while").args()[1])
    ),
    "a new operator inside a branch": _add_inside,
    "a new operator": _add,
    "Program.set_is_test_attr": lambda it: it.program.set_is_test_attr(),
    "Program._prune": lambda it: it.program._prune([it.value("pd_op.mean", 1)]),
    "Program._prune_with_input": lambda it: it.program._prune_with_input(
        [it.added], [it.value("pd_op.mean", 1)]
    ),
    "Program.copy_to_block": _copy_in,
    "a pass": _pass("dead_code_elimination_pass"),
    "another pass": _pass("common_subexpression_elimination_pass"),
    "append_shadow_output": lambda it: pir.append_shadow_output(
        it.program, it.added, "shown", len(it.block.ops)
    ),
}

CHANGES: dict[str, Callable[[Any], Any]] = {
    name: lambda program, change=change: change(_Program(program))
    for name, change in _CHANGES.items()
}
