"""The index of a bundle: what it holds, for whom, and the digest of each entry's manifest."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Mapping
from dataclasses import asdict, dataclass, field
from typing import Any

from radam_codegen._version import __version__
from radam_codegen.toolchain.abi import abi_version, cuda_abi_version
from radam_codegen.toolchain.cache.layout import KEY
from radam_codegen.toolchain.safe_json import read_json

__all__ = [
    "INDEX",
    "BundleIndex",
    "BundledCudaKernel",
    "BundledKernel",
    "BundledOperator",
    "CudaVariant",
    "Variant",
    "index_from_bytes",
    "index_to_bytes",
]

#: Name of the file.
INDEX = "bundle.json"

_FORMAT = 2

#: Stands for the digest while that is computed.
_NO_DIGEST = "0" * 64


@dataclass(frozen=True)
class Variant:
    """A kernel in C as it was compiled for one CPU.

    Attributes:
        cpu: Name of the CPU.
        machine: The kind of CPU, as ``platform.machine()`` calls it.
        needs: Features without which it must not run, sorted.
        key: Folder under ``kernels``.
        manifest: SHA-256 that the entry's manifest states of itself.
    """

    cpu: str
    machine: str
    needs: tuple[str, ...]
    key: str
    manifest: str


@dataclass(frozen=True)
class BundledKernel:
    """A kernel in C: SHA-256 of its source, and what it was compiled for."""

    source: str
    variants: tuple[Variant, ...]


@dataclass(frozen=True)
class CudaVariant:
    """A kernel in CUDA: one library for GPUs of several architectures.

    Attributes:
        machine: The kind of CPU beside the GPU, as ``platform.machine()`` calls it.
        architectures: 90 is ``sm_90``; sorted. There is PTX of the last one for newer GPUs.
        key: Folder under ``cuda-kernels``.
        manifest: SHA-256 that the entry's manifest states of itself.
    """

    machine: str
    architectures: tuple[int, ...]
    key: str
    manifest: str


@dataclass(frozen=True)
class BundledCudaKernel:
    """A kernel in CUDA: SHA-256 of its source, and a library per kind of CPU."""

    source: str
    variants: tuple[CudaVariant, ...]


@dataclass(frozen=True)
class BundledOperator:
    """The operator for one Paddle.

    Attributes:
        paddle: Version and commit.
        machine: The kind of CPU.
        key: Folder under ``operators``.
        manifest: SHA-256 that the entry's manifest states of itself.
    """

    paddle: str
    machine: str
    key: str
    manifest: str


@dataclass(frozen=True)
class BundleIndex:
    """All that a bundle holds.

    Attributes:
        version: Version of this package that made it.
        abi: Version of the kernel ABI.
        cuda_abi: Version of the CUDA kernel ABI.
        kernels: In C, by the name of the kernel's structure.
        cuda_kernels: In CUDA, likewise.
        operators: One per Paddle and kind of CPU.
        plans: SHA-256 by the name of the file under ``plans``.
    """

    version: str = field(default=__version__)
    abi: int = field(default_factory=abi_version)
    cuda_abi: int = field(default_factory=cuda_abi_version)
    kernels: Mapping[str, BundledKernel] = field(default_factory=dict)
    cuda_kernels: Mapping[str, BundledCudaKernel] = field(default_factory=dict)
    operators: tuple[BundledOperator, ...] = ()
    plans: Mapping[str, str] = field(default_factory=dict)


def index_to_bytes(index: BundleIndex) -> bytes:
    """The one text of an index, with a digest of itself."""
    content = {"format": _FORMAT, "sha256": _NO_DIGEST, **asdict(index)}
    text = json.dumps(content, indent=1, sort_keys=True, ensure_ascii=True) + "\n"
    return text.replace(_NO_DIGEST, hashlib.sha256(text.encode("ascii")).hexdigest()).encode(
        "ascii"
    )


def index_from_bytes(text: bytes) -> BundleIndex:
    """Read what :func:`index_to_bytes` wrote.

    Raises:
        ValueError: It is something else, or was changed since; the message is the end of a
            sentence.
    """
    content = read_json(text)
    if not isinstance(content, dict):
        raise ValueError("it is no index of a bundle")
    if content.get("format") != _FORMAT:
        raise ValueError(
            f"it is of format {str(content.get('format'))[:20]!r}, and radam_codegen {__version__} "
            f"reads format {_FORMAT}"
        )
    digest = str(content.get("sha256"))
    plain = text.replace(digest.encode("utf-8", "replace"), _NO_DIGEST.encode("ascii"))
    if digest != hashlib.sha256(plain).hexdigest():
        raise ValueError("it is not as it was written")
    try:
        return _index(content)
    except (KeyError, TypeError, AttributeError) as error:
        raise ValueError(f"it lacks something ({error})") from None


def _index(content: dict[str, Any]) -> BundleIndex:
    kernels = {
        _text(name): BundledKernel(
            _text(kernel["source"]), tuple(_variant(each) for each in kernel["variants"])
        )
        for name, kernel in content["kernels"].items()
    }
    cuda_kernels = {
        _text(name): BundledCudaKernel(
            _text(kernel["source"]), tuple(_cuda_variant(each) for each in kernel["variants"])
        )
        for name, kernel in content["cuda_kernels"].items()
    }
    operators = tuple(
        BundledOperator(
            _text(each["paddle"]),
            _text(each["machine"]),
            _key(each["key"]),
            _text(each["manifest"]),
        )
        for each in content["operators"]
    )
    plans = {_text(name): _text(digest) for name, digest in content["plans"].items()}
    return BundleIndex(
        version=_text(content["version"]),
        abi=_number(content["abi"]),
        cuda_abi=_number(content["cuda_abi"]),
        kernels=kernels,
        cuda_kernels=cuda_kernels,
        operators=operators,
        plans=plans,
    )


def _variant(each: dict[str, Any]) -> Variant:
    return Variant(
        _text(each["cpu"]),
        _text(each["machine"]),
        tuple(_text(feature) for feature in each["needs"]),
        _key(each["key"]),
        _text(each["manifest"]),
    )


def _cuda_variant(each: dict[str, Any]) -> CudaVariant:
    return CudaVariant(
        _text(each["machine"]),
        tuple(_number(architecture) for architecture in each["architectures"]),
        _key(each["key"]),
        _text(each["manifest"]),
    )


def _number(value: object) -> int:
    if not isinstance(value, int):
        raise TypeError("a number is missing")
    return value


def _text(value: object) -> str:
    if not isinstance(value, str):
        raise TypeError("text is missing")
    return value


def _key(value: object) -> str:
    if not KEY.fullmatch(_text(value)):
        raise TypeError("a key is none")
    return str(value)
