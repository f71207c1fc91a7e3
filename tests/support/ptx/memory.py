"""Memory of a GPU, in which every access is checked."""

from __future__ import annotations

from typing import Any

import numpy as np

from support.ptx.reader import Instruction

__all__ = ["GlobalMemory", "SharedMemory"]

Array = np.ndarray[Any, np.dtype[Any]]

_BASE = 0x7F00_0000_0000
#: Nothing lies between two arrays; wider than any access.
_GAP = 64


class GlobalMemory:
    """Arrays, each at an address of its own."""

    def __init__(self) -> None:
        self._parts: list[Array] = []
        self._size = 0
        self._bytes = np.zeros(0, np.uint8)
        self._exists = np.zeros(0, bool)
        self._fixed = np.zeros(0, bool)
        self._written = np.zeros(0, bool)
        self._constant = np.zeros(0, bool)
        self._places: list[tuple[int, int, bool]] = []

    def add(self, array: Array, offset: int = 0, fixed: bool = False) -> int:
        """Put an array in, ``offset`` bytes behind a multiple of 64, and return its address."""
        begin = self._size + _GAP + offset
        self._places.append((begin, array.nbytes, fixed))
        self._parts.append(np.frombuffer(array.tobytes(), np.uint8))
        self._size = -(-(begin + array.nbytes) // _GAP) * _GAP
        return _BASE + begin

    def close(self) -> None:
        """Nothing is added any more."""
        self._bytes = np.full(self._size + _GAP, 0xA5, np.uint8)
        self._exists = np.zeros(self._bytes.size, bool)
        self._fixed = np.zeros(self._bytes.size, bool)
        for (begin, size, fixed), part in zip(self._places, self._parts):
            self._bytes[begin : begin + size] = part
            self._exists[begin : begin + size] = True
            self._fixed[begin : begin + size] = fixed
        self.begin_launch()

    def begin_launch(self) -> None:
        """What one launch writes, another may read by instructions that want constant memory."""
        self._written = np.zeros(self._bytes.size, bool)
        self._constant = np.zeros(self._bytes.size, bool)

    def get(self, address: int, like: Array) -> Array:
        """The array that lies at an address."""
        begin = address - _BASE
        raw = self._bytes[begin : begin + like.nbytes].copy()
        return raw.view(like.dtype).reshape(like.shape)

    def load(self, at: Instruction, address: Array, size: int, count: int) -> list[Array]:
        """``count`` neighbours of ``size`` bytes each, per thread."""
        begin = self._checked(at, address, size * count)
        if ".nc" in at.opcode:
            if self._written[begin].any():
                raise at.error("reads what this launch wrote as if it were constant")
            self._constant[begin] = True
        words = self._bytes.view(f"u{size}")
        return [words[begin // size + k] for k in range(count)]

    def store(self, at: Instruction, address: Array, size: int, values: list[Array]) -> None:
        """Several neighbours of ``size`` bytes each, per thread."""
        begin = self._checked(at, address, size * len(values))
        if self._fixed[begin].any():
            raise at.error("writes what is only to be read")
        if self._constant[begin].any():
            raise at.error("writes what this launch read as if it were constant")
        if np.unique(begin).size != begin.size:
            raise at.error("several threads write to one place")
        words = self._bytes.view(f"u{size}")
        for k, value in enumerate(values):
            words[begin // size + k] = value
        self._written[begin] = True

    def _checked(self, at: Instruction, address: Array, size: int) -> Array:
        begin = address.astype(np.int64) - _BASE
        if (begin % size).any():
            raise at.error(f"the address is no multiple of {size}")
        inside = (begin >= 0) & (begin < self._bytes.size - size)
        if not inside.all() or not (self._exists[begin] & self._exists[begin + size - 1]).all():
            raise at.error("accesses what is no array")
        return begin


class SharedMemory:
    """The shared memory of all blocks of a grid."""

    def __init__(self, blocks: int, size: int) -> None:
        self._size = -(-size // 8) * 8
        self._bytes = np.zeros(blocks * self._size, np.uint8)
        self._written = np.zeros(blocks * self._size, bool)

    def load(self, at: Instruction, block: Array, address: Array, size: int) -> Array:
        begin = self._checked(at, block, address, size)
        if not self._written[begin].all():
            raise at.error("reads what was never written")
        return self._bytes.view(f"u{size}")[begin // size]

    def store(self, at: Instruction, block: Array, address: Array, size: int, value: Array) -> None:
        begin = self._checked(at, block, address, size)
        if np.unique(begin).size != begin.size:
            raise at.error("several threads write to one place")
        self._bytes.view(f"u{size}")[begin // size] = value
        self._written[begin] = True

    def _checked(self, at: Instruction, block: Array, address: Array, size: int) -> Array:
        address = address.astype(np.int64)
        if (address % size).any() or (address + size > self._size).any():
            raise at.error("accesses no shared memory")
        return block * self._size + address
