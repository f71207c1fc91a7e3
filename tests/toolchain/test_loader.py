from __future__ import annotations

import ctypes
from pathlib import Path

import pytest
from support.hand_written import hand_written_source, source_of

from radam_codegen.config import Config
from radam_codegen.errors import AbiMismatchError, ArtifactError
from radam_codegen.runtime import load_kernel, load_operator
from radam_codegen.runtime.interface import ffi
from radam_codegen.toolchain import abi_version, build_kernel


def edited(old: str, new: str) -> str:
    text = hand_written_source().text
    assert old in text
    return text.replace(old, new)


def test_a_kernel_describes_itself(config: Config) -> None:
    loaded = load_kernel(build_kernel(hand_written_source(), config).library)
    assert loaded.name == "hand_written"
    assert loaded.ir_sha256 == "0" * 64
    assert loaded.body_count == 2
    assert loaded.kernel.abi_version == abi_version()
    assert loaded.address == int(ffi().cast("intptr_t", loaded.kernel))
    assert loaded.address != 0


def test_a_library_is_loaded_once(config: Config) -> None:
    path = build_kernel(hand_written_source(), config).library
    assert load_kernel(path).address == load_kernel(path).address


def test_nothing_else_is_exported(config: Config) -> None:
    source = hand_written_source("int helper(void);\nint helper(void) { return 1; }\n")
    library = ctypes.CDLL(str(build_kernel(source, config).library))
    assert library.radam_codegen_kernel is not None
    with pytest.raises(AttributeError):
        _ = library.helper


def test_another_abi_is_refused(config: Config) -> None:
    text = edited("    RADAM_CODEGEN_ABI_VERSION,", "    RADAM_CODEGEN_ABI_VERSION + 1,")
    built = build_kernel(source_of(text), config)
    version = abi_version()
    with pytest.raises(AbiMismatchError, match=f"version {version + 1} .* version {version}"):
        load_kernel(built.library)


def test_another_chunk_size_is_refused(config: Config) -> None:
    built = build_kernel(source_of(edited("RADAM_CODEGEN_CHUNK,", "4096,")), config)
    with pytest.raises(AbiMismatchError, match="chunks of 4096 elements"):
        load_kernel(built.library)


def test_a_library_that_is_no_kernel_is_refused(config: Config) -> None:
    built = build_kernel(source_of("int nothing;\n"), config)
    with pytest.raises(ArtifactError, match="is no kernel"):
        load_kernel(built.library)
    with pytest.raises(ArtifactError, match="is not the operator"):
        load_operator(built.library)


@pytest.mark.parametrize("content", [None, b"", b"not a library"])
def test_a_file_that_is_no_library_is_refused(tmp_path: Path, content: bytes | None) -> None:
    path = tmp_path / "kernel.so"
    if content is not None:
        path.write_bytes(content)
    with pytest.raises(ArtifactError, match="cannot be loaded"):
        load_kernel(path)
