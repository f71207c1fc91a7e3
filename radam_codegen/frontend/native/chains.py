"""What stands between a gradient and the update: factor of the learning rate, decay, clip."""

from __future__ import annotations

import math
from dataclasses import dataclass, field

from radam_codegen.frontend.native.graph import Block, Flow, Operator
from radam_codegen.frontend.native.norms import GlobalNorms
from radam_codegen.frontend.native.numbers import as_written
from radam_codegen.ir.plan import Clip, ClipKind, Decay, DecayKind

__all__ = ["GradientChain", "RateChain", "read_gradient", "read_rate"]


@dataclass
class RateChain:
    """A learning rate without the factors on the way to one update."""

    rate: Flow
    scale: float = 1.0
    absorbed: list[Operator] = field(default_factory=list)


@dataclass
class GradientChain:
    """A gradient before clip and decay."""

    grad: Flow
    decay: Decay = field(default_factory=Decay)
    clip: Clip = field(default_factory=Clip)
    clip_set: Operator | None = None
    absorbed: list[Operator] = field(default_factory=list)
    notes: list[str] = field(default_factory=list)


def read_rate(block: Block, update: Operator, rate: Flow) -> RateChain:
    """Follow a learning rate to where the parameter's own factor had not been applied.

    A factor that others read too is left for them, and still taken in.
    """
    chain = RateChain(rate)
    while True:
        maker = chain.rate.maker
        if maker is None or maker.kind != "scale":
            return chain
        numbers, source = maker.numbers, maker.one("X")
        factor = numbers["scale"]
        if (
            source is None
            or factor is None
            or numbers["bias"] != 0.0
            or not 0.0 <= factor < math.inf
        ):
            return chain
        if _written(block, source.storage, maker, update):
            return chain
        if not chain.rate.kept and set(chain.rate.readers) <= {update, *chain.absorbed}:
            chain.absorbed.append(maker)
        chain.rate, chain.scale = source, chain.scale * as_written(factor)


def _factor(scale: Operator) -> float | None:
    """What an operator multiplies by, if that is all it does, and the factor makes sense here."""
    factor, bias = scale.numbers["scale"], scale.numbers["bias"]
    return factor if bias == 0.0 and factor is not None and 0.0 <= factor < math.inf else None


def read_gradient(
    block: Block, update: Operator, param: Flow, grad: Flow, norms: GlobalNorms
) -> GradientChain:
    """Follow a gradient back through the decay that was added, and the clip before that."""
    chain = GradientChain(grad)
    if grad.maker is None:
        return chain
    last = _read_decay(block, update, param, chain)
    if not last.made:
        return chain
    _read_clip(block, update, last.reader, chain, norms)
    return chain


@dataclass(frozen=True)
class _Step:
    """Who reads the gradient now, and whether it may be followed on."""

    reader: Operator
    made: bool


def _read_decay(block: Block, update: Operator, param: Flow, chain: GradientChain) -> _Step:
    total = chain.grad.maker
    stay = _Step(update, made=True)
    if total is None or total.kind != "sum" or len(total.inputs.get("X", ())) != 2:
        return stay
    before, term = total.inputs["X"]
    found = _read_term(term, param)
    if found is None:
        return stay
    decay, makers = found
    what = f"the {decay.kind.value.upper()} decay"
    reason = _seen_by_others([total, *makers], {total, *makers, update})
    if not reason and any(_written(block, param.storage, each, update) for each in makers):
        reason = "the parameter is written in between"
    if not reason and _written(block, before.storage, total, update, but={total}):
        reason = "the gradient is written in between"
    if reason:
        chain.notes.append(f"{what} stays an operator of its own: {reason}")
        return _Step(update, made=False)
    chain.grad, chain.decay = before, decay
    chain.absorbed += [total, *makers]
    return _Step(total, made=True)


def _read_term(term: Flow, param: Flow) -> tuple[Decay, list[Operator]] | None:
    """The decay that a term of the gradient is, with what computes it."""
    scale = term.maker
    if scale is None or scale.kind != "scale":
        return None
    source, factor = scale.one("X"), _factor(scale)
    if source is None or factor is None:
        return None
    if source.storage == param.storage:
        return Decay(DecayKind.L2, as_written(factor)), [scale]
    sign = source.maker
    signed = sign.one("X") if sign is not None and sign.kind == "sign" else None
    if sign is not None and signed is not None and signed.storage == param.storage:
        return Decay(DecayKind.L1, as_written(factor)), [scale, sign]
    return None


def _read_clip(
    block: Block, update: Operator, reader: Operator, chain: GradientChain, norms: GlobalNorms
) -> None:
    clip = chain.grad.maker
    source = clip.one("X") if clip is not None else None
    if clip is None or source is None:
        return
    known, clip_set, reason = _clip_of(clip), None, ""
    makers = [clip]
    if known is None:
        found = norms.read(clip)
        if found is None:
            return
        known, clip_set, reason = found.clip, found.factor, found.refused
        makers += [*found.makers, *found.casts]
    what = f"the clip ({known.kind.value})"
    reason = reason or _seen_by_others([clip], {reader})
    if not reason and _written(block, source.storage, clip, update, but={clip, *chain.absorbed}):
        reason = "the gradient is written in between"
    if reason:
        if clip_set is not None:
            norms.refuse(clip_set, reason)
        chain.notes.append(f"{what} stays operators of its own: {reason}")
        return
    chain.grad, chain.clip, chain.clip_set = source, known, clip_set
    chain.absorbed += makers


def _clip_of(op: Operator) -> Clip | None:
    """The clip of one tensor that an operator is."""
    if op.kind == "clip_by_norm":
        bound = as_written(op.numbers["max_norm"])
        return Clip(ClipKind.NORM, bound) if 0.0 < bound < math.inf else None
    if op.kind == "clip":
        lower, upper = op.numbers["min"], op.numbers["max"]
        if lower is None or upper is None or not -math.inf < lower <= upper < math.inf:
            return None
        return Clip(ClipKind.VALUE, as_written(upper), as_written(lower))
    return None


def _seen_by_others(makers: list[Operator], known: set[Operator]) -> str:
    """Why the results of operators are wanted, besides for what is known; empty if they aren't."""
    for op in makers:
        for flow in op.outputs:
            if flow.kept:
                return f"{flow.name!r}: {flow.kept}"
            others = [reader for reader in flow.readers if reader not in known]
            if others:
                return f"{others[0].name} reads its result, too"
    return ""


def _written(
    block: Block, storage: str, first: Operator, last: Operator, but: set[Operator] | None = None
) -> bool:
    """Whether memory is written between two operators, or by the first one."""
    writers = block.writers(storage, first.position - 1, last.position)
    return any(op not in (but or ()) for op in writers)
