"""What one x86-64 instruction does to memory and to elements."""

from __future__ import annotations

import re
from dataclasses import dataclass

from radam_codegen.tools.inspect.listing import Instruction

__all__ = [
    "Access",
    "access",
    "constant_step",
    "is_call",
    "lanes",
    "operation",
    "register_width",
    "written_register",
]

_MEMORY = re.compile(
    r"(?P<disp>-?(?:0x[0-9a-f]+|\d+)|[.\w@+-]*)"
    r"\((?P<base>%\w+)?(?:,(?P<index>%\w+)?(?:,(?P<scale>\d))?)?\)"
)
_VECTOR = re.compile(r"%([xyz])mm\d+")
_BITS = {"x": 128, "y": 256, "z": 512}

_KINDS = {
    "fma": re.compile(r"v?fn?m(?:add|sub)(?:add|sub)?\d*([ps])([sd])$"),
    "sqrt": re.compile(r"v?sqrt([ps])([sd])$"),
    "div": re.compile(r"v?div([ps])([sd])$"),
    "add": re.compile(r"v?add([ps])([sd])$"),
    "mul": re.compile(r"v?mul([ps])([sd])$"),
    "sub": re.compile(r"v?sub([ps])([sd])$"),
}

#: Instructions that only look at what they name last.
_READ_ONLY = re.compile(r"v?p?(cmp|test|ucomis|comis|bt)(?!xchg)|prefetch|push|j|call")
#: Instructions that write what they name last without reading it.
_PURE_STORE = re.compile(
    r"v?(p?mov|pextr|extract|maskmov|cvt\w*2ph|pcompress|p?scatter)|set|stmxcsr|pop"
)


@dataclass(frozen=True)
class Access:
    """One access to memory.

    Attributes:
        base: Register that the address is counted from; ``%rip`` for a constant.
        index: Register that is added to it, times ``scale``.
        scale: 1, 2, 4 or 8.
        offset: Bytes from there.
        size: Bytes that are read or written.
        loads: Whether it reads.
        stores: Whether it writes.
    """

    base: str
    index: str
    scale: int
    offset: int
    size: int
    loads: bool
    stores: bool


def operation(each: Instruction) -> str | None:
    """``"fma"``, ``"sqrt"``, ``"div"``, ``"add"``, ``"mul"``, ``"sub"``, or None."""
    return next((kind for kind, form in _KINDS.items() if form.match(each.mnemonic)), None)


def lanes(each: Instruction) -> int:
    """How many elements one arithmetic instruction works on; 0 for any other instruction."""
    for form in _KINDS.values():
        found = form.match(each.mnemonic)
        if found is not None:
            if found.group(1) == "s":
                return 1
            return register_width(each) // (32 if found.group(2) == "s" else 64)
    return 0


def register_width(each: Instruction) -> int:
    """Bits of the widest vector register that is named; 0 where none is."""
    return max((_BITS[name] for name in _VECTOR.findall(each.operands)), default=0)


def is_call(each: Instruction) -> bool:
    """Whether another function is called."""
    return each.mnemonic.startswith("call")


def access(each: Instruction) -> Access | None:
    """The memory that an instruction reads or writes; None where it touches none."""
    if each.mnemonic.startswith(("lea", "nop", "prefetch")):
        return None
    operands = _split(each.operands)
    at = next((n for n, text in enumerate(operands) if _MEMORY.search(text)), None)
    if at is None:
        return None
    found = _MEMORY.search(operands[at])
    assert found is not None
    last = at == len(operands) - 1
    written = last and not _READ_ONLY.match(each.mnemonic) and len(operands) > 1
    pure = written and _PURE_STORE.match(each.mnemonic) is not None
    try:
        offset = int(found.group("disp") or "0", 0)
    except ValueError:  # a symbol
        offset = 0
    return Access(
        base=_whole(found.group("base") or ""),
        index=_whole(found.group("index") or ""),
        scale=int(found.group("scale") or "1"),
        offset=offset,
        size=_size(each, operands, operands[at], written),
        loads=not pure,
        stores=written,
    )


def written_register(each: Instruction) -> str | None:
    """The general register that an instruction changes, under its 64-bit name."""
    operands = _split(each.operands)
    if not operands or _READ_ONLY.match(each.mnemonic):
        return None
    last = operands[-1]
    if not re.fullmatch(r"%\w+", last) or _VECTOR.match(last):
        return None
    return _whole(last)


