"""Random programs with native RAdam updates, and what to compare of them."""

from __future__ import annotations

import hashlib
import random
import re
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import paddle
from paddle import ParamAttr
from paddle.nn import ClipGradByGlobalNorm, ClipGradByNorm, ClipGradByValue, Linear
from paddle.optimizer import lr as rates
from paddle.regularizer import L1Decay, L2Decay

from support.small_programs import SmallProgram
from support.static_programs import IN_PIR

__all__ = ["NativeProgram", "operators_of", "random_network", "train"]

Array = np.ndarray[Any, np.dtype[Any]]

STEPS = 12

#: Clip and decay, and decays of single parameters: few kernels, as each has to be compiled. Those
#: that native RAdam fails to build are left out.
_FAMILIES: tuple[tuple[Callable[[], Any], Any, tuple[Any, ...]], ...] = (
    (lambda: None, None, ()),
    (lambda: None, 0.1, (L2Decay(0.3),)),
    (lambda: None, L1Decay(0.02), (L2Decay(0.3),)),
    (lambda: ClipGradByNorm(0.5), 0.1, (L2Decay(0.01),)),
    *(
        (
            (lambda: ClipGradByGlobalNorm(0.7), None, ()),
            (lambda: ClipGradByGlobalNorm(0.7), L2Decay(0.1), (L2Decay(0.02),)),
        )
        if IN_PIR
        else ((lambda: ClipGradByValue(0.3, -0.1), 0.1, (L1Decay(0.02),)),)
    ),
)
_RATES: tuple[Callable[[], Any], ...] = (
    lambda: 0.02,
    lambda: rates.StepDecay(0.05, 3),
    lambda: rates.LinearWarmup(0.03, 4, 0.0, 0.05),
)


@dataclass(frozen=True)
class NativeProgram:
    """A program that was built natively, and its optimizers."""

    small: SmallProgram
    schedulers: tuple[Any, ...]

    def values(self) -> dict[str, Array]:
        """All parameters by name."""
        names = (p.name for p in self.small.main.global_block().all_parameters())
        wanted = sorted({name for name in names if not name.startswith("learning_rate")})
        return {name: self.small.read(name) for name in wanted}


def random_network(seed: int) -> NativeProgram:
    """Build a random network and its training; equal seeds give equal programs."""
    draw = random.Random(seed)
    schedulers: list[Any] = []
    paddle.seed(seed)

    def build() -> None:
        x = paddle.static.data("x", [4, 3], "float32")
        place = draw.choice(["plain", "plain", "two losses", "two optimizers", "branch"])
        # In a branch of a legacy program, native clips end the process.
        family = draw.randrange(len(_FAMILIES) if IN_PIR or place != "branch" else 3)
        layers = [Linear(3, 3, *_attributes(draw, family)) for _ in range(draw.randint(1, 3))]
        if draw.random() < 0.3:
            shared = ParamAttr(name="shared")
            layers += [Linear(3, 3, weight_attr=shared, bias_attr=False) for _ in range(2)]
        # In a branch of a PIR program, native optimizers cannot have a scheduler.
        choice = _RATES if place != "branch" else _RATES[:1]
        optimizers = [_optimizer(draw, family, schedulers, choice)]
        if place == "two optimizers":
            optimizers.append(_optimizer(draw, draw.randrange(len(_FAMILIES)), [], _RATES[:1]))

        def minimize() -> Any:
            hidden = x
            for layer in layers:
                hidden = layer(hidden) * 0.7
            loss = paddle.mean(hidden**2)
            optimizers[0].minimize(loss)
            return loss

        if place == "branch":

            def branch() -> None:
                minimize()

            paddle.static.nn.cond(paddle.mean(x) > -0.2, branch, None)
            return
        loss = minimize()
        if place == "two losses":
            optimizers[0].minimize(paddle.mean(layers[0](x) * 3.0))
        elif place == "two optimizers":
            optimizers[1].minimize(loss * 2.0)

    return NativeProgram(SmallProgram(build), tuple(schedulers))


def _optimizer(
    draw: random.Random, family: int, schedulers: list[Any], choice: Sequence[Callable[[], Any]]
) -> Any:
    clip, decay, _ = _FAMILIES[family]
    rate = draw.choice(choice)()
    if isinstance(rate, rates.LRScheduler):
        schedulers.append(rate)
    return paddle.optimizer.RAdam(
        rate,
        draw.choice((0.9, 0.5)),
        draw.choice((0.999, 0.9)),
        draw.choice((1e-8, 1e-4)),
        weight_decay=decay,
        grad_clip=clip(),
    )


def _attributes(draw: random.Random, family: int) -> list[Any]:
    """Attributes of a weight and of a bias."""
    regularizers = (None, *_FAMILIES[family][2])
    return [
        ParamAttr(
            learning_rate=draw.choice((1.0, 1.0, 0.5)),
            regularizer=draw.choice(regularizers),
            need_clip=draw.random() < 0.8,
        )
        for _ in range(2)
    ]


def train(program: NativeProgram, steps: int = STEPS, first: int = 0) -> dict[str, Array]:
    """Run some steps, and return the parameters."""
    for step in range(first, first + steps):
        x = np.random.default_rng(step).standard_normal((4, 3)).astype("float32")
        program.small.run(x=x)
        for scheduler in program.schedulers:
            scheduler.step()
    return program.values()


def operators_of(program: Any) -> list[str]:
    """Say for each operator what it computes from what, in no order, and without made-up names."""
    return sorted(_pir_operators(program) if IN_PIR else _legacy_operators(program))


def _pir_operators(program: Any) -> list[str]:
    values: dict[str, str] = {}
    found = []
    for line in str(program).splitlines():
        match = re.match(r'\s*\(([^)]*)\) = ("\S+" )\(([^)]*)\) (.*)', line)
        if match is None:
            found.append(line.strip())
            continue
        results, name, operands, rest = match.groups()
        made_from = ", ".join(values.get(each, each) for each in operands.split(", "))
        text = f"{name}({made_from}) {rest}"
        found.append(text)
        digest = hashlib.sha256(text.encode()).hexdigest()
        for place, result in enumerate(results.split(", ") if results else ()):
            values[result] = f"{digest}[{place}]"
    return found


def _legacy_operators(program: Any) -> list[str]:
    seen: dict[str, str] = {}

    def renamed(found: re.Match[str]) -> str:
        return seen.setdefault(found[0], f"made up {len(seen)}")

    text = "\n".join(line for line in str(program).splitlines() if "(inputs=" in line)
    text = re.sub(r"op_callstack = \[.*?\], ", "", text)
    text = re.sub(r"op_namescope = /(\w+?)(_\d+)?/", r"op_namescope = /\1/", text)
    text = re.sub(r"'(_generated_var_|(clip_by_norm_\d+\.|clip_\d+\.)?tmp_)\d+'", renamed, text)
    return [
        re.sub(r"\[('[^]]*')\]", _without_state, line) if "conditional_block" in line else line
        for line in text.splitlines()
    ]


def _without_state(found: re.Match[str]) -> str:
    """What a branch reads or writes, in no order; Paddle may list state in it, or not."""
    names = found[1].split(", ")
    return str(sorted(name for name in names if not re.search(r"_(moment\d|pow|rho)_\d", name)))
