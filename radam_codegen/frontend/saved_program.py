"""Reading a saved static program's optimizer steps without Paddle, from either of its formats.

Paddle's own readers need our operator to be registered, hence compiled, and trust the file. What is
wanted here is one attribute of one kind of operator, and the file may come from anywhere.
"""

from __future__ import annotations

import json
import os
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from radam_codegen.errors import PlanError, ProgramError
from radam_codegen.ir.launch import LaunchSpec
from radam_codegen.ir.structure_name import structure_from_name

__all__ = ["is_saved_program", "launches_of_document", "program_file", "read_launches"]

_STEP = "radam_codegen_step"
_LAUNCH = "launch"
_SUFFIXES = (".json", ".pdmodel")


def is_saved_program(document: object) -> bool:
    """Whether a JSON document is a program of Paddle's PIR."""
    if not isinstance(document, dict) or not isinstance(document.get("base_code"), dict):
        return False
    return bool(document["base_code"].get("magic") == "pir")


def read_launches(prefix: Path) -> tuple[LaunchSpec, ...]:
    """Read which kernels a saved program launches, with their numbers, in the program's order.

    Args:
        prefix: What was given to ``paddle.static.save``, or the file ``PREFIX.json`` (PIR) or
            ``PREFIX.pdmodel`` (legacy) itself.

    Raises:
        ProgramError: There is no such file, or it holds no program, or no step of ours.
    """
    try:
        path = program_file(prefix)
        content = path.read_bytes()
    except OSError as error:  # a name that is too long for any file, too
        raise ProgramError(f"{str(prefix)!r} cannot be read: {error.strerror}") from error
    if content.lstrip()[:1] == b"{":
        return launches_of_document(_parse(content, path), path)
    try:
        texts = list(_legacy_texts(content))
    except ValueError as error:
        raise ProgramError(
            f"{str(path)!r} is not a saved program: {error}. Save the program again with "
            "paddle.static.save."
        ) from None
    return _launches(texts, path)


def launches_of_document(document: object, path: Path) -> tuple[LaunchSpec, ...]:
    """Like :func:`read_launches`, of the JSON document that was read from ``path``."""
    if not is_saved_program(document):
        raise ProgramError(f"{str(path)!r} is JSON, but not a program that Paddle saved.")
    return _launches(list(_pir_texts(document)), path)


def program_file(prefix: Path) -> Path:
    """Return the file of a saved program, given what it was saved as, or the file itself.

    Raises:
        ProgramError: There is none, or there are two.
    """
    if os.path.isfile(prefix):  # False, too, for a name that is too long for any file
        return prefix
    there = [
        each for each in (Path(f"{prefix}{suffix}") for suffix in _SUFFIXES) if os.path.isfile(each)
    ]
    if len(there) == 1:
        return there[0]
    if there:
        raise ProgramError(
            f"{str(prefix)!r} stands for {there[0].name!r} and {there[1].name!r}; name one of them."
        )
    raise ProgramError(
        f"There is no saved program {str(prefix)!r}: neither it nor the same with .json or "
        ".pdmodel is a file."
    )


def _parse(content: bytes, path: Path) -> object:
    try:
        return json.loads(content)
    except (ValueError, RecursionError) as error:
        reason = "nested too deep" if isinstance(error, RecursionError) else str(error)
        raise ProgramError(
            f"{str(path)!r} is not valid JSON ({reason}); save the program again."
        ) from None


def _launches(texts: list[str], path: Path) -> tuple[LaunchSpec, ...]:
    if not texts:
        raise ProgramError(
            f"The program {str(path)!r} has no step of radam_codegen: it is a startup program, was "
            "pruned to its forward pass, or uses another optimizer. Save the main program after "
            "minimize."
        )
    launches = []
    for text in texts:
        try:
            launch = LaunchSpec.from_text(text)
            if structure_from_name(launch.structure.name) != launch.structure:
                raise PlanError("its classes of tensors contradict themselves")
        except PlanError as error:
            raise ProgramError(f"The program {str(path)!r} is damaged: {error}") from error
        launches.append(launch)
    return tuple(launches)


# ---- PIR: JSON ----------------------------------------------------------------------------------


def _pir_texts(document: object) -> Iterator[str]:
    """Launch attributes in the order of the operators. No recursion: the file may nest deeply."""
    stack = [document]
    while stack:
        value = stack.pop()
        if isinstance(value, list):
            stack.extend(reversed(value))
        elif isinstance(value, dict):
            if str(value.get("#")).rpartition(".")[2].rstrip("_") == _STEP:
                yield from _pir_attribute(value.get("A"))
            else:
                stack.extend(reversed(list(value.values())))


def _pir_attribute(attributes: object) -> Iterator[str]:
    for each in attributes if isinstance(attributes, list) else []:
        if isinstance(each, dict) and each.get("N") == _LAUNCH:
            value: Any = each.get("AT")
            text = value.get("D") if isinstance(value, dict) else None
            yield text if isinstance(text, str) else ""


# ---- Legacy: the protocol buffer ProgramDesc ----------------------------------------------------

# Field numbers of paddle/fluid/framework/framework.proto.
_PROGRAM_BLOCKS = 1
_BLOCK_OPS = 4
_OP_TYPE, _OP_ATTRS = 3, 4
_ATTR_NAME, _ATTR_STRING = 1, 5


def _legacy_texts(content: bytes) -> Iterator[str]:
    blocks = [value for number, value in _fields(content) if number == _PROGRAM_BLOCKS]
    if not blocks:
        raise ValueError("it has no blocks")
    for block in blocks:
        for number, op in _fields(block):
            if number == _BLOCK_OPS:
                yield from _legacy_attribute(op)


def _legacy_attribute(op: bytes) -> Iterator[str]:
    fields = list(_fields(op))
    if (_OP_TYPE, _STEP.encode()) not in fields:
        return
    for number, attribute in fields:
        if number == _OP_ATTRS:
            parts = dict(_fields(attribute))
            if parts.get(_ATTR_NAME) == _LAUNCH.encode():
                yield parts.get(_ATTR_STRING, b"").decode("utf-8", "replace")


def _fields(message: bytes) -> Iterator[tuple[int, bytes]]:
    """Fields of a message that are made of bytes: number and content. Numbers are skipped."""
    at = 0
    while at < len(message):
        tag, at = _varint(message, at)
        kind = tag & 7
        if kind == 0:
            _, at = _varint(message, at)
            continue
        size = {1: 8, 5: 4}.get(kind)
        if kind == 2:
            size, at = _varint(message, at)
        if size is None:
            raise ValueError(f"byte {at} begins no field of a protocol buffer")
        if at + size > len(message):
            raise ValueError("it ends in the middle of a field")
        if kind == 2:
            yield tag >> 3, message[at : at + size]
        at += size


def _varint(message: bytes, at: int) -> tuple[int, int]:
    value = 0
    for count in range(10):  # 64 bits
        if at + count >= len(message):
            raise ValueError("it ends in the middle of a field")
        byte = message[at + count]
        value |= (byte & 0x7F) << (7 * count)
        if byte < 0x80:
            return value, at + count + 1
    raise ValueError(f"byte {at} begins no number of a protocol buffer")