def constant_step(each: Instruction) -> int | None:
    """By how much :func:`written_register` grows, where that is a constant."""
    name = re.sub(r"^(inc|dec|add|sub|lea)[bwlq]$", r"\1", each.mnemonic)
    if name in ("inc", "dec"):
        return 1 if name == "inc" else -1
    operands = _split(each.operands)
    if name in ("add", "sub") and len(operands) == 2 and operands[0].startswith("$"):
        try:
            amount = int(operands[0][1:], 0)
        except ValueError:
            return None
        amount -= (1 << 64) if amount >= 1 << 63 else 0
        return amount if name == "add" else -amount
    if name == "lea" and len(operands) == 2:
        found = _MEMORY.fullmatch(operands[0])
        if found is not None and not found.group("index"):
            same = _whole(found.group("base") or "") == _whole(operands[1])
            return int(found.group("disp") or "0", 0) if same else None
    return None


def _split(operands: str) -> list[str]:
    """Operands one by one; a comma inside of brackets separates nothing."""
    return [part.strip() for part in re.split(r",(?![^(]*\))", operands)] if operands else []


def _whole(register: str) -> str:
    """The 64-bit register that a part of it belongs to: ``%r8`` for ``%r8d``."""
    name = register.lstrip("%")
    if not name:
        return ""
    if re.fullmatch(r"r\d+[bwd]?", name):
        return f"%{name.rstrip('bwd')}"
    if name in ("al", "bl", "cl", "dl"):
        return f"%r{name[0]}x"
    if name in ("ax", "bx", "cx", "dx", "si", "di", "bp", "sp"):
        return f"%r{name}"
    if name in ("sil", "dil", "bpl", "spl"):
        return f"%r{name[:2]}"
    if name.startswith("e"):
        return f"%r{name[1:]}"
    return f"%{name}"


# ---- How many bytes -----------------------------------------------------------------------------

#: Instructions that touch a fixed number of bytes.
_FIXED = (
    (r"v?p?(insr|extr)b|movzb|movsb|vpbroadcastb|set", 1),
    (r"v?p?(insr|extr)w|movzw|movsw|vpbroadcastw|vmovw|vmovsh", 2),
    (r"v?p?(insr|extr)d|v?movd$|v?broadcastss|vpbroadcastd|v?insertps|v?extractps|movsl|movslq", 4),
    (r"v?p?(insr|extr)q|v?movq$|v?mov[lh]p[sd]|v?broadcastsd|vpbroadcastq|v?movddup", 8),
    (r"v(insert|extract|broadcast)([fi]128|[fi]32x4|[fi]64x2)", 16),
    (r"v(insert|extract|broadcast)([fi]32x8|[fi]64x4)", 32),
    (r"v?cvtss2|v?cvttss2", 4),
    (r"v?cvtsd2|v?cvttsd2", 8),
)
#: Instructions whose memory is narrower than their register, by how much.
_NARROWER = (
    (r"v?cvtps2pd|v?cvtdq2pd|v?cvtph2ps|v?cvtps2ph|v?pmov[sz]x(bw|wd|dq)|vpmovu?s?(wb|dw|qd)", 2),
    (r"v?pmov[sz]x(bd|wq)|vpmovu?s?(db|qw)", 4),
    (r"v?pmov[sz]xbq|vpmovu?s?qb", 8),
)
_GENERAL = {"b": 1, "w": 2, "l": 4, "q": 8}


def _size(each: Instruction, operands: list[str], memory: str, written: bool) -> int:
    name = each.mnemonic
    for pattern, size in _FIXED:
        if re.match(pattern, name):
            return size
    scalar = re.match(r"v?[a-z]+\d*s([sd])$", name)
    width = register_width(each) // 8
    if scalar is not None and width:
        return 4 if scalar.group(1) == "s" else 8
    if width:
        if "{1to" in memory:
            return 8 if name.endswith(("pd", "q")) else 4
        for pattern, factor in _NARROWER:
            if re.match(pattern, name):
                return width // factor
        if re.match(r"v?cvtt?pd2(ps|dq)", name) and not written:
            return {"x": 16, "y": 32}.get(name[-1], width * 2)
        return width
    other = next((text for text in operands if re.fullmatch(r"%\w+", text)), None)
    return _GENERAL.get(name[-1], 8) if other is None else _general_width(other)


def _general_width(register: str) -> int:
    name = register.lstrip("%")
    if re.fullmatch(r"[abcd]l|(si|di|bp|sp)l|r\d+b", name):
        return 1
    if re.fullmatch(r"[abcd]x|si|di|bp|sp|r\d+w", name):
        return 2
    return 4 if re.fullmatch(r"e\w+|r\d+d", name) else 8
