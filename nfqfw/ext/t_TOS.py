"""targets TOS and DSCP: bits of the TOS byte (IPv6: traffic class)."""

from __future__ import annotations

import struct

from nfqfw.errors import RuleError
from nfqfw.ext.api import Only, Opt, target
from nfqfw.ext.lowering import Action
from nfqfw.ext.tosnames import read_dscp_class, read_tos, tos_name

MANGLE = Only(("mangle",))
ALL = ("set-tos", "and-tos", "or-tos", "xor-tos")
# option -> (value, mask): tos = (tos & ~mask) ^ value
MEANING = {"and-tos": lambda bits: (0, ~bits & 0xFF), "or-tos": lambda bits: (bits, bits), "xor-tos": lambda bits: (bits, 0)}
# a value may change what happens at OUTPUT: the kernel routes again when it differs
FEATURES = ("rewrites", "reroutes")


@target("TOS",
        Opt("set-tos", "own", key="change", excludes=ALL, metavar="value[/mask]|name", help="clear the bits of mask, then XOR value"),
        Opt("and-tos", "u8", key="change", excludes=ALL, metavar="bits", help="AND"),
        Opt("or-tos", "u8", key="change", excludes=ALL, metavar="bits", help="OR"),
        Opt("xor-tos", "u8", key="change", excludes=ALL, metavar="bits", help="XOR"),
        only=MANGLE)
class Tos:
    def read_change(self, draft, opt, text, env):
        if opt.name == "set-tos":
            draft.values["change"] = read_tos(text)
        else:
            draft.values["change"] = MEANING[opt.name](opt.reader(text, opt, "TOS", env))

    def final(self, draft, env):
        if "change" not in draft.values:
            raise RuleError("TOS: An action is required")

    def save(self, use):
        value, mask = use.values["change"]
        return f" --set-tos 0x{value:02x}/0x{mask:02x}"

    def show(self, use, numeric, resolver):
        value, mask = use.values["change"]
        name = None if numeric else tos_name(value, mask)
        if name:
            return f" TOS set{name}"                # the blanks are iptables 1.8.9's
        if numeric or (value and mask not in (value, 0)) or (value, mask) == (0, 0):
            return f"TOS set 0x{value:02x}/0x{mask:02x}"
        if value == 0:
            return f"TOS and 0x{~mask & 0xFF:02x}"
        return f"TOS {'or' if mask == value else 'xor'} 0x{value:02x}"

    def lower(self, use, rule):
        return Action("tos", struct.pack("<BB2x", *use.values["change"]), FEATURES)


@target("DSCP",
        Opt("set-dscp", "u8", key="dscp", high=63, excludes=("set-dscp-class",), metavar="value", help="0 to 63"),
        Opt("set-dscp-class", "own", key="dscp", excludes=("set-dscp",), metavar="class", help="BE, EF, AFxx or CSx"),
        only=MANGLE)
class Dscp:
    def read_dscp(self, draft, opt, text, env):
        draft.values["dscp"] = opt.reader(text, opt, "DSCP", env) if opt.reader else read_dscp_class(text)

    def final(self, draft, env):
        if "dscp" not in draft.values:
            raise RuleError("DSCP target: Parameter --set-dscp is required")

    def save(self, use):
        return f" --set-dscp 0x{use.values['dscp']:02x}"

    def show(self, use, numeric, resolver):
        return f"DSCP set 0x{use.values['dscp']:02x}"

    def lower(self, use, rule):
        return Action("tos", struct.pack("<BB2x", use.values["dscp"] << 2, 0xFC), FEATURES)
