"""match length: the packet's length in bytes, IP header included."""

from __future__ import annotations

import struct

from nfqfw.ext.api import Opt, match
from nfqfw.ext.lowering import Test
from nfqfw.ext.values import range_text


@match("length", Opt("length", "u16:range", required=True, invert=True, metavar="length[:length]", help="length, or a range with both ends"))
class Length:
    def show(self, use, numeric, resolver):
        return f"length {'!' if 'length' in use.inverted else ''}{range_text(use.values['length'])}"

    def lower(self, use, rule):
        return [Test("length", struct.pack("<HHI", *use.values["length"], "length" in use.inverted))]
