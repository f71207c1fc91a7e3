"""What a kernel needs of a GPU, and how many of its threads run at once therefore."""

from __future__ import annotations

import re
from dataclasses import dataclass

__all__ = ["LIMITS", "Limits", "Resources", "occupancy", "read_resources"]

_ARCHITECTURE = re.compile(r"^\s*arch = sm_(\d+)[a-z]?\s*$")
_FUNCTION = re.compile(r"^\s*Function (\S+?):\s*$")
_NUMBER = re.compile(r"\b(REG|STACK|SHARED|LOCAL):(\d+)")


@dataclass(frozen=True)
class Resources:
    """What one kernel needs on one architecture.

    Attributes:
        architecture: 90 is ``sm_90``.
        name: The kernel's.
        registers: Per thread.
        stack: Bytes of local memory per thread that spilled registers and arrays take.
        local: Bytes of other local memory per thread.
        shared: Bytes of shared memory per block.
    """

    architecture: int
    name: str
    registers: int
    stack: int
    local: int
    shared: int


def read_resources(text: str) -> tuple[Resources, ...]:
    """Read what ``cuobjdump --dump-resource-usage`` printed, in its order."""
    architecture, name = 0, ""
    found = []
    for line in text.splitlines():
        heading = _ARCHITECTURE.match(line)
        if heading is not None:
            architecture = int(heading[1])
            continue
        function = _FUNCTION.match(line)
        if function is not None:
            name = function[1]
            continue
        numbers = {key: int(number) for key, number in _NUMBER.findall(line)}
        if name and "REG" in numbers:
            found.append(
                Resources(
                    architecture,
                    name,
                    numbers["REG"],
                    numbers["STACK"],
                    numbers["LOCAL"],
                    numbers["SHARED"],
                )
            )
            name = ""
    return tuple(found)


@dataclass(frozen=True)
class Limits:
    """What one multiprocessor holds.

    Attributes:
        threads: Most threads at once.
        blocks: Most blocks at once.
        shared: Bytes of shared memory, all blocks together.
        reserved: Bytes of shared memory that every block takes beside its own.
    """

    threads: int
    blocks: int
    shared: int
    reserved: int


#: By architecture: the table of the compute capabilities in NVIDIA's CUDA programming guide.
LIMITS = {
    75: Limits(threads=1024, blocks=16, shared=64 << 10, reserved=0),
    80: Limits(threads=2048, blocks=32, shared=164 << 10, reserved=1 << 10),
    90: Limits(threads=2048, blocks=32, shared=228 << 10, reserved=1 << 10),
    100: Limits(threads=2048, blocks=32, shared=228 << 10, reserved=1 << 10),
    120: Limits(threads=1536, blocks=24, shared=100 << 10, reserved=1 << 10),
}

#: The same for every architecture of the table.
_REGISTERS = 65536
#: Registers are given to a warp in portions of this size, shared memory to a block.
_REGISTER_PORTION = 256
_SHARED_PORTION = 128
_WARP = 32


def occupancy(resources: Resources, block_threads: int) -> float:
    """The share of a multiprocessor's threads that a kernel can fill, from 0 to 1.

    Args:
        resources: For an architecture of :data:`LIMITS`.
        block_threads: Threads per block; a multiple of 32.

    Examples:
        >>> from radam_codegen.tools.cuda.resources import Resources, occupancy
        >>> occupancy(Resources(90, "f", registers=64, stack=0, local=0, shared=0), 256)
        0.5
    """
    limits = LIMITS[resources.architecture]
    warps = block_threads // _WARP
    per_warp = _rounded_up(resources.registers * _WARP, _REGISTER_PORTION)
    # A multiprocessor is four, each with a quarter of the registers.
    by_registers = _REGISTERS // 4 // per_warp * 4 // warps
    shared = _rounded_up(resources.shared + limits.reserved, _SHARED_PORTION)
    by_shared = limits.shared // shared if shared else limits.blocks
    blocks = min(limits.blocks, limits.threads // block_threads, by_registers, by_shared)
    return blocks * block_threads / limits.threads


def _rounded_up(number: int, portion: int) -> int:
    return -(-number // portion) * portion
