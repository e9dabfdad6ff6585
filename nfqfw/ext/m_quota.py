"""match quota: true until so many bytes have passed."""

from __future__ import annotations

import struct

from nfqfw.ext.api import Opt, match
from nfqfw.ext.lowering import Test


@match("quota", Opt("quota", "u64", required=True, invert=True, metavar="bytes", help="bytes that match; inverted: those after them"))
class Quota:
    def show(self, use, numeric, resolver):
        return f"quota: {use.values['quota']} bytes"

    def lower(self, use, rule):
        return [Test("quota", struct.pack("<I", "quota" in use.inverted), state=struct.pack("<Q", use.values["quota"]))]
