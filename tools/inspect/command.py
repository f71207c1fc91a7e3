"""``radam-codegen inspect`` and ``radam-codegen diff``."""

from __future__ import annotations

import sys
from collections.abc import Iterable
from typing import TYPE_CHECKING

import click

from radam_codegen.errors import RadamCodegenError

if TYPE_CHECKING:
    from radam_codegen.tools.inspect.report import Block

__all__ = ["diff", "inspect"]


class _TroubleError(click.ClickException):
    """Trouble of ``diff``, whose exit status 1 says that there are differences."""

    exit_code = 2


@click.command()
@click.argument("target")
@click.option("--passes", is_flag=True, help="Show the IR as built, and after each pass.")
@click.option("--diff", "changes", is_flag=True, help="Show what each pass changed.")
@click.option("--source", is_flag=True, help="Show the source, with the IR operation of each line.")
@click.option("--asm", is_flag=True, help="Show the hot loops' machine code, and what it does.")
@click.option("--kernel", help="Only the kernel of this name, or whose key begins so.")
@click.option(
    "--target",
    "language",
    type=click.Choice(["c", "cuda"]),
    default="c",
    show_default=True,
    help="What to render where TARGET holds no source.",
)
@click.option("--json", "as_json", is_flag=True, help="Print everything as JSON.")
def inspect(
    target: str,
    passes: bool,
    changes: bool,
    source: bool,
    asm: bool,
    kernel: str | None,
    language: str,
    as_json: bool,
) -> None:
    """Show what TARGET is: its plan, its IR, its source, its machine code.

    TARGET is the JSON file of a plan, a saved static program (as PREFIX), the folder of an
    ahead-of-time bundle or of a cache, the key of a cached kernel (or how it begins), or the name
    of a kernel. Nothing of it is run.

    With --json, machine code is included where --asm is given.
    """
    from radam_codegen.tools.inspect.report import blocks
    from radam_codegen.tools.inspect.run import inspect as run

    found = run(target, kernel=kernel, language=language, assembly=asm)
    if as_json:
        click.echo(found.to_json(), nl=False)
        return
    chosen = {"passes": passes, "diff": changes, "source": source, "asm": asm}
    _show(blocks(found, [name for name, wanted in chosen.items() if wanted]))


@click.command()
@click.argument("first")
@click.argument("second")
@click.option("--asm/--no-asm", default=True, help="Compare the machine code's counts, too.")
@click.option("--kernel", help="Only the kernel of this name, or whose key begins so.")
@click.option("--json", "as_json", is_flag=True, help="Print the differences as JSON.")
def diff(first: str, second: str, asm: bool, kernel: str | None, as_json: bool) -> None:
    """Show what differs between FIRST and SECOND, targets as `inspect` takes them.

    The numbers and the IR come first, then the source that was made from it, then the machine code.

    Exit status: 0 no difference, 1 a difference, 2 bad arguments.
    """
    from radam_codegen.tools.inspect.difference import compare
    from radam_codegen.tools.inspect.run import inspect as run

    try:
        found = compare(*(run(each, kernel=kernel, assembly=asm) for each in (first, second)))
    except RadamCodegenError as error:
        raise _TroubleError(str(error)) from error
    if as_json:
        click.echo(found.to_json(), nl=False)
    else:
        _show(found.blocks())
    if not found.is_empty:
        raise click.exceptions.Exit(1)


def _show(blocks: Iterable[Block]) -> None:
    """In colours on a terminal; as it is where a program reads it."""
    if sys.stdout.isatty():
        from rich.console import Console

        from radam_codegen.tools.inspect.terminal import show

        show(Console(), blocks)
        return
    encoding = sys.stdout.encoding or "utf-8"
    for number, block in enumerate(blocks):
        text = ("\n" if number else "") + "\n".join(block.lines)
        # A path may hold letters that the output has none for.
        click.echo(text.encode(encoding, "backslashreplace").decode(encoding))
