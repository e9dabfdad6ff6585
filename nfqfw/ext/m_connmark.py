"""match connmark: the mark of the packet's connection."""

from __future__ import annotations

import struct

from nfqfw.ext.api import Opt, match
from nfqfw.ext.lowering import READS_CONNMARK, TRACKED, Test


@match("connmark", Opt("mark", "mark", required=True, invert=True, metavar="value[/mask]",
                       help="(connection's mark & mask) is value; without a mask all 32 bits"))
class Connmark:
    def show(self, use, numeric, resolver):
        value, mask = use.values["mark"]
        sign = "!" if "mark" in use.inverted else ""
        return f"connmark match {sign} {value:#x}" + ("" if mask == 0xFFFFFFFF else f"/{mask:#x}")

    def lower(self, use, rule):
        value, mask = use.values["mark"]
        return [Test("connmark", struct.pack("<III", value, mask, "mark" in use.inverted), reads=READS_CONNMARK, features=TRACKED)]
