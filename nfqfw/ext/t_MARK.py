"""target MARK: changes the packet's mark and goes on."""

from __future__ import annotations

import struct

from nfqfw.errors import RuleError
from nfqfw.ext.api import Opt, target
from nfqfw.ext.lowering import READS_FLOW, Action

FULL = 0xFFFFFFFF
ALL = ("set-xmark", "set-mark", "and-mark", "or-mark", "xor-mark")

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


@target("MARK",
        Opt("set-xmark", "mark", key="change", excludes=ALL, metavar="value[/mask]", help="clear the bits of mask, then XOR value"),
        Opt("set-mark", "mark", key="change", excludes=ALL, metavar="value[/mask]", help="clear the bits of mask, then OR value"),
        Opt("and-mark", "u32", key="change", excludes=ALL, metavar="bits", help="AND"),
        Opt("or-mark", "u32", key="change", excludes=ALL, metavar="bits", help="OR"),
        Opt("xor-mark", "u32", key="change", excludes=ALL, metavar="bits", help="XOR"))
class Mark:
    def read_change(self, draft, opt, text, env):
        read = opt.reader(text, opt, "MARK", env)
        draft.values["change"] = MEANING[opt.name](*(read if isinstance(read, tuple) else (read, 0)))

    def final(self, draft, env):
        if "change" not in draft.values:
            raise RuleError("MARK: One of the --set-xmark, --{and,or,xor,set}-mark options is required")

    def save(self, use):
        value, mask = use.values["change"]
        return f" --set-xmark {value:#x}/{mask:#x}"

    def show(self, use, numeric, resolver):
        return "MARK " + words(*use.values["change"])

    def lower(self, use, rule):
        return Action("mark", struct.pack("<II", *use.values["change"]), ("reroutes",), reads=READS_FLOW)
