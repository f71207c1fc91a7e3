"""RAdam's meaning, written once: every step of the documented formula as one operation.

The update of a tensor is a sequence of stages, as Paddle runs it: clip the gradient, add the decay
term, update the moments and the parameter. Each stage stores its result and the next one loads it,
and everything is computed in the type of the moments. The passes make one fused loop of that.

Source of the formula: Liu et al., "On the Variance of the Adaptive Learning Rate and Beyond"
(https://arxiv.org/abs/1908.03265), algorithm 2, with the threshold (``rho_t > 5``), the update
below it, and the place of ``epsilon`` as ``paddle.optimizer.RAdam`` documents them.
"""

from __future__ import annotations

from radam_codegen.ir.builder import BodyBuilder
from radam_codegen.ir.dtypes import DType
from radam_codegen.ir.group import Body, GroupIR, Module
from radam_codegen.ir.ops import OpKind, Slot
from radam_codegen.ir.plan import ClipKind, DecayKind, KernelStructure, TensorClass, UpdatePlan

__all__ = ["build_group", "build_module"]

#: Kinds of decay that leave the gradient alone.
_NOT_IN_THE_GRADIENT = (DecayKind.NONE, DecayKind.DECOUPLED)

#: What a stage calls the gradient that it loads.
_GRADIENT_NAMES = {
    Slot.GRAD: "grad",
    Slot.CLIPPED_GRAD: "grad_after_clip",
    Slot.DECAYED_GRAD: "grad_after_decay",
}


def build_module(plan: UpdatePlan) -> Module:
    """Build the unfused kernels of a plan, one per group."""
    kernels = tuple(build_group(group.structure) for group in plan.groups)
    return Module(plan, kernels, tuple(range(len(kernels))))


def build_group(structure: KernelStructure) -> GroupIR:
    """Build the unfused kernel for one structure."""
    bodies = tuple(_build_body(structure, each) for each in structure.classes)
    return GroupIR(structure, split=False, bodies=bodies)


def _build_body(structure: KernelStructure, tensor_class: TensorClass) -> Body:
    builder = BodyBuilder(tensor_class)
    gradient = _clip(builder, structure.clip)
    gradient = _decay(builder, tensor_class, gradient)
    _update(builder, tensor_class, gradient)
    return Body(tensor_class, reduce=(), scalar=(), each=builder.ops)


def _clip(b: BodyBuilder, kind: ClipKind) -> Slot:
    """Emit the clipping stage; return where the next stage finds the gradient."""
    if kind is ClipKind.NONE:
        return Slot.GRAD
    grad = b.load("grad", Slot.GRAD)
    need_clip = b.tensor_flag("need_clip")
    if kind is ClipKind.VALUE:
        clipped = _clip_by_value(b, grad, need_clip)
    else:
        scale = _clip_scale(b, kind, grad, need_clip)
        clipped = b.op(OpKind.MUL, "clipped_grad", grad, scale, comment="g * clip_scale")
    b.store(Slot.CLIPPED_GRAD, clipped, comment="the gradient after clipping")
    return Slot.CLIPPED_GRAD


def _clip_by_value(b: BodyBuilder, grad: str, need_clip: str) -> str:
    # A tensor that is exempt gets bounds that no number exceeds.
    upper = b.op(
        OpKind.SELECT,
        "upper",
        need_clip,
        b.number("clip_bound"),
        b.const("infinity", float("inf")),
        comment="largest value allowed",
    )
    lower = b.op(
        OpKind.SELECT,
        "lower",
        need_clip,
        b.number("clip_lower"),
        b.const("minus_infinity", float("-inf")),
        comment="smallest value allowed",
    )
    below = b.op(OpKind.MIN, "grad_below_upper", grad, upper, comment="min(g, upper)")
    return b.op(OpKind.MAX, "clipped_grad", below, lower, comment="max(min(g, upper), lower)")


