"""Kernels as a tree of plain C that builds one library, with what a C program needs of it.

CUDA sources of the same kernels can lie beside it, and build a library of their own.
"""

from __future__ import annotations

import hashlib
from collections.abc import Mapping, Sequence
from dataclasses import dataclass

from radam_codegen._resources import include_dir
from radam_codegen._version import __version__
from radam_codegen.codegen.render import environment
from radam_codegen.codegen.source import KernelSource
from radam_codegen.codegen.targets import C_TARGET, CUDA_TARGET
from radam_codegen.ir.dtypes import DType
from radam_codegen.ir.plan import KernelStructure

__all__ = ["standalone_files"]

_HEADERS = ("kernel.h", "launcher.h", "registry.h")
_CUDA_HEADERS = ("cuda_kernel.h", "cuda_registry.h")
_TEMPLATES = {
    "CMakeLists.txt": "standalone/CMakeLists.txt.j2",
    "README.md": "standalone/README.md.j2",
    "example/main.c": "standalone/main.c.j2",
    "src/registry.c": "standalone/registry.c.j2",
}
_CUDA_TEMPLATES = {"src/cuda/registry.c": "standalone/cuda_registry.c.j2"}

#: Longest name of a file, without its end, that every file system takes.
_LONGEST_STEM = 200

#: The number 1 as C has it in an array of the type.
_ONE = {
    DType.FLOAT64: "1.0",
    DType.FLOAT32: "1.0f",
    DType.BFLOAT16: "0x3f80",
    DType.FLOAT16: "0x3c00",
}
#: Digits that tell every number of the type apart; the others are shown as their bits.
_DIGITS = {DType.FLOAT64: 17, DType.FLOAT32: 9}


@dataclass(frozen=True)
class _Kernel:
    name: str
    stem: str
    sha256: str
    cuda_sha256: str | None


def standalone_files(
    kernels: Sequence[tuple[KernelStructure, KernelSource]],
    cuda: Mapping[str, KernelSource],
) -> dict[str, str]:
    """Render the tree.

    Args:
        kernels: At least one; each once.
        cuda: The same in CUDA, by name; empty: plain C only.

    Returns:
        The content of each file by its path, which has ``/`` between folders.
    """
    ordered = sorted(kernels, key=lambda each: each[0].name)
    listed = [
        _Kernel(
            source.name,
            _stem(source.name),
            source.sha256,
            cuda[source.name].sha256 if cuda else None,
        )
        for _, source in ordered
    ]
    files = {f"src/{_stem(source.name)}.c": source.text for _, source in ordered}
    for name, cuda_source in cuda.items():
        files[f"src/cuda/{_stem(name)}.cu"] = cuda_source.text
    for name in (*_HEADERS, *(_CUDA_HEADERS if cuda else ())):
        path = f"radam_codegen/{name}"
        files[f"include/{path}"] = (include_dir() / path).read_text(encoding="utf-8")
    shown, _ = ordered[0]
    body = shown.classes[0]
    types = C_TARGET.types
    templates = {**_TEMPLATES, **(_CUDA_TEMPLATES if cuda else {})}
    for path, template in templates.items():
        files[path] = (
            environment()
            .get_template(template)
            .render(
                version=__version__,
                kernels=listed,
                flags=C_TARGET.flags,
                cuda=bool(cuda),
                cuda_flags=CUDA_TARGET.flags,
                name=shown.name,
                type={
                    "param": types[body.param_dtype],
                    "grad": types[body.grad_dtype],
                    "moment": types[body.moment_dtype],
                },
                one={"param": _ONE[body.param_dtype], "grad": _ONE[body.grad_dtype]},
                master=body.master,
                digits=_DIGITS.get(body.param_dtype),
            )
        )
    return files


def _stem(name: str) -> str:
    """A name for the kernel's file and function: its own, where that is not too long."""
    if len(name) <= _LONGEST_STEM:
        return name
    digest = hashlib.sha256(name.encode("ascii")).hexdigest()[:16]
    return f"{name[: _LONGEST_STEM - 18]}__{digest}"
