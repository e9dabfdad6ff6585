"""match connbytes: how much a connection has carried."""

from __future__ import annotations

import struct

from nfqfw.errors import RuleError
from nfqfw.ext.api import Opt, match
from nfqfw.ext.lowering import ACCT, TRACKED, Test
from nfqfw.ext.values import TYPES

MODES = ("packets", "bytes", "avgpkt")
DIRECTIONS = ("original", "reply", "both")
NO_END = 0xFFFFFFFFFFFFFFFF


@match("connbytes",
       Opt("connbytes", "own", required=True, invert=True, key="range", metavar="from:[to]", help="amount, both ends included"),
       Opt("connbytes-dir", "own", required=True, key="dir", metavar="{original|reply|both}", help="what is counted"),
       Opt("connbytes-mode", "own", required=True, key="mode", metavar="{packets|bytes|avgpkt}", help="packets, bytes, or bytes per packet"))
class Connbytes:
    def read_range(self, draft, opt, text, env):
        first, colon, last = text.partition(":")
        if first.isdigit() and last.isdigit() and int(last) < int(first) and int(first) <= NO_END:
            raise RuleError(f"{first} should be less than {last}")
        draft.values["range"] = TYPES["u64:range"].read(text, opt, "connbytes", env)
        if not colon:
            draft.values["range"] = draft.values["range"][0], NO_END

    def read_dir(self, draft, opt, text, env):
        if text not in DIRECTIONS:
            raise RuleError(f"Unknown --connbytes-dir `{text}'")
        draft.values["dir"] = DIRECTIONS.index(text)

    def read_mode(self, draft, opt, text, env):
        if text not in MODES:
            raise RuleError(f"Unknown --connbytes-mode `{text}'")
        draft.values["mode"] = MODES.index(text)

    def final(self, draft, env):
        if draft.values["range"][0] == draft.values["range"][1]:
            draft.inverted.clear()              # the kernel is told of an inversion by ends that are turned round

    def range_text(self, use) -> str:
        low, high = use.values["range"]
        return str(low) if high == NO_END else f"{low}:{high}"

    def save(self, use):
        return (f"{' !' if 'range' in use.inverted else ''} --connbytes {self.range_text(use)} --connbytes-mode {MODES[use.values['mode']]} "
                f"--connbytes-dir {DIRECTIONS[use.values['dir']]}")

    def show(self, use, numeric, resolver):
        return (f"{'! ' if 'range' in use.inverted else ''}connbytes {self.range_text(use)} connbytes mode {MODES[use.values['mode']]} "
                f"connbytes direction {DIRECTIONS[use.values['dir']]}")

    def lower(self, use, rule):
        values = use.values
        low, high = values["range"]
        inverted = "range" in use.inverted and low != high          # to the kernel `!` is from > to: `! 3:3` tests 3:3
        return [Test("connbytes", struct.pack("<QQBBBx4x", low, high, values["mode"], values["dir"], inverted),
                     features=(*TRACKED, ACCT))]
