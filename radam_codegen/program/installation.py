"""The Paddle that is installed here."""

from __future__ import annotations

from pathlib import Path

import paddle
from paddle.base import core

from radam_codegen.toolchain import PaddleInstallation

__all__ = ["installed_paddle", "openmp_path", "python_module_path"]


def installed_paddle() -> PaddleInstallation:
    """What the operator is built for and linked with."""
    root = _folder()
    version = f"{paddle.version.full_version} ({paddle.version.commit})"
    cuda = paddle.is_compiled_with_cuda()
    return PaddleInstallation(
        version=f"{version} with CUDA {paddle.version.cuda()}" if cuda else version,
        include_dirs=(root / "include", root / "include" / "third_party"),
        libraries=(root / "libs" / "libphi_core.so", root / "libs" / "libcommon.so"),
        cuda=cuda,
    )


def openmp_path() -> Path:
    """Paddle's own OpenMP runtime; the file is missing where it brings none."""
    return _folder() / "libs" / "libiomp5.so"


def python_module_path() -> Path:
    """The extension module, as this process has loaded it."""
    return Path(core.libpaddle.__file__)


def _folder() -> Path:
    return Path(paddle.__file__).resolve().parent
