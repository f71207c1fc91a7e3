"""Random plans, and arrays to run them on."""

from __future__ import annotations

import string
from typing import Any

import numpy as np
from hypothesis import strategies as st

from radam_codegen.ir.arithmetic import bfloat16_bits
from radam_codegen.ir.dtypes import DType
from radam_codegen.ir.group import slot_dtype
from radam_codegen.ir.interpret import GroupArrays, storage_dtype
from radam_codegen.ir.ops import Slot
from radam_codegen.ir.plan import (
    Clip,
    ClipKind,
    Decay,
    DecayKind,
    GroupPlan,
    TensorPlan,
    UpdatePlan,
)

__all__ = [
    "DTYPES",
    "HOSTILE_NAMES",
    "clips",
    "decays",
    "encode",
    "group_plans",
    "random_arrays",
    "update_plans",
]

Array = np.ndarray[Any, np.dtype[Any]]

#: Every combination of parameter, gradient, moments and master weight that a plan may have.
DTYPES: tuple[tuple[DType, DType, DType, bool], ...] = (
    (DType.FLOAT32, DType.FLOAT32, DType.FLOAT32, False),
    (DType.FLOAT64, DType.FLOAT64, DType.FLOAT64, False),
    (DType.FLOAT64, DType.FLOAT32, DType.FLOAT64, False),
    *(
        (half, grad, DType.FLOAT32, master)
        for half in (DType.BFLOAT16, DType.FLOAT16)
        for grad in (half, DType.FLOAT32)
        for master in (False, True)
    ),
)

#: Names that would break code or text that they are pasted into.
HOSTILE_NAMES = (
    'quote"s',
    "it's",
    "*/ int x; /*",
    "// comment \\",
    "line\nbreak\r\n",
    "{{ 7 * 7 }}{% raw %}",
    "back\\slash\\n",
    "größe_重み_\U0001f600",
    "nul\x00",
    "line\u2028separator",
    "\ud800",
    " ",
    "%s%n{0}$x`y`",
)

_BETAS = (
    st.sampled_from((0.0, 0.5, 0.9, 0.95, 0.99, 0.999, 0.9999, 1 - 1e-8, 1 - 1e-10))
    | st.floats(0.0, 0.9999)
    | st.floats(1.0, 53.0).map(lambda bits: 1.0 - 2.0**-bits)
)


def _number(smallest: float, largest: float) -> st.SearchStrategy[float]:
    """Numbers that are zero or not so small that their squares underflow in float32."""
    return st.floats(smallest, largest).map(lambda x: x if abs(x) >= 1e-6 else 0.0)


def names() -> st.SearchStrategy[str]:
    """Parameter names, plain and hostile."""
    return (
        st.text(string.ascii_lowercase + "_.0123456789", min_size=1, max_size=12)
        | st.sampled_from(HOSTILE_NAMES)
        | st.text(min_size=1, max_size=5)
    )


def decays() -> st.SearchStrategy[Decay]:
    """Every kind of decay."""
    kinds = st.sampled_from((DecayKind.L2, DecayKind.L1, DecayKind.DECOUPLED))
    return st.just(Decay()) | st.builds(Decay, kinds, _number(0.0, 0.5))


@st.composite
def clips(draw: st.DrawFn) -> Clip:
    """Every kind of clip."""
    kind = draw(st.sampled_from(tuple(ClipKind)))
    if kind is ClipKind.NONE:
        return Clip()
    bound = draw(_number(1e-3, 10.0))
    if kind is ClipKind.VALUE:
        return Clip(kind, bound, draw(_number(-10.0, bound)))
    return Clip(kind, bound)


@st.composite
def _tensor_plans(draw: st.DrawFn, name: str, max_numel: int) -> TensorPlan:
    param, grad, moment, master = draw(st.sampled_from(DTYPES))
    shape = draw(
        st.sampled_from(((), (0,), (1,), (3, 0, 2), (7,), (2, 4), (3, 3), (17,)))
        | st.tuples(st.integers(0, max_numel))
    )
    return TensorPlan(
        name=name,
        shape=shape,
        param_dtype=param,
        grad_dtype=grad,
        moment_dtype=moment,
        master=master,
        lr_scale=draw(st.sampled_from((1.0, 0.5, 2.0)) | _number(0.0, 4.0)),
        decay=draw(decays()),
        need_clip=draw(st.booleans()),
    )


