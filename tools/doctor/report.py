"""The report for people: two tables, and what to do."""

from __future__ import annotations

from rich import box
from rich.console import Console
from rich.table import Table
from rich.text import Text

from radam_codegen._version import __version__
from radam_codegen.tools.doctor.findings import FAILURE, NOTE, OK, WARNING, Finding
from radam_codegen.tools.doctor.run import Report

__all__ = ["print_report"]

#: Words and colours both, so that neither is needed.
_STYLES = {OK: "green", NOTE: "cyan", WARNING: "yellow", FAILURE: "bold red"}


def print_report(console: Console, report: Report) -> None:
    """Print a report."""
    console.print(Text(f"radam_codegen {__version__}", "bold"))
    console.print(_settings(report))
    console.print(_findings(report))
    troubles = [each for each in report.findings if each.status in (WARNING, FAILURE)]
    for finding in troubles:
        _print_advice(console, finding)
    failures = sum(each.status == FAILURE for each in troubles)
    if failures:
        console.print(Text(f"Training would fail: {_count(failures, 'failure')}.", "bold red"))
        return
    warnings = f" ({_count(len(troubles), 'warning')})" if troubles else ""
    if report.stepped:
        console.print(Text(f"Training works here{warnings}.", "bold green"))
    else:
        console.print(Text(f"No failure was found, but no step taken{warnings}.", "bold yellow"))


def _settings(report: Report) -> Table:
    table = _table("setting", "value", "from")
    for setting in report.settings:
        value = "cannot be used" if setting.error else str(setting.value)
        shown = "none" if setting.value is None and not setting.error else value
        origin = setting.variable if setting.origin == "environment" else setting.origin
        table.add_row(Text(setting.name), _text(shown), Text(origin))
    return table


def _findings(report: Report) -> Table:
    table = _table("", "check", "found")
    for finding in report.findings:
        first = finding.found.partition("\n")[0]
        table.add_row(
            Text(finding.status, _STYLES[finding.status]), Text(finding.check), _text(first)
        )
    return table


def _table(*columns: str) -> Table:
    table = Table(box=box.SIMPLE_HEAD, pad_edge=False)
    for column in columns:
        table.add_column(column, overflow="fold")
    return table


def _print_advice(console: Console, finding: Finding) -> None:
    style = _STYLES[finding.status]
    console.print(Text(f"{finding.status}: {finding.check}", style))
    _print_lines(console, "  found: ", finding.found)
    _print_lines(console, "  cause: ", finding.cause)
    for number, fix in enumerate(finding.fixes, 1):
        _print_lines(console, f"  {number}. ", fix.text)
        if fix.command:
            _print_lines(console, "       ", f"$ {fix.command}")
    console.print()


def _print_lines(console: Console, before: str, text: str) -> None:
    lines = text.splitlines() or [""]
    for index, line in enumerate(lines):
        # Not wrapped: a command is to be copied, and a path to be found by a search.
        lead = before if index == 0 else " " * len(before)
        console.print(Text(lead) + _text(line), soft_wrap=True)


def _text(text: str) -> Text:
    """Text from outside, in which nothing steers the terminal."""
    shown = "".join(each if each.isprintable() else ascii(each)[1:-1] for each in text)
    return Text(shown)


def _count(number: int, word: str) -> str:
    return f"{number} {word}" + ("" if number == 1 else "s")
