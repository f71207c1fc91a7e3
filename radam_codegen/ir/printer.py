"""Plans and IR as text that a person can follow.

Equal input gives equal text. Names of parameters come from outside and are written as JSON strings
in ASCII, so that none can break a line.
"""

from __future__ import annotations

import json
from collections.abc import Sequence

from radam_codegen.ir.dtypes import Rate
from radam_codegen.ir.group import Body, GroupIR, Module
from radam_codegen.ir.ops import Op, OpKind
from radam_codegen.ir.plan import (
    Clip,
    ClipKind,
    DecayKind,
    GroupPlan,
    TensorClass,
    TensorPlan,
    UpdatePlan,
)

__all__ = ["format_op", "print_body", "print_group", "print_module", "print_plan", "quote"]

#: Comments start at the longest operation's end, but not farther to the right than this.
_COMMENT_COLUMN = 72


def quote(name: str) -> str:
    """Return ``name`` as a JSON string of ASCII characters, on one line."""
    return json.dumps(name)


def format_op(op: Op) -> str:
    """Return one operation on one line, without its comment.

    For example ``%moment1_out: float32 element = fma(%beta1, %moment1, %grad_scaled)``.
    """
    operands = ", ".join(f"%{name}" for name in op.operands)
    if op.kind is OpKind.STORE:
        text = f"store {op.attr}, {operands}"
    elif op.kind is OpKind.STORE_STEP:
        text = f"store_step {operands}"
    elif op.attr is not None:
        attr = op.attr if isinstance(op.attr, str) else repr(op.attr).lower()
        text = f"{op.kind} {attr}" + (f", {operands}" if operands else "")
    else:
        text = f"{op.kind}({operands})" if operands else str(op.kind)
    if op.result is None:
        return text
    rate = Rate(op.result.rate).name.lower()
    return f"%{op.result.name}: {op.result.dtype} {rate} = {text}"


def print_body(body: Body) -> str:
    """Return the operations of a body, phase by phase; a phase without any is left out."""
    lines = [f"body {body.tensor_class.name}  // {_describe_class(body.tensor_class)}"]
    for phase, ops in (("reduce", body.reduce), ("scalar", body.scalar), ("each", body.each)):
        if ops:
            lines.append(f"  {phase}:")
            lines.extend(f"    {line}" for line in _op_lines(ops))
    return "\n".join(lines) + "\n"


def print_group(ir: GroupIR) -> str:
    """Return the IR of one kernel: a header, then its bodies."""
    structure = ir.structure
    lines = [
        f"kernel {structure.name}",
        f"  clip: {structure.clip}",
        f"  skip by found_inf: {_yes_no(structure.skip)}",
        f"  phases split: {_yes_no(ir.split)}",
    ]
    for body in ir.bodies:
        lines.append("")
        lines.extend(f"  {line}".rstrip() for line in print_body(body).splitlines())
    return "\n".join(lines) + "\n"


def print_module(module: Module) -> str:
    """Return which group of the plan runs which kernel, and the kernels' IR."""
    parts = [print_plan(module.plan)]
    lines = [
        f"group {group} runs kernel {kernel}: {module.kernels[kernel].structure.name}"
        for group, kernel in enumerate(module.kernel_of)
    ]
    parts.append("".join(f"{line}\n" for line in lines))
    parts.extend(print_group(kernel) for kernel in module.kernels)
    return "\n".join(parts)


def print_plan(plan: UpdatePlan) -> str:
    """Return a plan's groups with their numbers and a table of their tensors, none left out."""
    parts = [f"plan: {_count(len(plan.groups), 'group')}, state layout {plan.layout}\n"]
    parts.extend(_group_text(index, group) for index, group in enumerate(plan.groups))
    return "\n".join(parts)


def _group_text(index: int, group: GroupPlan) -> str:
    numel = sum(tensor.numel for tensor in group.tensors)
    lines = [
        f"group {index}: {_count(len(group.tensors), 'tensor')}, {_count(numel, 'element')}",
        f"  kernel:  {group.structure.name}",
        f"  beta1:   {group.beta1!r}",
        f"  beta2:   {group.beta2!r}",
        f"  epsilon: {group.epsilon!r}",
        f"  clip:    {_describe_clip(group.clip)}",
        f"  skip by found_inf: {_yes_no(group.skip)}",
    ]
    head = ("shape", "param", "grad", "moments", "master", "lr_scale", "decay", "clipped", "name")
    rows = [head, *(_tensor_row(tensor) for tensor in group.tensors)]
    lines.extend(f"  {line}" for line in _table(rows))
    return "\n".join(lines) + "\n"


def _tensor_row(tensor: TensorPlan) -> tuple[str, ...]:
    decay = "-"
    if tensor.decay.kind is not DecayKind.NONE:
        coefficient = "at run time" if tensor.decay.at_run_time else repr(tensor.decay.coefficient)
        decay = f"{tensor.decay.kind} {coefficient}"
    return (
        "x".join(str(extent) for extent in tensor.shape) or "scalar",
        str(tensor.param_dtype),
        str(tensor.grad_dtype),
        str(tensor.moment_dtype),
        "float32" if tensor.master else "-",
        repr(tensor.lr_scale),
        decay,
        _yes_no(tensor.need_clip),
        quote(tensor.name),
    )


def _table(rows: Sequence[tuple[str, ...]]) -> list[str]:
    widths = [max(len(cell) for cell in column) for column in zip(*rows)]
    return [
        "  ".join(cell.ljust(width) for cell, width in zip(row, widths)).rstrip() for row in rows
    ]


def _op_lines(ops: Sequence[Op]) -> list[str]:
    texts = [format_op(op) for op in ops]
    commented = [len(text) for text, op in zip(texts, ops) if op.comment]
    column = min(max(commented, default=0), _COMMENT_COLUMN)
    return [
        f"{text.ljust(column)}  // {op.comment}" if op.comment else text
        for text, op in zip(texts, ops)
    ]


def _describe_class(tensor_class: TensorClass) -> str:
    parts = [
        f"param {tensor_class.param_dtype}",
        f"grad {tensor_class.grad_dtype}",
        f"moments {tensor_class.moment_dtype}",
    ]
    if tensor_class.master:
        parts.append("master float32")
    parts.append(f"decay {tensor_class.decay}")
    return ", ".join(parts)


def _describe_clip(clip: Clip) -> str:
    if clip.kind is ClipKind.NONE:
        return "none"
    if clip.kind is ClipKind.VALUE:
        return f"value to [{clip.lower!r}, {clip.bound!r}]"
    return f"{clip.kind} to {clip.bound!r}"


def _count(number: int, noun: str) -> str:
    return f"{number} {noun}" if number == 1 else f"{number} {noun}s"


def _yes_no(flag: bool) -> str:
    return "yes" if flag else "no"
