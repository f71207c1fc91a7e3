"""A library whose file goes between its check and its loading is looked for again."""

from __future__ import annotations

import pytest
from support.hand_written import hand_written_source
from toolchain.conftest import CountingCompiler

from radam_codegen.config import Config
from radam_codegen.errors import ArtifactError
from radam_codegen.runtime import LoadedKernel, load_kernel
from radam_codegen.toolchain import Artifact, build_kernel
from radam_codegen.toolchain.cache import clear_cache
from radam_codegen.toolchain.vanishing import again_if_gone


@pytest.mark.parametrize("times", [1, 2])
def test_a_library_that_goes_is_built_again(
    config: Config, cc: CountingCompiler, times: int
) -> None:
    uses: list[Artifact] = []

    def use(artifact: Artifact) -> LoadedKernel:
        uses.append(artifact)
        if len(uses) <= times:
            clear_cache(config.cache_dir)  # as another process might, just now
        return load_kernel(artifact.library)

    artifact, kernel = again_if_gone(lambda: build_kernel(hand_written_source(), config), use)
    assert (kernel.name, kernel.path) == ("hand_written", artifact.library)
    assert cc.compiles == len(uses) == times + 1


def test_a_library_that_goes_every_time_is_an_error(config: Config, cc: CountingCompiler) -> None:
    def use(artifact: Artifact) -> LoadedKernel:
        clear_cache(config.cache_dir)
        return load_kernel(artifact.library)

    with pytest.raises(ArtifactError, match="cannot be loaded"):
        again_if_gone(lambda: build_kernel(hand_written_source(), config), use)
    assert cc.compiles == 3


def test_a_library_that_is_there_and_fails_is_an_error_at_once(
    config: Config, cc: CountingCompiler
) -> None:
    def use(artifact: Artifact) -> None:
        raise ArtifactError("no good")

    with pytest.raises(ArtifactError, match="no good"):
        again_if_gone(lambda: build_kernel(hand_written_source(), config), use)
    assert cc.compiles == 1
