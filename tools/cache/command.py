"""``radam-codegen cache``."""

from __future__ import annotations

import json
from typing import Any

import click

from radam_codegen.config import current
from radam_codegen.toolchain import cache as store

__all__ = ["cache"]

_as_json = click.option("--json", "as_json", is_flag=True, help="Print JSON.")


@click.group()
def cache() -> None:
    """Look at the cache of compiled kernels, check it, or clear it.

    RADAM_CODEGEN_CACHE_DIR says where it is. All of this is safe while programs train.
    """


@cache.command("list")
@_as_json
def list_(as_json: bool) -> None:
    """List the entries, the one used last first."""
    from radam_codegen.tools.cache.describe import summary, table

    root = current().cache_dir
    entries = sorted(store.stored_entries(root), key=lambda each: each.used, reverse=True)
    if as_json:
        _print_json({"cache": str(root), "entries": [summary(entry) for entry in entries]})
    else:
        _print(table(root, entries))


@cache.command()
@click.argument("key")
@_as_json
def show(key: str, as_json: bool) -> None:
    """Show the entry whose key is, or begins with, KEY.

    Exit status 1 means that the entry is damaged.
    """
    from radam_codegen.tools.cache.describe import detail, details

    entry = store.find_stored(current().cache_dir, key)
    shown = detail(entry)
    if as_json:
        _print_json(shown)
    else:
        _print(details(shown))
    if shown["fault"] is not None:
        raise click.exceptions.Exit(1)


@cache.command()
@_as_json
def clear(as_json: bool) -> None:
    """Remove all entries and failed builds. Files of other origin are left alone."""
    from radam_codegen.tools.cache.describe import amount

    root = current().cache_dir
    cleared = store.clear_cache(root)
    if as_json:
        _print_json({"cache": str(root), **vars(cleared)})
        return
    _print(
        f"Removed {cleared.entries} entries and {cleared.failed} failed builds from {root}: "
        f"{amount(cleared.size)}."
    )
    if cleared.busy:
        _print(f"Left {cleared.busy} entries that are being built just now.")


@cache.command()
@_as_json
def verify(as_json: bool) -> None:
    """Compare every file with its SHA-256.

    Exit status: 0 all good, 1 findings (one per line). A damaged entry is never loaded: it is built
    again when it is wanted, and `radam-codegen cache clear` removes it.
    """
    root = current().cache_dir
    findings = store.verify_cache(root)
    if as_json:
        _print_json({"cache": str(root), "findings": findings})
    elif findings:
        _print("\n".join(findings))
    else:
        _print(f"{root}: {len(store.stored_entries(root))} entries, all as they were built")
    if findings:
        raise click.exceptions.Exit(1)


@cache.command()
@_as_json
def stats(as_json: bool) -> None:
    """Count what is in the cache, and what happened in it."""
    from radam_codegen.tools.cache.describe import figures

    settings = current()
    found = store.stats(settings.cache_dir)
    if as_json:
        _print_json({"cache": str(settings.cache_dir), "limit": settings.cache_size, **vars(found)})
    else:
        _print(figures(settings.cache_dir, settings.cache_size, found))


def _print(text: str) -> None:
    # A path may hold bytes that are no text.
    click.echo(text.encode("utf-8", "backslashreplace").decode("utf-8"))


def _print_json(value: Any) -> None:
    click.echo(json.dumps(value, indent=2))
