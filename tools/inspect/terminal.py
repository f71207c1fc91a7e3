"""Blocks of text in the colours of a terminal."""

from __future__ import annotations

from collections.abc import Iterable, Iterator

from rich.console import Console
from rich.syntax import Syntax
from rich.text import Text

from radam_codegen.tools.inspect.report import Block

__all__ = ["show"]


def show(console: Console, blocks: Iterable[Block]) -> None:
    """Print blocks. Long lines are wrapped, never cut; nothing in them counts as markup."""
    for number, block in enumerate(blocks):
        if number:
            console.print()
        for line in _styled(block):
            console.print(line, overflow="fold")


def _styled(block: Block) -> Iterator[Text]:
    if block.kind == "source":
        yield from _source(block.lines)
        return
    style = {"title": _title, "ir": _ir, "diff": _diff, "asm": _asm}.get(block.kind, Text)
    for line in block.lines:
        yield style(line)


def _title(line: str) -> Text:
    return Text(line, style="bold")


def _ir(line: str) -> Text:
    text = Text(line)
    text.highlight_regex(r"%\w+", "cyan")
    text.highlight_regex(r"//.*$", "dim")
    return text


def _diff(line: str) -> Text:
    return Text(line, style={"+": "green", "-": "red", "@": "dim"}.get(line[:1], ""))


def _asm(line: str) -> Text:
    text = Text(line)
    text.highlight_regex(r"^\s+[a-z]\w*", "bold")
    text.highlight_regex(r"%[xyz]mm\d+", "cyan")
    text.highlight_regex(r"# \d+.*$", "green")
    return text


def _source(lines: tuple[str, ...]) -> Iterator[Text]:
    """C, highlighted as a whole, as a comment may span lines; between them, IR."""
    code = [line[8:] for line in lines if not line.startswith("   IR")]
    # Highlighting drops what is empty at the end, and a line there may be.
    syntax = Syntax("", "c", theme="ansi_dark", background_color="default")
    highlighted = iter(syntax.highlight("\n".join([*code, ";"])).split("\n"))
    for line in lines:
        if line.startswith("   IR"):
            yield Text(line, style="green")
        else:
            yield Text.assemble((line[:8], "dim"), next(highlighted))
