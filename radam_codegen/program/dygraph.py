"""One step in dynamic graph: the kernel is called directly on the tensors' memory.

Paddle's own way to call an operator would refuse to update a leaf parameter in place, after having
done so. Here no operator is in between: addresses are read, the kernel runs, and the versions of
what it has updated are bumped, so that autograd notices a stale use.
"""

from __future__ import annotations

import ctypes
import sys
import weakref
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from operator import attrgetter, itemgetter
from typing import Any

import numpy as np
import paddle

from radam_codegen.errors import ArgumentTypeError, UnsupportedError
from radam_codegen.frontend.groups import Groups
from radam_codegen.frontend.read_plan import read_plan
from radam_codegen.ir.dtypes import DType
from radam_codegen.ir.plan import UpdatePlan
from radam_codegen.program import kernels
from radam_codegen.program.dygraph_launch import DygraphState, Launch, forget, prepare_launch
from radam_codegen.program.dygraph_views import StridedParameters

__all__ = ["DygraphStepper"]

# Plain functions, as map() calls them faster than a comprehension calls methods.
_need_clip_of = attrgetter("need_clip")
_regularizer_of = attrgetter("regularizer")
_attributes_of = attrgetter("optimize_attr")
_scale_of = itemgetter("learning_rate")

#: How many sets of parameters are remembered.
_KEPT = 8


@dataclass(frozen=True, eq=False)
class _Prepared:
    """Launches for one set of parameters, and what they rest on besides the tensors."""

    fingerprint: tuple[Any, ...]
    plan: UpdatePlan
    launches: tuple[Launch, ...]
    #: Rounds the learning rate, to the type that programs have it in.
    lr_type: type[ctypes.c_float] | type[ctypes.c_double]
    #: Parameters that are stepped on copies.
    views: StridedParameters


class DygraphStepper:
    """Steps the parameters of one optimizer; what it remembers only saves time.

    It is copied and pickled with its optimizer, without what it remembers.
    """

    def __init__(self) -> None:
        # Several, the last used first: which parameters have gradients may alternate.
        self._prepared: list[_Prepared] = []

    def __getstate__(self) -> dict[str, Any]:
        return {"_prepared": []}

    def step(
        self,
        params: Sequence[Any],
        grads: Sequence[Any],
        groups: Groups,
        state_of: Callable[[Any, bool], DygraphState],
        lr: float,
        *,
        multi_precision: bool = False,
        found_inf: bool | None = None,
    ) -> UpdatePlan:
        """Update parameters by their gradients.

        Args:
            params: what to update, on the CPU, none of it frozen.
            grads: their gradients, of the same shapes.
            groups: the options of each parameter.
            state_of: gives the state of a parameter; told whether it wants a master weight.
            lr: learning rate of this step.
            multi_precision: keep master weights of bfloat16 and float16 parameters.
            found_inf: True skips the step; None when no such flag is in use.

        Returns:
            The plan of what was done.

        Raises:
            ArgumentTypeError: a gradient is no tensor.
            UnsupportedError: a gradient is sparse, has another shape than its parameter, or a type
                has no kernel; or tensors share memory in a way that no order of updates makes good.
            ProgramError: state is from before a parameter was changed.

        Nothing was updated when this raises.
        """
        # Paddle's tracer of bytecode, where it follows a step that a traced function calls, would
        # fail at what it knows nothing of. Where it was never imported, nothing is traced.
        tracer = sys.modules.get("paddle.jit.sot")
        if tracer is not None:
            tracer.psdb.fallback(recursive=True)
        fingerprint = (
            np.fromiter(params, object, len(params)).tobytes(),  # quicker than the id of each
            _attributes(params),
            groups.settings,
            groups.sizes,
            tuple(map(_clip_now, groups.settings.clips)),
            tuple(map(_decay_now, groups.settings.decays)),
            multi_precision,
            found_inf is None,
        )
        prepared = self._find(fingerprint, grads)
        if prepared is None:
            grads = _usable(params, grads)
            # Views can be read once they are copied.
            prepared = self._find(fingerprint, grads)
        if prepared is None:
            prepared = _prepare(
                params, grads, groups, state_of, multi_precision, found_inf is not None, fingerprint
            )
            self._prepared = [prepared, *self._prepared[: _KEPT - 1]]
        if len(prepared.launches) > 1:
            # What the last one would refuse is refused before the first one has run.
            for launch in prepared.launches:
                launch.check()
        rounded_lr = prepared.lr_type(lr).value
        if prepared.views:
            _load_views(prepared, grads)
        for launch in prepared.launches:
            launch.run(rounded_lr, bool(found_inf))
        if not found_inf:
            prepared.views.store()
        return prepared.plan

    def _find(self, fingerprint: tuple[Any, ...], grads: Sequence[Any]) -> _Prepared | None:
        for index, prepared in enumerate(self._prepared):
            if prepared.fingerprint == fingerprint and _read(prepared, grads):
                if index:
                    self._prepared.insert(0, self._prepared.pop(index))
                return prepared
        return None


