"""How MARK and CONNMARK say what becomes of a mark."""

from __future__ import annotations

FULL = 0xFFFFFFFF

# option -> (value, mask) that the kernel gets: mark = (mark & ~mask) ^ value
MEANING = {
    "set-xmark": lambda value, mask: (value, mask),
    "set-mark": lambda value, mask: (value, value | mask),
    "and-mark": lambda value, mask: (0, ~value & FULL),
    "or-mark": lambda value, mask: (value, value),
    "xor-mark": lambda value, mask: (value, 0),
}


def words(value: int, mask: int) -> str:
    """`set 0x4`, `and 0x4` ...: how -L names the change."""
    if mask == FULL:
        return f"set {value:#x}"
    if value == 0:
        return f"and {~mask & FULL:#x}"
    if value == mask:
        return f"or {value:#x}"
    return f"xor {value:#x}" if mask == 0 else f"xset {value:#x}/{mask:#x}"
