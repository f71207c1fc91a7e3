"""Paths on the command line."""

from __future__ import annotations

import os
from typing import Any

import click

__all__ = ["GivenPath"]


class GivenPath(click.Path):
    """A path, refused where no file could have it as its name."""

    def convert(self, value: Any, param: click.Parameter | None, ctx: click.Context | None) -> Any:
        """Return the path, as click does.

        Args:
            value: what was given.
            param: for which option or argument.
            ctx: of which command.
        """
        try:
            fits = b"\0" not in os.fsencode(value)
        except UnicodeEncodeError:
            fits = False
        if not fits:
            self.fail(f"{value!a} cannot be the name of a file", param, ctx)
        return super().convert(value, param, ctx)