def _read(prepared: _Prepared, grads: Sequence[Any]) -> bool:
    """Read the tensors of all launches; whether they still are what these were made for."""
    return prepared.views.fit() and all(launch.read(grads) for launch in prepared.launches)


def _load_views(prepared: _Prepared, grads: Sequence[Any]) -> None:
    """Fill the copies that are stepped; refuses views that share elements with something else."""

    def others(begin: int, end: int) -> Iterator[tuple[str, Any]]:
        for launch in prepared.launches:
            yield from launch.tensors.between(begin, end, launch.ordered(grads))

    prepared.views.load(others)


def _attributes(params: Sequence[Any]) -> tuple[Any, ...]:
    """What of the parameters may be changed between steps and shapes the plan."""
    try:
        regularizers = tuple(map(_regularizer_of, params))
        return (
            tuple(map(_need_clip_of, params)),
            regularizers,
            tuple(map(_scale_of, map(_attributes_of, params))),
            any(regularizers) and tuple(map(_decay_now, regularizers)),
        )
    except AttributeError:  # plain tensors, which have no such attributes
        names = ("need_clip", "regularizer", "optimize_attr")
        return tuple(str(getattr(each, name, None)) for each in params for name in names)


def _clip_now(clip: Any) -> tuple[Any, ...]:
    """What of a clip may be changed between steps."""
    return type(clip), *vars(clip).values()


def _decay_now(decay: Any) -> Any:
    """What of a tensor or of a regularizer may be changed between steps."""
    if isinstance(decay, paddle.Tensor):
        return decay.item()
    return type(decay), getattr(decay, "_coeff", None)


def _usable(params: Sequence[Any], grads: Sequence[Any]) -> Sequence[Any]:
    """Gradients as the kernel can read them; refuses what it cannot."""
    for param, grad in zip(params, grads):
        if not isinstance(grad, paddle.Tensor):
            raise ArgumentTypeError(
                f"the gradient of parameter {param.name!r} is of type {type(grad).__name__}; it "
                "must be a paddle.Tensor"
            )
        if grad.is_selected_rows():
            raise UnsupportedError(
                f"the gradient of parameter {param.name!r} is sparse (SelectedRows), which "
                "RAdam does not support; build its Embedding with sparse=False"
            )
    return [
        grad.contiguous() if grad.is_dense() and not grad.is_contiguous() else grad
        for grad in grads
    ]


@paddle.no_grad()  # type: ignore[untyped-decorator]
def _prepare(
    params: Sequence[Any],
    grads: Sequence[Any],
    groups: Groups,
    state_of: Callable[[Any, bool], DygraphState],
    multi_precision: bool,
    skip: bool,
    fingerprint: tuple[Any, ...],
) -> _Prepared:
    for param, grad in zip(params, grads):
        if not param.is_same_shape(grad):
            raise UnsupportedError(
                f"the gradient of parameter {param.name!r} has the shape {list(grad.shape)}, but "
                f"the parameter has {list(param.shape)}"
            )
    plan, planned = read_plan(
        list(zip(params, grads)), groups, multi_precision=multi_precision, skip=skip
    )
    place_of = {id(param): place for place, param in enumerate(params)}
    views = StridedParameters(params)
    launches = tuple(
        prepare_launch(
            group, [place_of[id(param)] for param in group.params], grads, state_of, views
        )
        for group in planned
    )
    # Not NumPy's types, which warn of a rate that overflows.
    lr_type = ctypes.c_double if plan.lr_dtype is DType.FLOAT64 else ctypes.c_float
    prepared = _Prepared(fingerprint, plan, launches, lr_type, views)
    keys = tuple(launch.key for launch in launches)
    weakref.finalize(prepared, forget, kernels.operator(), keys).atexit = False
    return prepared
