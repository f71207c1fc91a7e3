"""Running a kernel: all threads of a grid, each basic block for those that are at it."""

from __future__ import annotations

import re
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np

from support.ptx.memory import GlobalMemory, SharedMemory
from support.ptx.operations import DTYPES, bits_of, compute, view
from support.ptx.reader import Entry, Instruction, PtxError

__all__ = ["launch"]

Array = np.ndarray[Any, np.dtype[Any]]
Read = Callable[[Array], Array]
Run = Callable[[Array], None]

_WARP = 32
_PARAMS_AT = 0x1000
_CONSTANT = re.compile(r"0f([0-9A-F]{8})|0d([0-9A-F]{16})|(-?(?:0x[0-9a-fA-F]+|\d+))U?")
_SPECIAL = ("%tid.x", "%ntid.x", "%ctaid.x", "%nctaid.x")


def launch(
    entry: Entry, memory: GlobalMemory, blocks: int, arguments: Sequence[bytes], most: int = 10_000
) -> None:
    """Run a kernel to its end.

    Args:
        entry: The kernel.
        memory: What its pointers lead to.
        blocks: How many of them, of as many threads as it is compiled for.
        arguments: The bytes of each parameter.
        most: Rounds after which it counts as one that never ends.

    Raises:
        PtxError: An instruction is not known or does what it must not.
    """
    with np.errstate(all="ignore"):
        memory.begin_launch()
        _Machine(entry, memory, blocks, arguments).run(most)


@dataclass
class _Step:
    """A basic block, ready to be run."""

    runs: list[Run]
    last: Instruction | None
    #: Which threads jump, and where to.
    guard: Read | None
    target: int


