"""target MARK: changes the packet's mark and goes on."""

from __future__ import annotations

import struct

from nfqfw.errors import RuleError
from nfqfw.ext.api import Opt, target
from nfqfw.ext.lowering import READS_FLOW, Action
from nfqfw.ext.marks import MEANING, words

ALL = ("set-xmark", "set-mark", "and-mark", "or-mark", "xor-mark")


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
