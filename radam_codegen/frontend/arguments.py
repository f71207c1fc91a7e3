"""Checks of what users pass to the optimizer, with Paddle's own kinds of exception."""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping, Sequence
from typing import Any

import paddle
from paddle.base import framework
from paddle.nn.clip import GradientClipBase
from paddle.optimizer.lr import LRScheduler
from paddle.regularizer import WeightDecayRegularizer

from radam_codegen.errors import ArgumentError, ArgumentTypeError
from radam_codegen.frontend.names import name_of

__all__ = [
    "GROUP_OPTIONS",
    "as_list",
    "as_number",
    "check_any_clip",
    "check_beta",
    "check_clip",
    "check_decay",
    "check_decoupled",
    "check_epsilon",
    "check_flag",
    "check_group",
    "check_learning_rate",
    "check_parameters",
    "is_variable",
]

#: What a parameter group may set, besides ``params``.
GROUP_OPTIONS = ("learning_rate", "weight_decay", "beta1", "beta2", "epsilon", "grad_clip")


def as_number(name: str, value: Any) -> float:
    """Return a real number, or one element of a dynamic-graph tensor, as a float.

    Raises:
        ArgumentTypeError: it is something else.
        ArgumentError: it is an integer that no float64 is near to.
    """
    if isinstance(value, bool) or not isinstance(value, (int, float)):
        item = getattr(value, "item", None)
        if isinstance(value, paddle.Tensor) and value.size != 1:
            raise ArgumentTypeError(
                f"'{name}' must be one number, got a tensor of shape {list(value.shape)}"
            )
        if isinstance(value, bool) or item is None:
            raise ArgumentTypeError(
                f"'{name}' must be a number, got {value!r} of type {type(value).__name__}"
            )
        try:
            return float(item())
        except Exception as error:
            raise ArgumentTypeError(
                f"'{name}' must be a number whose value is known now, got {value!r}; a variable of "
                "a static program has no value yet"
            ) from error
    try:
        return float(value)
    except OverflowError:
        raise ArgumentError(
            f"'{name}' must be a number that a float64 can hold, got an integer of "
            f"{int(value).bit_length()} bits"
        ) from None


def is_variable(value: Any) -> bool:
    """Whether a value belongs to a static program, so that only a run of that knows it."""
    return isinstance(value, (paddle.pir.Value, framework.Variable)) and not isinstance(
        value, paddle.Tensor
    )


def check_learning_rate(value: Any) -> None:
    """A non-negative float or a scheduler, as Paddle demands."""
    if isinstance(value, LRScheduler):
        return
    if isinstance(value, (int, float)) and not isinstance(value, bool) and not value >= 0.0:
        raise ArgumentError(f"Invalid learning rate: {value}, expect learning_rate >= 0.")
    if not isinstance(value, float):
        raise ArgumentTypeError(
            f"learning rate should be float or LRScheduler, got {type(value)} here"
        )
    if math.isinf(value):
        raise ArgumentError("Invalid learning rate: inf, expect a finite learning_rate.")


def check_beta(name: str, value: Any) -> float:
    """A decay rate of a moment: in [0, 1)."""
    number = as_number(name, value)
    if not 0.0 <= number < 1.0:
        raise ArgumentError(f"Invalid {name}: {number}, expect 0. <= {name} < 1.0.")
    return number


def check_epsilon(name: str, value: Any) -> float:
    """A finite number that is not negative."""
    number = as_number(name, value)
    if not 0.0 <= number < math.inf:
        raise ArgumentError(f"Invalid {name} value: {number}, expect a finite {name} >= 0.")
    return number


def check_clip(value: Any) -> GradientClipBase | None:
    """One of Paddle's gradient clips or a class derived from their base, or None."""
    if value is None:
        return None
    if not isinstance(value, GradientClipBase):
        raise ArgumentTypeError(
            "'grad_clip' should be an instance of GradientClipBase's derived class, "
            f"got {type(value).__name__}"
        )
    return value


def check_any_clip(name: str, value: Any) -> Any:
    """Whatever may be put in the place of a clip later: it is called on pairs, as Paddle does."""
    if value is not None and not callable(value):
        raise ArgumentTypeError(
            f"'{name}' is {value!r} of type {type(value).__name__}; it must be None or a gradient "
            "clip, which is called on pairs of parameter and gradient"
        )
    return value


def check_decay(name: str, value: Any) -> Any:
    """A coefficient (L2), a tensor or variable that holds one, a regularizer, or None.

    A tensor is read at every step, a variable of a static program whenever that runs.

    Raises:
        ArgumentError: the coefficient is negative or not finite.
        ArgumentTypeError: it is none of these.
    """
    if value is None:
        return None
    if isinstance(value, WeightDecayRegularizer):
        coefficient = getattr(value, "_coeff", None)
        if coefficient is not None:
            _check_coefficient(name, as_number(f"{name} coefficient", coefficient))
        return value
    if is_variable(value):
        if math.prod(value.shape) != 1:
            raise ArgumentTypeError(
                f"'{name}' must be one number, got a variable of shape {list(value.shape)}"
            )
        return value
    number = _check_coefficient(name, as_number(name, value))
    return value if isinstance(value, paddle.Tensor) else number


def _check_coefficient(name: str, number: float) -> float:
    if not 0.0 <= number < math.inf:
        raise ArgumentError(
            f"Invalid {name}: {number}, expect a finite coefficient that is not negative."
        )
    return number


def check_flag(name: str, value: Any) -> bool:
    """True or False, and nothing that merely counts as one of them."""
    if not isinstance(value, bool):
        raise ArgumentTypeError(f"'{name}' must be True or False, got {value!r}")
    return value


