"""match ecn: the ECT codepoint of the IP header, ECE and CWR of TCP."""

from __future__ import annotations

import struct

from nfqfw.errors import RuleError
from nfqfw.ext.api import KernelRefusal, Opt, match
from nfqfw.ext.lowering import Test
from nfqfw.protocols import TCP

BITS = (("ece", 0x10), ("cwr", 0x20), ("ect", 0x01))       # in the order in which they are printed; IPT_ECN_OP_MATCH_*


@match("ecn",
       Opt("ecn-tcp-cwr", key="cwr", invert=True, help="CWR of the TCP header is set"),
       Opt("ecn-tcp-ece", key="ece", invert=True, help="ECE of the TCP header is set"),
       Opt("ecn-ip-ect", "u8", key="ect", high=3, invert=True, metavar="0..3", help="the codepoint of the IP header"))
class Ecn:
    def final(self, draft, env):
        if not draft.values:
            raise RuleError("ECN match: some option required")

    def save(self, use):
        out = ""
        for key, _ in BITS:
            if key in use.values:
                sign = " !" if key in use.inverted else ""
                out += f"{sign} --ecn-ip-ect {use.values[key]}" if key == "ect" else f"{sign} --ecn-tcp-{key}"
        return out

    def show(self, use, numeric, resolver):
        out = "ECN match"
        for key, _ in BITS:
            if key in use.values:
                out += " " + ("!" if key in use.inverted else "") + (f"ECT={use.values[key]}" if key == "ect" else key.upper())
        return out

    def check(self, use, rule):
        if ("ece" in use.values or "cwr" in use.values) and (rule.protocol != TCP or rule.protocol_inverted):
            raise KernelRefusal("EINVAL", "cannot match TCP bits in rule for non-tcp packets")

    def lower(self, use, rule):
        operation = sum(bit for key, bit in BITS if key in use.values)
        inverted = sum(bit for key, bit in BITS if key in use.inverted)
        return [Test("ecn", struct.pack("<BBBx", operation, inverted, use.values.get("ect", 0)))]
