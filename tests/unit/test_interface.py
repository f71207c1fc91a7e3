"""The declarations that are kept are those of the headers."""

from __future__ import annotations

from radam_codegen.runtime import interface


def test_the_kept_declarations_are_those_of_the_headers() -> None:
    kept = interface.DECLARATIONS.read_text(encoding="utf-8")
    assert kept == interface.declarations(), (
        "a header changed: run python -m radam_codegen.runtime.interface"
    )
