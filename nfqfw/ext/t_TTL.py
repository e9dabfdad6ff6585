"""targets TTL and HL: the hop count."""

from __future__ import annotations

import struct

from nfqfw.errors import RuleError
from nfqfw.ext.api import Only, Opt, target
from nfqfw.ext.lowering import Action

SET, INC, DEC = range(3)                # enum TtlMode of t_TTL.pxd
MODES = {"set": SET, "inc": INC, "dec": DEC}
WORDS = {SET: "set to", INC: "increment by", DEC: "decrement by"}


def options(prefix: str) -> tuple[Opt, ...]:
    every = tuple(f"{prefix}-{word}" for word in MODES)
    return tuple(Opt(f"{prefix}-{word}", "u8", key="change", low=0 if word == "set" else 1, excludes=every, metavar="number", help=help)
                 for word, help in (("set", "the new value"), ("dec", "how many less; stops at 0"), ("inc", "how many more; stops at 255")))


class HopCount:
    prefix = ""
    title = ""

    def read_change(self, draft, opt, text, env):
        draft.values["change"] = MODES[opt.name[-3:]], opt.reader(text, opt, self.title, env)

    def final(self, draft, env):
        if "change" not in draft.values:
            raise RuleError(f"{self.title}: You must specify an action")

    def save(self, use):
        mode, value = use.values["change"]
        return f" --{self.prefix}-{('set', 'inc', 'dec')[mode]} {value}"

    def show(self, use, numeric, resolver):
        mode, value = use.values["change"]
        return f"{self.title} {WORDS[mode]} {value}"

    def lower(self, use, rule):
        return Action("ttl", struct.pack("<BB2x", *use.values["change"]), ("rewrites",))


@target("TTL", *options("ttl"), families=(2,), only=Only(("mangle",)))
class Ttl(HopCount):
    prefix, title = "ttl", "TTL"


@target("HL", *options("hl"), families=(10,), only=Only(("mangle",)))
class Hl(HopCount):
    prefix, title = "hl", "HL"
