"""match pkttype: to whom the frame was sent.  NFQUEUE does not tell, so it is concluded from the destination address."""

from __future__ import annotations

import struct

from nfqfw.errors import RuleError
from nfqfw.ext.api import Opt, match
from nfqfw.ext.lowering import READS_FLOW, Test

# name, alias, PACKET_* of the kernel, explanation
TYPES = (("unicast", "host", 0, "to this host"), ("broadcast", "bcast", 1, "to everybody"), ("multicast", "mcast", 2, "to a group"),
         ("otherhost", "", 3, "to another host"))


@match("pkttype", Opt("pkt-type", "own", required=True, invert=True, key="type", metavar="packettype", help="type of the packet"))
class Pkttype:
    def read_type(self, draft, opt, text, env):
        for name, alias, number, _ in TYPES:
            if text.lower() in (name, alias) and text:
                draft.values["type"] = number
                return
        raise RuleError(f"Bad packet type '{text}'")

    def name_of(self, use) -> str:
        return next(name for name, _, number, _ in TYPES if number == use.values["type"])

    def save(self, use):
        return f"{' !' if 'type' in use.inverted else ''} --pkt-type {self.name_of(use)}"

    def show(self, use, numeric, resolver):
        return f"PKTTYPE {'!=' if 'type' in use.inverted else '='} {self.name_of(use)}"

    def lower(self, use, rule):
        return [Test("pkttype", struct.pack("<II", use.values["type"], "type" in use.inverted), reads=READS_FLOW)]

    def help_more(self):
        return ["Valid packet types:", *(f"\t{name:<14}\t\t{text}" for name, _, _, text in TYPES)]
