"""match icmp6."""

from __future__ import annotations

from nfqfw.ext.api import Only, Opt, match
from nfqfw.ext.icmp_types import help_types, lower_type, parse_type, save_type, show_type
from nfqfw.protocols import ICMPV6, ICMPV6_NAMES


@match("icmp6", Opt("icmpv6-type", "own", required=True, invert=True, key="type", metavar="typename|type[/code]",
                    help="ICMPv6 type by name or number, with a code if given"),
       families=(10,), only=Only(protocols=(ICMPV6,)))
class Icmp6:
    def read_type(self, draft, opt, text, env):
        draft.values["type"] = parse_type(text, ICMPV6_NAMES, "ICMPv6")

    def save(self, use):
        return f"{' !' if 'type' in use.inverted else ''} --icmpv6-type {save_type(use.values['type'])}"

    def show(self, use, numeric, resolver):
        return show_type(use.values["type"], "type" in use.inverted, ICMPV6_NAMES, numeric, "ipv6-icmp")

    def lower(self, use, rule):
        return lower_type("icmp6", use.values["type"], "type" in use.inverted)

    def help_more(self):
        return help_types(ICMPV6_NAMES, "Valid ICMPv6 Types:")
