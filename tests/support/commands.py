"""Commands, run in this process by click's runner."""

from __future__ import annotations

import inspect

from click.testing import CliRunner

__all__ = ["command_runner"]


def command_runner() -> CliRunner:
    """A runner that keeps standard error apart, as each does from click 8.2 on."""
    if "mix_stderr" in inspect.signature(CliRunner).parameters:
        return CliRunner(mix_stderr=False)
    return CliRunner()