@st.composite
def group_plans(draw: st.DrawFn, tensor_names: list[str], max_numel: int = 40) -> GroupPlan:
    """One group with a tensor per name."""
    tensors = tuple(draw(_tensor_plans(name, max_numel)) for name in tensor_names)
    return GroupPlan(
        tensors=tensors,
        beta1=draw(_BETAS),
        beta2=draw(_BETAS),
        epsilon=draw(st.sampled_from((1e-8, 1e-6, 0.0)) | _number(0.0, 1e-2)),
        clip=draw(clips()),
        skip=draw(st.booleans()),
    )


@st.composite
def update_plans(
    draw: st.DrawFn, max_groups: int = 3, max_tensors: int = 4, max_numel: int = 40
) -> UpdatePlan:
    """Valid plans of all structures, with up to ``max_tensors`` tensors per group."""
    sizes = draw(st.lists(st.integers(1, max_tensors), min_size=1, max_size=max_groups))
    total = sum(sizes)
    given = draw(st.lists(names(), min_size=total, max_size=total, unique=True))
    groups = []
    for size in sizes:
        groups.append(draw(group_plans(given[:size], max_numel)))
        given = given[size:]
    return UpdatePlan(tuple(groups))


def encode(values: Array, dtype: DType) -> Array:
    """Round values to what an array of ``dtype`` holds."""
    if dtype is DType.BFLOAT16:
        return bfloat16_bits(values.astype(np.float32)).reshape(values.shape)
    return values.astype(storage_dtype(dtype))


#: Values that arithmetic treats in a way of their own.
_SPECIAL = (0.0, -0.0, 1e-40, -1e-40, 1e-310, 65504.0, 1e30, np.inf, -np.inf, np.nan)


def random_arrays(
    plan: UpdatePlan, seed: int, step: int | None = None, special: bool = False
) -> list[GroupArrays]:
    """Arrays for all tensors of a plan.

    With ``step`` 0 the moments are zero, as before the first step; with another or none they are
    such as training leaves behind. With ``special`` some elements are zeros of both signs,
    subnormal, huge, infinite or not a number.
    """
    random = np.random.default_rng(seed)
    return [_group_arrays(group, random, step, special) for group in plan.groups]


def _group_arrays(
    group: GroupPlan, random: np.random.Generator, step: int | None, special: bool
) -> GroupArrays:
    columns: dict[Slot, list[Any]] = {slot: [] for slot in Slot if not slot.is_temporary}
    scale = 10.0 ** random.integers(-3, 2)
    for tensor in group.tensors:
        param = random.standard_normal(tensor.shape)
        grad = random.standard_normal(tensor.shape) * scale
        moment1 = random.standard_normal(tensor.shape) * scale
        moment2 = (moment1 + random.standard_normal(tensor.shape) * scale) ** 2
        if step == 0:
            moment1, moment2 = np.zeros_like(grad), np.zeros_like(grad)
        if special:
            for values in (param, grad, moment1, moment2):
                _sprinkle(np.asarray(values), random)
        given = {Slot.PARAM: param, Slot.GRAD: grad, Slot.MOMENT1: moment1}
        given.update({Slot.MOMENT2: moment2, Slot.MASTER: param})
        for slot, values in given.items():
            dtype = slot_dtype(tensor.tensor_class, slot)
            kept = slot is not Slot.MASTER or tensor.master
            with np.errstate(over="ignore"):
                columns[slot].append(encode(np.asarray(values), dtype) if kept else None)
    count = len(group.tensors)
    steps = np.full(count, step) if step is not None else _random_steps(count, random)
    return GroupArrays(
        **{slot.value: column for slot, column in columns.items()}, step=steps.astype(np.int64)
    )


def _random_steps(count: int, random: np.random.Generator) -> Array:
    """Small step counts, and some of all magnitudes."""
    large = np.exp2(random.uniform(5, 52, count)).astype(np.int64)
    return np.where(random.random(count) < 0.2, large, random.integers(0, 30, count))


def _sprinkle(values: Array, random: np.random.Generator) -> None:
    chosen = random.random(values.shape) < 0.2
    values[chosen] = random.choice(_SPECIAL, values.shape)[chosen]
