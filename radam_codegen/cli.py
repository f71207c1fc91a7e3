"""The command ``radam-codegen``.

Exit status: 0 success, 1 a finding or a failure, 2 bad arguments.
"""

from __future__ import annotations

from importlib import import_module
from typing import Any

import click

from radam_codegen._version import __version__
from radam_codegen.errors import ArgumentError, RadamCodegenError

__all__ = ["main"]

#: Command: the module that defines it under the same name, and its line in the overview.
_COMMANDS = {
    "demo": ("demo", "Train a small network with both optimizers, and compare."),
    "doctor": ("doctor", "Look at this machine, take a real step, and say what to do."),
    "aot": ("aot", "Compile kernels ahead of time, for machines without a compiler."),
    "verify": ("verify", "Check that compiled files are what their plans make."),
    "inspect": ("inspect", "Show a kernel: its plan, its IR, its source, its machine code."),
    "diff": ("inspect", "Show what differs between two kernels, the IR first."),
    "bench": ("bench", "Measure steps against what the memory allows, and against others."),
    "lower": ("lower", "Replace the native RAdam updates of a saved program by fused steps."),
    "cache": ("cache", "Look at the cache of compiled kernels, check it, or clear it."),
}


class _Commands(click.Group):
    """Commands that are imported when they are called, or asked for their help.

    Where the project itself refuses something, a command ends in the error's message.
    """

    def list_commands(self, ctx: click.Context) -> list[str]:
        return list(_COMMANDS)

    def get_command(self, ctx: click.Context, cmd_name: str) -> click.Command | None:
        if cmd_name not in _COMMANDS:
            return None
        folder, short_help = _COMMANDS[cmd_name]
        module = import_module(f"radam_codegen.tools.{folder}.command")
        command: click.Command = getattr(module, cmd_name)
        command.short_help = short_help
        return command

    def invoke(self, ctx: click.Context) -> Any:
        try:
            return super().invoke(ctx)
        except ArgumentError as error:
            raise click.UsageError(str(error)) from error
        except RadamCodegenError as error:
            raise click.ClickException(str(error)) from error


@click.group(cls=_Commands, context_settings={"help_option_names": ["-h", "--help"]})
@click.version_option(__version__, prog_name="radam-codegen")
def main() -> None:
    """RAdam for PaddlePaddle, as kernels that are generated for the program at hand."""


if __name__ == "__main__":
    main()