class _Machine:
    def __init__(
        self, entry: Entry, memory: GlobalMemory, blocks: int, arguments: Sequence[bytes]
    ) -> None:
        self._entry, self._memory = entry, memory
        lanes = blocks * entry.threads
        self._lane = np.arange(lanes)
        self._block = self._lane // entry.threads
        thread = (self._lane % entry.threads).astype(np.uint32)
        self._special = {
            "%tid.x": thread,
            "%ntid.x": np.full(lanes, entry.threads, np.uint32),
            "%ctaid.x": self._block.astype(np.uint32),
            "%nctaid.x": np.full(lanes, blocks, np.uint32),
        }
        self._registers: dict[str, Array] = {}
        self._symbols: dict[str, int] = {}
        given = b""
        for (name, size), argument in zip(entry.params.items(), arguments):
            if len(argument) != size:
                raise PtxError(f"{name} has {size} bytes, but {len(argument)} are given")
            self._symbols[name] = _PARAMS_AT + len(given)
            given += argument + bytes(-size % 16)
        self._params = np.frombuffer(given, np.uint8)
        shared = 0
        for name, (size, align) in entry.shared.items():
            shared = -(-shared // align) * align
            self._symbols[name] = shared
            shared += size
        self._shared = SharedMemory(blocks, shared)
        self._steps = [self._prepared(index) for index in range(len(entry.blocks))]

    def run(self, most: int) -> None:
        end = len(self._steps)
        at = np.zeros(self._lane.size, np.int64)
        waits = np.zeros(self._lane.size, bool)
        for _ in range(most):
            ready = ~waits & (at < end)
            if not ready.any():
                if not waits.any():
                    return
                self._pass_barrier(at, waits)
                continue
            # The threads that are furthest behind go first, so that all meet again.
            place = int(at[ready].min())
            step = self._steps[place]
            lanes = self._lane[ready & (at == place)]
            for run in step.runs:
                run(lanes)
            at[lanes] = place + 1
            if step.last is not None:
                kind = step.last.opcode.partition(".")[0]
                if kind == "bar":
                    waits[lanes] = True
                elif step.guard is None:
                    at[lanes] = step.target
                else:
                    at[lanes[step.guard(lanes)]] = step.target
        raise PtxError(f"{self._entry.name} does not end")

    def _pass_barrier(self, at: Array, waits: Array) -> None:
        by_block = waits.reshape(-1, self._entry.threads)
        places = at.reshape(-1, self._entry.threads)
        some = by_block.any(1)
        together = by_block.all(1) & (places == places[:, :1]).all(1)
        if (some & ~together).any():
            raise PtxError(f"{self._entry.name}: not all threads of a block come to one barrier")
        waits[:] = False

    def _prepared(self, index: int) -> _Step:
        instructions = self._entry.blocks[index].instructions
        runs = []
        for each in instructions:
            kind = each.opcode.partition(".")[0]
            if kind in ("bra", "bar", "ret"):
                return self._ended(runs, each)
            if each.guard:
                raise each.error("only jumps are known under a condition")
            runs.append(self._prepare(each))
        return _Step(runs, None, None, 0)

    def _ended(self, runs: list[Run], last: Instruction) -> _Step:
        if last.opcode == "ret" and not last.guard:
            return _Step(runs, last, None, len(self._entry.blocks))
        if last.opcode == "bar.sync" and last.operands == ("0",) and not last.guard:
            return _Step(runs, last, None, 0)
        if last.opcode not in ("bra", "bra.uni") or len(last.operands) != 1:
            raise last.error("the instruction is not known")
        target = self._entry.labels[last.operands[0]]
        if not last.guard:
            return _Step(runs, last, None, target)
        taken = self._reader(last, last.guard.lstrip("!"), "pred")
        if last.guard.startswith("!"):
            return _Step(runs, last, lambda lanes: ~taken(lanes), target)
        return _Step(runs, last, taken, target)

    # ---- Operands ------------------------------------------------------------------------------

    def _register(self, at: Instruction, name: str) -> Array:
        if name not in self._registers:
            prefix = re.sub(r"\d+$", "", name)
            if prefix not in self._entry.registers:
                raise at.error(f"{name} is no register")
            bits = self._entry.registers[prefix]
            dtype = "?" if bits == 1 else f"u{bits // 8}"
            self._registers[name] = np.zeros(self._lane.size, dtype)
        return self._registers[name]

    def _reader(self, at: Instruction, text: str, dtype: str) -> Read:
        if text in _SPECIAL:
            special = self._special[text]
            return lambda lanes: view(special[lanes], dtype)
        if text.startswith("%"):
            register = self._register(at, text)
            return lambda lanes: view(register[lanes], dtype)
        constant = view(np.asarray(self._constant(at, text, dtype)), dtype)
        return lambda lanes: constant

    def _constant(self, at: Instruction, text: str, dtype: str) -> Array:
        if dtype == "pred":
            return np.array(bool(int(text)))
        bits = int(dtype[1:])
        number = self._symbols.get(text)
        if number is None:
            found = _CONSTANT.fullmatch(text)
            if not found:
                raise at.error(f"{text} is not known")
            number = int(found[1] or found[2], 16) if found[1] or found[2] else int(found[3], 0)
        return np.array(number & ((1 << bits) - 1), f"u{bits // 8}")

    def _address(self, at: Instruction, text: str) -> Read:
        found = re.fullmatch(r"\[([%$\w]+)(?:\+(-?\d+))?\]", text)
        if not found:
            raise at.error(f"{text} is no address")
        name, offset = found[1], int(found[2] or 0)
        if name.startswith("%"):
            register = self._register(at, name)
            return lambda lanes: register[lanes].astype(np.int64) + offset
        if name not in self._symbols:
            raise at.error(f"{name} is not known")
        constant = self._symbols[name] + offset
        return lambda lanes: np.full(lanes.size, constant, np.int64)

    # ---- Instructions --------------------------------------------------------------------------

    def _prepare(self, at: Instruction) -> Run:
        parts = at.opcode.split(".")
        if parts[0] in ("ld", "st"):
            return self._access(at, parts)
        if parts[0] in ("mov", "cvta"):
            return self._move(at, parts)
        if at.opcode == "shfl.sync.down.b32":
            return self._shuffle(at)
        known = compute(parts)
        if known is None or len(at.operands) != len(known[1]) + 1:
            raise at.error("the instruction is not known")
        function, dtypes = known
        to = self._register(at, at.operands[0])
        reads = [self._reader(at, text, each) for text, each in zip(at.operands[1:], dtypes)]

        def run(lanes: Array) -> None:
            to[lanes] = bits_of(function(*(read(lanes) for read in reads)))

        return run

    def _move(self, at: Instruction, parts: list[str]) -> Run:
        if parts[0] == "cvta" and parts[1:] != ["to", "global", "u64"]:
            raise at.error("the instruction is not known")
        dtype = parts[-1]
        if dtype not in DTYPES or len(at.operands) != 2:
            raise at.error("the instruction is not known")
        first, second = at.operands
        if "{" in first or "{" in second:
            return self._packed(at, int(dtype[1:]))
        to, read = self._register(at, first), self._reader(at, second, dtype)

        def run(lanes: Array) -> None:
            bits = read(lanes)
            to[lanes] = bits if bits.dtype == bool else bits.view(f"u{bits.dtype.itemsize}")

        return run

    def _packed(self, at: Instruction, bits: int) -> Run:
        first, second = at.operands
        names = re.split(r",\s*", (first if "{" in first else second).strip("{} "))
        size = bits // len(names) // 8
        whole = f"u{bits // 8}"
        if "{" in second:
            to = self._register(at, first)
            reads = [self._reader(at, name, f"b{8 * size}") for name in names]

            def pack(lanes: Array) -> None:
                parts = [np.broadcast_to(read(lanes), lanes.shape) for read in reads]
                to[lanes] = np.stack(parts, 1).view(whole)[:, 0]

            return pack
        # A part that nobody wants is written "_".
        parts = [None if name == "_" else self._register(at, name) for name in names]
        read = self._reader(at, second, f"b{bits}")

        def unpack(lanes: Array) -> None:
            found = np.array(np.broadcast_to(read(lanes), lanes.shape)).view(f"u{size}")
            for k, part in enumerate(parts):
                if part is not None:
                    part[lanes] = found.reshape(lanes.size, -1)[:, k]

        return unpack

    def _access(self, at: Instruction, parts: list[str]) -> Run:
        kind, space, *rest = parts
        dtype = rest[-1]
        count = next((int(part[1:]) for part in rest if part in ("v2", "v4")), 1)
        known = {"nc"} if space == "global" else set()
        if dtype not in DTYPES or set(rest[:-1]) - known - {f"v{count}"}:
            raise at.error("the instruction is not known")
        size = np.dtype(DTYPES[dtype]).itemsize
        where, values = at.operands if kind == "st" else reversed(at.operands)
        address = self._address(at, where)
        names = re.split(r",\s*", values.strip("{} "))
        if kind == "st":
            reads = [self._reader(at, name, f"b{8 * size}") for name in names]

            def store(lanes: Array) -> None:
                given = [np.broadcast_to(read(lanes), lanes.shape) for read in reads]
                if space == "global":
                    self._memory.store(at, address(lanes), size, given)
                else:
                    block = self._block[lanes]
                    self._shared.store(at, block, address(lanes), size, given[0])

            if space not in ("global", "shared") or (space == "shared" and count > 1):
                raise at.error("the instruction is not known")
            return store
        registers = [None if name == "_" else self._register(at, name) for name in names]

        def load(lanes: Array) -> None:
            if space == "global":
                found = self._memory.load(at, address(lanes), size, count)
            elif space == "shared":
                found = [self._shared.load(at, self._block[lanes], address(lanes), size)]
            else:
                found = self._param(at, address(lanes), size, count)
            for register, bits in zip(registers, found):
                if register is not None:
                    register[lanes] = bits.view(DTYPES[dtype]) if dtype[0] == "s" else bits

        if space not in ("global", "param", "shared") or (space == "shared" and count > 1):
            raise at.error("the instruction is not known")
        return load

    def _param(self, at: Instruction, address: Array, size: int, count: int) -> list[Array]:
        begin = address - _PARAMS_AT
        whole = size * count
        if (begin % whole).any() or (begin < 0).any() or (begin + whole > self._params.size).any():
            raise at.error("accesses no parameter, or one at an address that is not even enough")
        words = self._params.view(f"u{size}")
        return [words[begin // size + k] for k in range(count)]

    def _shuffle(self, at: Instruction) -> Run:
        target, source, *rest = at.operands
        name, _, inside = target.partition("|")
        to = self._register(at, name)
        flag = self._register(at, inside) if inside else None
        given = self._register(at, source)
        reads = [self._reader(at, text, "b32") for text in rest]

        def run(lanes: Array) -> None:
            distance, bounds, members = (int(np.unique(read(lanes))[0]) for read in reads)
            if (bounds, members) != (_WARP - 1, 0xFFFFFFFF):
                raise at.error("only whole warps are known to shuffle")
            if lanes.size % _WARP or (lanes.reshape(-1, _WARP) != _warps_of(lanes)).any():
                raise at.error("not all threads of a warp are there")
            within = lanes % _WARP + distance < _WARP
            to[lanes] = given[np.where(within, lanes + distance, lanes)]
            if flag is not None:
                flag[lanes] = within

        return run


def _warps_of(lanes: Array) -> Array:
    return lanes[::_WARP, None] // _WARP * _WARP + np.arange(_WARP)
