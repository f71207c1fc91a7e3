"""Render a kernel's IR as source text: equal IR gives equal bytes."""

from __future__ import annotations

import hashlib
import math
from functools import cache
from pathlib import Path

import jinja2

from radam_codegen._resources import templates_dir
from radam_codegen._version import __version__
from radam_codegen.codegen.bytecode import TemplateBytecode
from radam_codegen.codegen.context import kernel_context
from radam_codegen.codegen.source import KernelSource
from radam_codegen.codegen.targets import C_TARGET, Target
from radam_codegen.ir.arithmetic import SUM_LANES
from radam_codegen.ir.dtypes import DType
from radam_codegen.ir.group import GroupIR
from radam_codegen.ir.ops import Op
from radam_codegen.ir.printer import print_group

__all__ = ["environment", "render"]


def render(ir: GroupIR, target: Target = C_TARGET) -> KernelSource:
    """Render one kernel.

    Args:
        ir: a kernel whose phases are split.
        target: the language to render.

    Returns:
        The source, which holds neither a time nor a place.
    """
    text = (
        environment()
        .get_template(target.template)
        .render(
            kernel=kernel_context(ir),
            structure=ir.structure,
            target=target,
            version=__version__,
            ir_sha256=_sha256(print_group(ir)),
            templates=_templates(target),
            sum_lanes=SUM_LANES,
            dtypes={dtype.value: dtype for dtype in DType},
        )
    )
    return KernelSource(ir.structure.name, target.language, text, _sha256(text))


def _sha256(text: str) -> str:
    return hashlib.sha256(text.encode()).hexdigest()


@cache
def environment() -> jinja2.Environment:
    """The templates, with what they may use."""
    found = jinja2.Environment(
        loader=jinja2.FileSystemLoader(templates_dir()),
        undefined=jinja2.StrictUndefined,
        trim_blocks=True,
        lstrip_blocks=True,
        keep_trailing_newline=True,
        autoescape=False,  # C, not HTML; no name that a user chose reaches a template
    )
    options = (
        found.trim_blocks,
        found.lstrip_blocks,
        found.keep_trailing_newline,
        found.autoescape,
    )
    found.bytecode_cache = TemplateBytecode(templates_dir(), options)
    found.filters["literal"] = _literal
    return found


@cache
def _templates(target: Target) -> tuple[tuple[str, str], ...]:
    """Name and hash of every template that the target can draw on."""
    root = templates_dir()
    used = [
        path
        for folder in ("shared", Path(target.template).parent.name)
        for path in (root / folder).glob("*.j2")
    ]
    return tuple(
        (path.relative_to(root).as_posix(), _sha256(path.read_text(encoding="utf-8")))
        for path in sorted(used)
    )


def _literal(op: Op) -> str:
    """A constant as C writes it."""
    assert op.result is not None
    if op.result.dtype is DType.BOOL:
        return "true" if op.attr else "false"
    if op.result.dtype is DType.INT64:
        return f"INT64_C({op.attr})"
    assert isinstance(op.attr, (int, float))
    value = float(op.attr)
    if math.isinf(value):
        infinity = "INFINITY" if value > 0 else "-INFINITY"
        return infinity if op.result.dtype is DType.FLOAT32 else f"(double){infinity}"
    return repr(value) + ("f" if op.result.dtype is DType.FLOAT32 else "")
