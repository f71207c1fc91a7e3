"""Variables of programs that hold state: 0 when the startup program has run."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import paddle
from paddle.base import framework, unique_name
from paddle.base.layer_helper import LayerHelper

__all__ = ["create_zeros"]


def create_zeros(prefix: str, shape: Sequence[int], dtype: str) -> Any:
    """Add state to the current main program, and its initialization to the current startup program.

    Args:
        prefix: what its name begins with; a number follows.
        shape: its shape.
        dtype: name of its type.

    Returns:
        The variable (legacy) or value (PIR), persistable.
    """
    name = unique_name.generate(prefix)
    initializer = paddle.nn.initializer.Constant(value=0.0)
    if framework.in_pir_mode():
        return paddle.pir.core.create_persistable_value(
            getattr(paddle, dtype), list(shape), name, initializer=initializer
        )
    variable = LayerHelper("radam_codegen").create_global_variable(
        name=name, persistable=True, dtype=dtype, shape=list(shape), belong_to_optimizer=True
    )
    variable.stop_gradient = True
    LayerHelper("radam_codegen").set_variable_initializer(variable, initializer=initializer)
    return variable
