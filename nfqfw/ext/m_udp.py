"""match udp."""

from __future__ import annotations

import struct

from nfqfw.ext.api import Only, match
from nfqfw.ext.lowering import READS_FLOW, Test
from nfqfw.ext.ports import EVERY, drop_full_ranges, port_fields, port_opts, save_ports, show_ports
from nfqfw.protocols import UDP


@match("udp", *port_opts(once=False), only=Only(protocols=(UDP,)))
class Udp:
    def final(self, draft, env):
        drop_full_ranges(draft)

    def save(self, use):
        return save_ports(use)

    def show(self, use, numeric, resolver):
        return " ".join(["udp", *show_ports(use, UDP, numeric, resolver)])

    def lower(self, use, rule):
        invert = ("sport" in use.inverted) | ("dport" in use.inverted) << 1
        info = struct.pack("<4HI", *use.values.get("sport", EVERY), *use.values.get("dport", EVERY), invert)
        return [Test("udp", info, port_fields(use), reads=READS_FLOW)]