def check_decoupled(decoupled: Any, weight_decay: Any, parameters: Sequence[Any] | None) -> bool:
    """A flag that goes with coefficients only: a regularizer is a term of the gradient.

    Raises:
        ArgumentTypeError: it is no bool, or is True beside a regularizer object.
    """
    flag = check_flag("decoupled_weight_decay", decoupled)
    groups = [each for each in parameters or () if isinstance(each, Mapping)]
    for decay in (weight_decay, *(group.get("weight_decay") for group in groups)):
        if flag and isinstance(decay, WeightDecayRegularizer):
            raise ArgumentTypeError(
                "decoupled_weight_decay=True takes weight_decay as a number, got "
                f"{type(decay).__name__}, which is a term of the gradient"
            )
    return flag


def check_parameters(parameters: Any) -> list[Any] | None:
    """A sequence of parameters (or names, in static mode), or of groups; None stands for all.

    Raises:
        ArgumentTypeError: it is a single tensor, a dict, a set, or mixes groups and parameters.
        ArgumentError: a group lacks ``params`` or has an option that there is not, or a parameter
            stands in more than one place.
    """
    if parameters is None:
        return None
    if isinstance(parameters, (paddle.Tensor, str)):
        raise ArgumentTypeError(
            "`parameters` argument given to the optimizer should be an iterable of paddle Tensors, "
            f"but got argument type is `{type(parameters)}`."
        )
    if isinstance(parameters, Mapping):
        raise ArgumentTypeError(
            "`parameters` argument should not get dict type, if parameter groups is needed, please "
            "set `parameters` as list of dict"
        )
    if isinstance(parameters, (set, frozenset)):
        raise ArgumentTypeError(
            "`parameters` should be in an ordered collection, but is a set; please use a list"
        )
    listed = _listed(parameters)
    grouped = [isinstance(each, Mapping) for each in listed]
    if any(grouped) and not all(grouped):
        raise ArgumentTypeError(
            f"`parameters` mixes groups (dicts) and parameters; entry {grouped.index(False)} is a "
            f"{type(listed[grouped.index(False)]).__name__}: put it into a group"
        )
    if not any(grouped):
        _check_unique(listed)
        return listed
    for index, group in enumerate(listed):
        check_group(index, group)
    # Lists, as an iterator could be read only once.
    groups = [{**group, "params": as_list(group["params"])} for group in listed]
    _check_unique([each for group in groups for each in group["params"]])
    return groups


def check_group(index: int, group: Mapping[str, Any], *, any_clip: bool = False) -> None:
    """Check a parameter group.

    Args:
        index: its place among the groups, for messages.
        group: ``params`` and options.
        any_clip: whether whatever can be called is a clip.

    Raises:
        ArgumentError: it lacks ``params``, has an option that there is not, or a number in it is
            out of range.
        ArgumentTypeError: a value in it has the wrong type.
    """
    if "params" not in group:
        raise ArgumentError(
            f"parameter group {index} has no 'params' (it has {sorted(map(str, group))}); params "
            "should be set in parameters if parameter groups are optimized in different options"
        )
    unknown = sorted(set(group) - {"params", *GROUP_OPTIONS}, key=str)
    if unknown:
        raise ArgumentError(
            f"parameter group {index} has the unknown option {unknown[0]!r}; there are: params, "
            + ", ".join(GROUP_OPTIONS)
        )
    if isinstance(group["params"], (set, frozenset)):
        raise ArgumentTypeError(
            "optimizer parameters should be in ordered collections, but parameter group "
            f"{index} has a set, please use list instead."
        )
    try:
        _check_options(group, check_any_clip if any_clip else lambda _, clip: check_clip(clip))
    except (ArgumentError, ArgumentTypeError) as error:
        raise type(error)(f"parameter group {index}: {error}") from error


def _check_options(group: Mapping[str, Any], check_clip: Callable[[str, Any], Any]) -> None:
    if "learning_rate" in group:
        scale = as_number("learning_rate", group["learning_rate"])
        if not 0.0 <= scale < math.inf:
            raise ArgumentError(
                f"Invalid learning_rate: {scale}; it scales the optimizer's learning rate and must "
                "be finite and not negative."
            )
    for beta in ("beta1", "beta2"):
        if beta in group:
            check_beta(beta, group[beta])
    if "epsilon" in group:
        check_epsilon("epsilon", group["epsilon"])
    check_clip("grad_clip", group.get("grad_clip"))
    check_decay("weight_decay", group.get("weight_decay"))


def as_list(params: Any) -> Sequence[Any]:
    """Return what a group's ``params`` holds, where that may be one parameter by itself."""
    if isinstance(params, (str, paddle.Tensor, paddle.pir.Value)) or hasattr(params, "block"):
        return [params]
    return _listed(params)


def _listed(parameters: Any) -> list[Any]:
    try:
        return list(parameters)
    except TypeError as error:
        raise ArgumentTypeError(
            "`parameters` argument given to the optimizer should be an iterable of paddle Tensors, "
            f"but got argument type is `{type(parameters)}`."
        ) from error


def _check_unique(parameters: Sequence[Any]) -> None:
    seen: set[str] = set()
    for index, parameter in enumerate(parameters):
        if not isinstance(parameter, str) and not hasattr(parameter, "name"):
            raise ArgumentTypeError(
                f"entry {index} of `parameters` is {parameter!r} of type "
                f"{type(parameter).__name__}; it should be a parameter or, in static mode, its name"
            )
        name = name_of(parameter)
        if name in seen:
            raise ArgumentError(
                f"some parameters appear in more than one parameter group: {name!r} is there twice"
            )
        seen.add(name)