def _clip_scale(b: BodyBuilder, kind: ClipKind, grad: str, need_clip: str) -> str:
    """Emit the norm and the factor that brings it down to the bound; norms are in float64."""
    f64 = DType.FLOAT64
    wide = b.cast("grad_wide", grad, f64, comment="norms are summed in float64")
    squared = b.op(OpKind.MUL, "grad_wide_squared", wide, wide, comment="g^2")
    norm_squared = b.op(
        OpKind.SUM_TENSOR, "tensor_norm_squared", squared, comment="sum of g^2 over the tensor"
    )
    unclipped = b.const("unclipped", 1.0, f64)
    bound = b.number("clip_bound", f64)
    if kind is ClipKind.GLOBAL_NORM:
        counted = b.op(
            OpKind.SELECT,
            "counted_norm_squared",
            need_clip,
            norm_squared,
            b.const("not_counted", 0.0, f64),
            comment="an exempt tensor does not count",
        )
        norm_squared = b.op(
            OpKind.SUM_GROUP, "global_norm_squared", counted, comment="sum over the group"
        )
    norm = b.op(OpKind.SQRT, "norm", norm_squared, comment="|g|")
    within = b.op(OpKind.LE, "norm_within_bound", norm, bound, comment="|g| <= bound")
    ratio = b.op(OpKind.DIV, "bound_over_norm", bound, norm, comment="bound / |g|")
    shrink = b.op(
        OpKind.SELECT, "norm_scale", within, unclipped, ratio, comment="min(1, bound / |g|)"
    )
    scale = b.op(
        OpKind.SELECT, "clip_scale", need_clip, shrink, unclipped, comment="1 where exempt"
    )
    return b.rounded(scale, b.compute_dtype)


def _decay(b: BodyBuilder, tensor_class: TensorClass, gradient: Slot) -> Slot:
    """Emit the decay stage; return where the update finds the gradient."""
    if tensor_class.decay in _NOT_IN_THE_GRADIENT:
        return gradient
    grad = b.load(_GRADIENT_NAMES[gradient], gradient)
    term = b.load("param", Slot.MASTER if tensor_class.master else Slot.PARAM)
    if tensor_class.decay is DecayKind.L1:
        term = b.op(OpKind.SIGN, "param_sign", term, comment="sign(theta)")
    coefficient = b.tensor_number("decay")
    penalty = b.op(OpKind.MUL, "decay_term", coefficient, term, comment="gradient of the penalty")
    decayed = b.op(OpKind.ADD, "decayed_grad", grad, penalty, comment="g + decay term")
    b.store(Slot.DECAYED_GRAD, decayed, comment="the gradient after decay")
    return Slot.DECAYED_GRAD


def _shrink(b: BodyBuilder, param: str, lr: str) -> str:
    """Emit decoupled decay, algorithm 2 of https://arxiv.org/abs/1711.05101."""
    share = b.op(OpKind.MUL, "lost_share", lr, b.tensor_number("decay"), comment="lr * coefficient")
    lost = b.op(OpKind.MUL, "param_lost", share, param, comment="lr * coefficient * theta")
    # Not theta * (1 - share): a float32 near 1 would round most of a small share away.
    return b.op(OpKind.SUB, "param_kept", param, lost, comment="theta - lr * coefficient * theta")


