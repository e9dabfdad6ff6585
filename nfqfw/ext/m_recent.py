"""match recent: addresses seen lately, in named lists."""

from __future__ import annotations

import struct

from nfqfw.errors import RuleError
from nfqfw.ext import names
from nfqfw.ext.api import KernelRefusal, Opt, match
from nfqfw.ext.lowering import Named, Test
from nfqfw.limits import RECENT_ADDRESSES, RECENT_STAMPS

COMMANDS = ("set", "rcheck", "update", "remove")
SHOWN = {"set": "SET", "rcheck": "CHECK", "update": "UPDATE", "remove": "REMOVE"}
NOT_SET = ("set", "remove")
MOST_HITS = 65535


def ring(hits: int) -> int:
    """Stamps an address keeps for a rule with this --hitcount: a power of two."""
    return 1 << (hits - 1).bit_length() if hits else RECENT_STAMPS


@match("recent",
       *(Opt(name, key="command", invert=True, excludes=COMMANDS, help=text) for name, text in (
           ("set", "put the address on the list; true"), ("rcheck", "is the address on the list"),
           ("update", "the same, and note that it was seen now"), ("remove", "the same, and take it off"))),
       Opt("seconds", "u32", low=1, metavar="seconds", help="seen within so many seconds"),
       Opt("reap", needs=("seconds",), help="forget what is older"),
       Opt("hitcount", "u32", metavar="hits", help="seen so often"),
       Opt("rttl", excludes=NOT_SET, help="and with the same TTL"),
       Opt("name", "string", high=199, metavar="name", help="name of the list; DEFAULT"),
       Opt("rsource", key="side", help="the source address; the default"),
       Opt("rdest", key="side", help="the destination address"),
       Opt("mask", "own", metavar="netmask", help="keep only this part of addresses"))
class Recent:
    def read_command(self, draft, opt, text, env):
        draft.values["command"] = opt.name

    def read_side(self, draft, opt, text, env):
        draft.values["side"] = opt.name

    def read_mask(self, draft, opt, text, env):
        mask = names.parse_address(text, env.family)
        if mask is None:
            raise RuleError(f"host/network `{text}' not found")
        draft.values["mask"] = mask

    def final(self, draft, env):
        values = draft.values
        if "command" not in values:
            raise RuleError("recent: you must specify one of `--set', `--rcheck' `--update' or `--remove'")
        if values.get("hitcount") == 0:
            del values["hitcount"]
        values.setdefault("name", "DEFAULT")
        values.setdefault("side", "rsource")
        values.setdefault("mask", names.ALL_ONES[env.family])

    def save(self, use):
        values = use.values
        out = f"{' !' if 'command' in use.inverted else ''} --{values['command']}"
        for key in ("seconds", "reap", "hitcount", "rttl"):
            if key in values:
                out += f" --{key}" + ("" if values[key] is True else f" {values[key]}")
        return f"{out} --name {values['name']} --mask {names.address_text(values['mask'])} --{values['side']}"

    def show(self, use, numeric, resolver):
        values = use.values
        out = f"{'! ' if 'command' in use.inverted else ''}recent: {SHOWN[values['command']]}"
        if "seconds" in values:
            out += f" seconds: {values['seconds']}"
        if "reap" in values:
            out += " reap"
        if "hitcount" in values:
            out += f" hit_count: {values['hitcount']}"
        if "rttl" in values:
            out += " TTL-Match"
        side = "source" if values["side"] == "rsource" else "dest"
        return f"{out} name: {values['name']} side: {side} mask: {names.address_text(values['mask'])}"

    def check(self, use, rule):
        values = use.values
        if values.get("hitcount", 0) > MOST_HITS or "/" in values["name"] or not values["name"]:
            raise KernelRefusal("EINVAL")
        if values["command"] in NOT_SET and ("seconds" in values or "hitcount" in values):
            raise KernelRefusal("EINVAL")

    def lower(self, use, rule):
        values = use.values
        flags = sum(bit for bit, on in ((1, "command" in use.inverted), (2, "reap" in values), (4, "rttl" in values), (8, values["side"] == "rdest")) if on)
        info = struct.pack("<IIIBB2x", 0, values.get("seconds", 0), values.get("hitcount", 0), COMMANDS.index(values["command"]), flags)
        mask = values["mask"]
        if len(mask) == 4:                  # a list serves both families: IPv6 addresses are not lumped together by a rule of IPv4
            mask += b"\xff" * 12
        shape = struct.pack("<4I", RECENT_ADDRESSES, RECENT_ADDRESSES, ring(values.get("hitcount", 0)), 0)
        return [Test("recent", info, named=Named("recent", values["name"], 0, shape + mask))]
