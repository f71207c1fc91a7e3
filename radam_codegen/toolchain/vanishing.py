"""Using a library between its check and its loading."""

from __future__ import annotations

from typing import Callable, TypeVar

from radam_codegen.errors import ArtifactError, OperatorError
from radam_codegen.toolchain.recipe import Artifact

__all__ = ["again_if_gone"]

_Result = TypeVar("_Result")

_MOST_ATTEMPTS = 3


def again_if_gone(
    obtain: Callable[[], Artifact], use: Callable[[Artifact], _Result]
) -> tuple[Artifact, _Result]:
    """Obtain a library and use its file, all over again where the file vanished in between.

    Another process may make room in the cache, or clear it, at any time. Once a library is loaded
    its file is needed no more.

    Args:
        obtain: Finds the library or builds it.
        use: Loads it.

    Returns:
        The library, and what ``use`` returned.
    """
    for _ in range(_MOST_ATTEMPTS - 1):
        artifact = obtain()
        try:
            return artifact, use(artifact)
        except (ArtifactError, OperatorError):
            if artifact.library.exists():
                raise
    artifact = obtain()
    return artifact, use(artifact)
