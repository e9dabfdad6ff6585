"""match mark: the packet's own mark."""

from __future__ import annotations

import struct

from nfqfw.ext.api import Opt, match
from nfqfw.ext.lowering import READS_FLOW, Test, field


@match("mark", Opt("mark", "mark", required=True, invert=True, metavar="value[/mask]",
                   help="(packet's mark & mask) is value; without a mask all 32 bits"))
class Mark:
    def show(self, use, numeric, resolver):
        value, mask = use.values["mark"]
        sign = "! " if "mark" in use.inverted else ""
        return f"mark match {sign}{value:#x}" + ("" if mask == 0xFFFFFFFF else f"/{mask:#x}")

    def lower(self, use, rule):
        value, mask = use.values["mark"]
        inverted = "mark" in use.inverted
        fields = (field("mark", ((value, value),), inverted, 0xFFFFFFFF),) if mask == 0xFFFFFFFF else ()
        return [Test("mark", struct.pack("<III", value, mask, inverted), fields, reads=READS_FLOW)]
