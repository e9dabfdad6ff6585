"""match icmp."""

from __future__ import annotations

from nfqfw.ext.api import Only, Opt, match
from nfqfw.ext.icmp_types import help_types, lower_type, parse_type, save_type, show_type
from nfqfw.protocols import ICMP, ICMP_NAMES

ANY = 255


@match("icmp", Opt("icmp-type", "own", required=True, invert=True, key="type", metavar="typename|type[/code]",
                   help="ICMP type by name or number, with a code if given"),
       families=(2,), only=Only(protocols=(ICMP,)))
class Icmp:
    def read_type(self, draft, opt, text, env):
        draft.values["type"] = parse_type(text, ICMP_NAMES)

    def save(self, use):
        value = use.values["type"]
        sign = " !" if "type" in use.inverted else ""
        return f"{sign} --icmp-type {'any' if value[0] == ANY else save_type(value)}"

    def show(self, use, numeric, resolver):
        return show_type(use.values["type"], "type" in use.inverted, ICMP_NAMES, numeric, "icmp")

    def lower(self, use, rule):
        return lower_type("icmp", use.values["type"], "type" in use.inverted)

    def help_more(self):
        return help_types(ICMP_NAMES, "Valid ICMP Types:")
