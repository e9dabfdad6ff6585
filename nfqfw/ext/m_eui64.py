"""match eui64: the lower half of an IPv6 source made from the Ethernet source address (RFC 4291 appendix A)."""

from __future__ import annotations

from nfqfw.ext.api import FORWARD, INPUT, PREROUTING, Only, match
from nfqfw.ext.lowering import Test


@match("eui64", families=(10,), only=Only(hooks=(PREROUTING, INPUT, FORWARD)))
class Eui64:
    listed_behind = ""

    def show(self, use, numeric, resolver):
        return "eui64 "

    def lower(self, use, rule):
        return [Test("eui64", bytes(4))]
