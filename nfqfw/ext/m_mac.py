"""match mac: the source address of the Ethernet frame."""

from __future__ import annotations

import struct

from nfqfw.ext.api import FORWARD, INPUT, PREROUTING, Only, Opt, match
from nfqfw.ext.lowering import Test
from nfqfw.ext.values import mac_text


@match("mac", Opt("mac-source", "mac", required=True, invert=True, metavar="XX:XX:XX:XX:XX:XX", help="source MAC address"),
       only=Only(hooks=(PREROUTING, INPUT, FORWARD)))
class Mac:
    def show(self, use, numeric, resolver):
        return f"MAC {'! ' if 'mac_source' in use.inverted else ''}{mac_text(use.values['mac_source'])}"

    def lower(self, use, rule):
        return [Test("mac", struct.pack("<6sH", use.values["mac_source"], "mac_source" in use.inverted))]