def _update(b: BodyBuilder, tensor_class: TensorClass, gradient: Slot) -> None:
    one = b.const("one", 1.0)
    step_out = b.next_step()

    # Moments.
    grad = b.load(_GRADIENT_NAMES[gradient], gradient)
    beta1 = b.number("beta1")
    beta2 = b.number("beta2")
    one_minus_beta1 = b.op(OpKind.SUB, "one_minus_beta1", one, beta1, comment="1 - beta1")
    one_minus_beta2 = b.op(OpKind.SUB, "one_minus_beta2", one, beta2, comment="1 - beta2")
    moment1_out = b.op(
        OpKind.ADD,
        "moment1_out",
        b.op(OpKind.MUL, "moment1_kept", beta1, b.load("moment1", Slot.MOMENT1)),
        b.op(OpKind.MUL, "moment1_added", one_minus_beta1, grad),
        comment="m_t = beta1 * m + (1 - beta1) * g",
    )
    b.store(Slot.MOMENT1, moment1_out, comment="m_t")
    grad_squared = b.op(OpKind.MUL, "grad_squared", grad, grad, comment="g^2")
    moment2_out = b.op(
        OpKind.ADD,
        "moment2_out",
        b.op(OpKind.MUL, "moment2_kept", beta2, b.load("moment2", Slot.MOMENT2)),
        b.op(OpKind.MUL, "moment2_added", one_minus_beta2, grad_squared),
        comment="v_t = beta2 * v + (1 - beta2) * g^2",
    )
    b.store(Slot.MOMENT2, moment2_out, comment="v_t")

    # Bias correction of the first moment.
    bias_correction1 = b.op(
        OpKind.ONE_MINUS_POW, "bias_correction1", beta1, step_out, comment="1 - beta1^t"
    )
    moment1_hat = b.op(
        OpKind.DIV, "moment1_hat", moment1_out, bias_correction1, comment="m_t / (1 - beta1^t)"
    )

    # Length of the approximated simple moving average.
    two = b.const("two", 2.0)
    bias_correction2 = b.op(
        OpKind.ONE_MINUS_POW, "bias_correction2", beta2, step_out, comment="1 - beta2^t"
    )
    rho_inf = b.op(
        OpKind.SUB,
        "rho_inf",
        b.op(OpKind.DIV, "two_over_one_minus_beta2", two, one_minus_beta2),
        one,
        comment="rho_inf = 2 / (1 - beta2) - 1",
    )
    rho_t = b.op(
        OpKind.SMA_LENGTH,
        "rho_t",
        beta2,
        step_out,
        comment="rho_t = rho_inf - 2 t beta2^t / (1 - beta2^t)",
    )

    # Rectification of the variance.
    four = b.const("four", 4.0)
    numerator = b.op(
        OpKind.MUL,
        "rectification_numerator",
        b.op(
            OpKind.MUL,
            "rho_t_product",
            b.op(OpKind.SUB, "rho_t_minus_4", rho_t, four),
            b.op(OpKind.SUB, "rho_t_minus_2", rho_t, two),
        ),
        rho_inf,
        comment="(rho_t - 4) (rho_t - 2) rho_inf",
    )
    denominator = b.op(
        OpKind.MUL,
        "rectification_denominator",
        b.op(
            OpKind.MUL,
            "rho_inf_product",
            b.op(OpKind.SUB, "rho_inf_minus_4", rho_inf, four),
            b.op(OpKind.SUB, "rho_inf_minus_2", rho_inf, two),
        ),
        rho_t,
        comment="(rho_inf - 4) (rho_inf - 2) rho_t",
    )
    rectification = b.op(
        OpKind.SQRT,
        "rectification",
        b.op(OpKind.DIV, "rectification_squared", numerator, denominator),
        comment="r_t; not a number below the threshold, where it is not used",
    )
    adaptive_rate = b.op(
        OpKind.DIV,
        "adaptive_rate",
        b.op(OpKind.SQRT, "sqrt_bias_correction2", bias_correction2, comment="sqrt(1 - beta2^t)"),
        b.op(
            OpKind.ADD,
            "adaptive_denominator",
            b.op(OpKind.SQRT, "sqrt_moment2", moment2_out, comment="sqrt(v_t)"),
            b.number("epsilon"),
            comment="sqrt(v_t) + epsilon",
        ),
        comment="l_t = sqrt(1 - beta2^t) / (sqrt(v_t) + epsilon)",
    )

    # Step.
    lr = b.op(
        OpKind.MUL,
        "tensor_lr",
        b.number("lr"),
        b.tensor_number("lr_scale"),
        comment="learning rate of this parameter",
    )
    plain_update = b.op(OpKind.MUL, "plain_update", lr, moment1_hat, comment="lr * m_hat")
    adaptive_update = b.op(
        OpKind.MUL,
        "adaptive_update",
        b.op(OpKind.MUL, "rectified_update", plain_update, rectification),
        adaptive_rate,
        comment="lr * m_hat * r_t * l_t",
    )
    rectified = b.op(
        OpKind.GT, "rectified", rho_t, b.const("rho_threshold", 5.0), comment="rho_t > 5"
    )
    update = b.op(
        OpKind.SELECT,
        "update",
        rectified,
        adaptive_update,
        plain_update,
        comment="rectified where the variance is tractable",
    )
    # The decay stage, where there is one, has loaded it before; fusing makes one load of the two.
    name = "param" if tensor_class.decay in _NOT_IN_THE_GRADIENT else "param_again"
    param = b.load(name, Slot.MASTER if tensor_class.master else Slot.PARAM)
    if tensor_class.decay is DecayKind.DECOUPLED:
        param = _shrink(b, param, lr)
    param_out = b.op(OpKind.SUB, "param_out", param, update, comment="theta_t = theta - update")
    if tensor_class.master:
        b.store(Slot.MASTER, param_out, comment="theta_t in float32")
    stored = b.cast("param_out_rounded", param_out, tensor_class.param_dtype)
    b.store(Slot.PARAM, stored, comment="theta_t")
