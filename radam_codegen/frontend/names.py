"""Names of parameters, whichever way they are given."""

from __future__ import annotations

from typing import Any

__all__ = ["name_of"]


def name_of(parameter: Any) -> str:
    """Return the name of a parameter that is given as a tensor, a variable, a value or a name."""
    return parameter if isinstance(parameter, str) else str(parameter.name)
