"""``radam-codegen demo``."""

from __future__ import annotations

import json
import os
import warnings
from typing import Any

import click

__all__ = ["demo"]


@click.command()
@click.option("--epochs", type=click.IntRange(min=1), default=18, show_default=True)
@click.option("--seed", type=click.IntRange(0, 2**31 - 1), default=7, show_default=True)
@click.option(
    "--ir",
    type=click.Choice(["pir", "legacy"]),
    default="pir",
    show_default=True,
    help="Which of Paddle's two static IRs the programs are in.",
)
@click.option(
    "--json",
    "json_file",
    type=click.File("w", lazy=False),
    help="Write the result to FILE as well; - is standard output.",
)
def demo(epochs: int, seed: int, ir: str, json_file: Any) -> None:
    """Train a small network with native RAdam and with a generated kernel, and compare.

    Exit status 1 means that the two did not learn the same.
    """
    # Both are read when Paddle is imported.
    os.environ["FLAGS_enable_pir_api"] = "1" if ir == "pir" else "0"
    os.environ.setdefault("GLOG_minloglevel", "2")
    # Paddle's advice on Paddle's internals, in the middle of a progress bar.
    warnings.filterwarnings("ignore", module=r"paddle\.")

    from rich.console import Console

    from radam_codegen.tools.demo.report import print_result, run_with_progress, to_json

    # Standard output stays clean for a program that reads the JSON from it.
    console = Console(stderr=getattr(json_file, "name", None) == "<stdout>")
    result = run_with_progress(console, epochs=epochs, seed=seed)
    print_result(console, result)
    if json_file is not None:
        json.dump(to_json(result), json_file, indent=2)
        json_file.write("\n")
    if not result.agrees:
        console.print(
            "The two optimizers did not learn the same: something is wrong with this installation."
        )
        raise click.exceptions.Exit(1)
