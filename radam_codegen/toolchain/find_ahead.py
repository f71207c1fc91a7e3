"""What was compiled ahead of time, for who wants to run it: no compiler is asked anything."""

from __future__ import annotations

import warnings
from typing import Callable

from radam_codegen.codegen.source import KernelSource
from radam_codegen.config import Config
from radam_codegen.errors import ArtifactError, ConfigError
from radam_codegen.toolchain.bundle import Bundle, Miss, aot_command, open_bundle
from radam_codegen.toolchain.cpu import cpu_features
from radam_codegen.toolchain.gpus import gpus_here
from radam_codegen.toolchain.recipe import Artifact

__all__ = ["find_cuda_kernel", "find_kernel", "find_operator"]

_warned: set[str] = set()


def find_kernel(source: KernelSource, config: Config) -> Artifact | None:
    """Find a kernel in the bundle that the settings name.

    Returns:
        The kernel; None where it is to be sought elsewhere.

    Raises:
        ArtifactError: It is not there, and the mode is ``aot-only``; the message says what to do.
        ConfigError: The mode is ``aot-only``, and no bundle is named.
    """
    return _find(
        config,
        f"The kernel {source.name}",
        ("--kernel", source.name),
        lambda bundle: bundle.find_kernel(source, cpu_features()),
    )


def find_cuda_kernel(source: KernelSource, config: Config) -> Artifact | None:
    """Like :func:`find_kernel`, for a kernel in CUDA that a GPU of this machine can run.

    Where there is none, what would run on any is found: it can be loaded and looked at.
    """
    gpus = gpus_here() if config.aot is not None else ()
    for_these = tuple(word for gpu in gpus for word in ("--arch", str(gpu)))
    return _find(
        config,
        f"The CUDA kernel {source.name}",
        ("--kernel", source.name, "--target", "cuda", *for_these),
        lambda bundle: bundle.find_cuda_kernel(source, gpus),
    )


def find_operator(
    paddle: str, source: str, config: Config, *, cuda: bool = False
) -> Artifact | None:
    """Like :func:`find_kernel`, for the operator of a version of Paddle and its source.

    Args:
        paddle: The version.
        source: The operator's source.
        config: The settings.
        cuda: Whether that Paddle can use a GPU.
    """
    return _find(
        config,
        f"The operator for Paddle {paddle}",
        ("--operator",),
        lambda bundle: bundle.find_operator(paddle, source, cuda=cuda),
    )


def _find(
    config: Config,
    wanted: str,
    options: tuple[str, ...],
    find: Callable[[Bundle], Artifact | Miss],
) -> Artifact | None:
    only = config.mode == "aot-only"
    if config.aot is None:
        if only:
            raise ConfigError(
                "The mode is aot-only, but no bundle is named. Set RADAM_CODEGEN_AOT to the folder "
                "that `radam-codegen aot` made, or leave RADAM_CODEGEN_MODE at auto."
            )
        return None
    try:
        bundle = open_bundle(config.aot)
        found, description = find(bundle), bundle.describe()
    except (ArtifactError, OSError) as error:
        found, description = Miss(str(error).rstrip("."), there=True), "cannot be read"
    if isinstance(found, Artifact):
        return found
    if only:
        raise ArtifactError(
            f"{wanted} is not to be had from the bundle {config.aot}, and mode aot-only compiles "
            f"nothing.\n"
            f"  why: {found.reason}\n"
            f"  the bundle: {description}\n"
            f"  to make it, on a machine with a compiler: {aot_command(config.aot, *options)}"
        )
    if found.there:
        _warn_once(
            f"The bundle {config.aot} is not used for all: {found.reason}. To bring it up to date: "
            f"{aot_command(config.aot, *options)}"
        )
    return None


def _warn_once(text: str) -> None:
    if text not in _warned:
        _warned.add(text)
        warnings.warn(text, RuntimeWarning, stacklevel=2)
