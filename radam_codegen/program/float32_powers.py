"""Powers of a float32 near 1, multiplied up and rounded each time, without going every step.

As long as a power stays in one binade, the next one is an integer number of units in the last place
below it, and that number changes only now and then: steps between are one subtraction.
"""

from __future__ import annotations

import math

__all__ = ["Float32Power"]

# A float32 below 1 is an integer of 24 bits times a power of two.
_ONE = 1 << 24
_HALF = 1 << 23
#: Exponent of the smallest normal number, which is ``_HALF * 2^(exponent - 24)``.
_LOWEST = -125


class Float32Power:
    """A power of ``base``, from step 0 on.

    Args:
        base: a float32 in [0.5, 1).
    """

    def __init__(self, base: float) -> None:
        self.step = 0
        self._base = int(math.ldexp(base, 24))
        # The power is _digits * 2^(_exponent - 24), with _digits in [_HALF, _ONE) where normal.
        self._digits = _HALF
        self._exponent = 1

    @property
    def value(self) -> float:
        """The power after :attr:`step` steps."""
        return math.ldexp(self._digits, self._exponent - 24)

    def leap(self, steps: int, bound: float = 0.0) -> bool:
        """Go one or more steps, at most ``steps``, and not beyond the first that is at ``bound``.

        Args:
            steps: at least 1.
            bound: below the power as it is.

        Returns:
            Whether the power has changed; if not, rounding keeps it where it is for good.
        """
        product = self._digits * self._base
        if product < _HALF * _ONE and self._exponent > _LOWEST:
            self._digits = _quotient(2 * product)
            self._exponent -= 1
            self.step += 1
            return True
        fall = self._digits - _quotient(product)
        if fall == 0:
            return False
        count = min(
            steps,
            self._steps_of(fall),
            # The first step that is at the bound, or below it.
            math.ceil((self._digits - math.ldexp(bound, 24 - self._exponent)) / fall),
        )
        self._digits -= count * fall
        self.step += count
        return True

    def _steps_of(self, fall: int) -> int:
        """How many steps from here take off ``fall`` units each; at least 1."""
        rest = _ONE - self._base
        # What is taken off rounds to ``fall`` for certain while it is above fall - 1/2 ...
        more = (self._digits * rest - (2 * fall - 1) * _HALF - 1) // rest // fall
        if self._exponent > _LOWEST:
            # ... and the next power is in this binade while its product is.
            lowest = -(-_HALF * _ONE // self._base)
            more = min(more, (self._digits - lowest) // fall)
        return max(0, more) + 1


def _quotient(product: int) -> int:
    """Divide by :data:`_ONE`, to the nearest integer, ties to even."""
    quotient, rest = divmod(product, _ONE)
    return quotient + (rest > _HALF or (rest == _HALF and quotient & 1 == 1))
