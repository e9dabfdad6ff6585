"""matches tos and dscp: bits of the TOS byte (IPv6: traffic class)."""

from __future__ import annotations

import struct

from nfqfw.errors import RuleError
from nfqfw.ext.api import Opt, match
from nfqfw.ext.lowering import Test
from nfqfw.ext.tosnames import read_dscp_class, read_tos, tos_name


@match("tos", Opt("tos", "own", required=True, invert=True, metavar="value[/mask]|name", help="TOS & mask is value"))
class Tos:
    def read_tos(self, draft, opt, text, env):
        draft.values["tos"] = read_tos(text)

    def save(self, use):
        value, mask = use.values["tos"]
        return f"{' !' if 'tos' in use.inverted else ''} --tos 0x{value:02x}/0x{mask:02x}"

    def show(self, use, numeric, resolver):
        value, mask = use.values["tos"]
        sign = "!" if "tos" in use.inverted else ""
        name = None if numeric else tos_name(value, mask)
        return f"tos match{sign}" + (f" {name}" if name else f"0x{value:02x}/0x{mask:02x}")

    def lower(self, use, rule):
        value, mask = use.values["tos"]
        return [Test("tos", struct.pack("<BBBx", value, mask, "tos" in use.inverted))]


@match("dscp",
       Opt("dscp", "u8", key="dscp", high=63, invert=True, excludes=("dscp-class",), metavar="value", help="0 to 63"),
       Opt("dscp-class", "own", key="dscp", invert=True, excludes=("dscp",), metavar="class", help="BE, EF, AFxx or CSx"))
class Dscp:
    def read_dscp(self, draft, opt, text, env):
        draft.values["dscp"] = opt.reader(text, opt, "dscp", env) if opt.reader else read_dscp_class(text)

    def final(self, draft, env):
        if "dscp" not in draft.values:
            raise RuleError("DSCP match: Parameter --dscp is required")

    def save(self, use):
        return f"{' !' if 'dscp' in use.inverted else ''} --dscp 0x{use.values['dscp']:02x}"

    def show(self, use, numeric, resolver):
        return f"DSCP match {'!' if 'dscp' in use.inverted else ''}0x{use.values['dscp']:02x}"

    def lower(self, use, rule):
        return [Test("tos", struct.pack("<BBBx", use.values["dscp"] << 2, 0xFC, "dscp" in use.inverted))]
