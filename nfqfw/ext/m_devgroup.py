"""match devgroup: the groups that interfaces are in."""

from __future__ import annotations

import struct

from nfqfw.errors import RuleError
from nfqfw.ext.api import FORWARD, INPUT, OUTPUT, POSTROUTING, PREROUTING, KernelRefusal, Opt, match
from nfqfw.ext.lowering import READS_FLOW, Test
from nfqfw.ext.named import name_of, read_named, value_text

FILE = "/etc/iproute2/group"
SIDES = (("src", 1), ("dst", 2))


@match("devgroup",
       Opt("src-group", "own", invert=True, key="src", metavar="value[/mask]", help="group of the incoming interface"),
       Opt("dst-group", "own", invert=True, key="dst", metavar="value[/mask]", help="group of the outgoing interface"))
class Devgroup:
    check_needs_hooks = True

    def read_src(self, draft, opt, text, env):
        draft.values[opt.key] = read_named(text, "devgroup", opt.name, FILE)

    read_dst = read_src

    def final(self, draft, env):
        if not draft.seen:
            raise RuleError("devgroup match: You must specify either '--src-group' or '--dst-group'")

    def save(self, use):
        return "".join(f"{' !' if key in use.inverted else ''} --{key}-group {name_of(use.values[key], FILE)}"
                       for key, _ in SIDES if key in use.values)

    def show(self, use, numeric, resolver):
        return " ".join(f"{'! ' if key in use.inverted else ''}{key}-group "
                        f"{value_text(use.values[key]) if numeric else name_of(use.values[key], FILE)}" for key, _ in SIDES if key in use.values)

    def check(self, use, place):
        allowed = {"src": (PREROUTING, INPUT, FORWARD), "dst": (FORWARD, OUTPUT, POSTROUTING)}
        for key, _ in SIDES:
            if key in use.values and place.hooks & ~sum(1 << hook for hook in allowed[key]):
                raise KernelRefusal("EINVAL")

    def lower(self, use, rule):
        asked = sum(bit for key, bit in SIDES if key in use.values)
        invert = sum(bit for key, bit in SIDES if key in use.inverted)
        return [Test("devgroup", struct.pack("<IIIIII", *use.values.get("src", (0, 0)), *use.values.get("dst", (0, 0)), asked, invert), reads=READS_FLOW)]
