"""Paddle's own RAdam in the place of ours: ``target="native"``, or mode ``off``.

What native RAdam does not do is refused, naming who asked for it. Some of that it would refuse by
itself, in words of its own; some it would leave out without a word, and some ends the process.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any

import paddle
from paddle.base import framework

from radam_codegen.config import Config
from radam_codegen.errors import (
    CheckpointError,
    ProgramError,
    RadamCodegenError,
    UnsupportedError,
)
from radam_codegen.frontend.arguments import is_variable
from radam_codegen.frontend.groups import GroupOptions
from radam_codegen.frontend.read_plan import is_sparse

__all__ = ["NativeRules", "native_rules"]

#: As PIR and dynamic graph, and as the legacy IR, write them.
_DTYPES = ("float32", "float64", "fp32", "fp64")


@dataclass(frozen=True)
class NativeRules:
    """What an optimizer that uses native operators refuses.

    Attributes:
        asked_by: Who wants native operators, as the user wrote it.
        way_out: What to change to get generated kernels.
    """

    asked_by: str
    way_out: str

    def check_arguments(
        self, options_of: Sequence[GroupOptions], *, multi_precision: bool, grouped: bool
    ) -> None:
        """Refuse arguments of the optimizer.

        Args:
            options_of: The options of each group.
            multi_precision: Whether it shall keep master weights.
            grouped: Whether its parameters are in groups.

        Raises:
            UnsupportedError: Native RAdam cannot do something of it.
        """
        if multi_precision:
            raise self._refusal("multi_precision=True")
        if any(options.decoupled for options in options_of):
            raise self._refusal("decoupled_weight_decay=True")
        if any(_is_tensor(options) for options in options_of):
            raise self._refusal("a weight_decay that is a tensor or a variable")
        if grouped and not framework.in_dygraph_mode():
            raise self._refusal("a parameter group in static mode")

    def check_gradients(self, params_grads: Any) -> None:
        """Refuse what would end the process, or fail only when a program runs.

        Args:
            params_grads: Pairs of parameter and gradient, or a group of such.

        Raises:
            UnsupportedError: A gradient is sparse, or native RAdam has no kernel for a parameter.
        """
        if isinstance(params_grads, Mapping):
            params_grads = params_grads.get("params", ())
        for param, grad in params_grads:
            if grad is None:
                continue
            if is_sparse(grad):
                raise UnsupportedError(
                    f"the gradient of parameter {param.name!r} is sparse (SelectedRows), which "
                    "RAdam does not support; build its Embedding with sparse=False"
                )
            if str(param.dtype).rsplit(".", 1)[-1].lower() not in _DTYPES:
                raise self._refusal(f"parameter {param.name!r} of type {param.dtype}")
            if 0 in param.shape and not framework.in_dygraph_mode():
                raise self._refusal(f"parameter {param.name!r}, which has no elements,")

    def check_checkpoint(self, checkpoint: Any) -> None:
        """Refuse a state dict of generated kernels.

        Raises:
            CheckpointError: It is one.
            UnsupportedError: The optimizer is in a static program.
        """
        if not framework.in_dygraph_mode():
            raise self._refusal("set_state_dict() in static mode; call that of the program; it")
        if isinstance(checkpoint, Mapping):
            ours = [key for key in checkpoint if str(key).endswith("_step_0")]
            if ours:
                raise CheckpointError(
                    f"the checkpoint is one of generated kernels (it has {ours[0]!r}), but "
                    f"{self.asked_by} wants Paddle's own RAdam; save native_state_dict(), or "
                    f"{self.way_out}"
                )

    @contextmanager
    def explained(self) -> Iterator[None]:
        """Say of what Paddle raises that it is Paddle's, and why Paddle's operators were used."""
        try:
            yield
        except RadamCodegenError:
            raise
        except Exception as error:
            raise UnsupportedError(
                f"Paddle's own RAdam, which {self.asked_by} wants, failed with "
                f"{type(error).__name__}: {error}\nIf it cannot do this, {self.way_out}."
            ) from error

    def no_plan(self) -> ProgramError:
        """The error of asking for a plan."""
        return ProgramError(
            f"there is no plan, as {self.asked_by} wants Paddle's own operators; {self.way_out}"
        )

    def _refusal(self, what: str) -> UnsupportedError:
        return UnsupportedError(
            f"{what} is more than Paddle's own RAdam can do, which {self.asked_by} wants; do "
            f"without it, or {self.way_out}"
        )


def native_rules(target: str, settings: Config) -> NativeRules | None:
    """Return the rules where native operators are wanted, None for generated kernels.

    Mode ``off`` comes before any target: it is there to rule this package out as a cause.
    """
    if settings.mode == "off":
        if settings.origins.get("mode") == "environment":
            return NativeRules("RADAM_CODEGEN_MODE=off", "unset RADAM_CODEGEN_MODE")
        return NativeRules("radam_codegen.config(mode='off')", "call config(mode=None)")
    if target == "native":
        return NativeRules("target='native'", "leave the target out")
    return None


def _is_tensor(options: GroupOptions) -> bool:
    decay = options.weight_decay
    return isinstance(decay, paddle.Tensor) or is_variable(decay)
