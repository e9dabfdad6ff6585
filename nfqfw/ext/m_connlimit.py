"""match connlimit: how many connections a host or network has."""

from __future__ import annotations

import struct

from nfqfw.errors import RuleError
from nfqfw.ext import names
from nfqfw.ext.api import Opt, match
from nfqfw.ext.lowering import TRACKED, Named, Test
from nfqfw.limits import CONNLIMIT_ENTRIES

BOUNDS = ("connlimit-upto", "connlimit-above")
BUCKETS = 4_096
SIDES = ("connlimit-saddr", "connlimit-daddr")


@match("connlimit",
       Opt("connlimit-upto", "u32", key="limit", invert=True, excludes=BOUNDS, metavar="n", help="at most n"),
       Opt("connlimit-above", "u32", key="limit", invert=True, excludes=BOUNDS, metavar="n", help="more than n"),
       Opt("connlimit-mask", "own", key="mask", metavar="prefix", help="count networks of this length together"),
       Opt("connlimit-saddr", key="saddr", excludes=SIDES, help="count by source; the default"),
       Opt("connlimit-daddr", key="daddr", excludes=SIDES, help="count by destination"))
class Connlimit:
    def read_limit(self, draft, opt, text, env):
        draft.values["limit"] = opt.reader(text, opt, "connlimit", env)
        draft.values["above"] = opt.name == "connlimit-above"

    def read_mask(self, draft, opt, text, env):
        number = names.unsigned(text, 0, 0xFFFFFFFF)
        most = names.BYTES[env.family] * 8
        if number is not None:
            draft.values["mask"] = min(number, most)
            return
        mask = names.parse_mask(text, env.family)
        length = names.prefix_length(mask) if mask is not None else None
        if length is None:
            raise RuleError(f"connlimit: bad value for option \"--{opt.name}\", or out of range (0-{most}).\n")
        draft.values["mask"] = length

    def final(self, draft, env):
        values = draft.values
        if "limit" not in values:
            raise RuleError('You must specify "--connlimit-above" or "--connlimit-upto".\n')
        if "limit" in draft.inverted:
            values["above"] = not values["above"]
            draft.inverted.clear()
        values["bits"] = names.BYTES[env.family] * 8
        values.setdefault("mask", values["bits"])
        values.pop("saddr", None)

    def save(self, use):
        values = use.values
        return (f" --connlimit-{'above' if values['above'] else 'upto'} {values['limit']} --connlimit-mask {values['mask']} "
                f"--connlimit-{'daddr' if 'daddr' in values else 'saddr'}")

    def show(self, use, numeric, resolver):
        values = use.values
        return f"#conn {'dst' if 'daddr' in values else 'src'}/{values['mask']} {'>' if values['above'] else '<='} {values['limit']}"

    def lower(self, use, rule):
        """Its table is the rule's own.  Not in the raw table: no packet has its connection there yet."""
        values = use.values
        info = struct.pack("<IIII", 0, values["limit"], (1 if values["above"] else 0) | (2 if "daddr" in values else 0), 0)
        shape = struct.pack("<4I", BUCKETS, CONNLIMIT_ENTRIES, 0, 0)
        return [Test("connlimit", info + names.wide_mask(values["mask"], values["bits"]), features=TRACKED, named=Named("connlimit", "", 0, shape, ("raw",)))]
