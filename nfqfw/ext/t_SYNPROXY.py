"""target SYNPROXY: answers a SYN in the server's place."""

from __future__ import annotations

from nfqfw.ext.api import FORWARD, INPUT, Only, Opt, target
from nfqfw.ext.lowering import Unevaluated
from nfqfw.protocols import TCP

PRINTED = (("sack-perm", "sack_perm"), ("timestamp", "timestamp"), ("wscale", "wscale"), ("mss", "mss"), ("ecn", "ecn"))


@target("SYNPROXY", Opt("sack-perm", help="allow selective acknowledgement"), Opt("timestamp", help="allow timestamps"),
        Opt("wscale", "u8", metavar="value", help="window scale"), Opt("mss", "u16", metavar="value", help="maximum segment size"),
        Opt("ecn", help="allow ECN"), only=Only(hooks=(INPUT, FORWARD), protocols=(TCP,)))
class Synproxy:
    def words(self, use, dash: str) -> str:
        return "".join(f" {dash}{name}" + ("" if use.values[key] is True else f" {use.values[key]}") for name, key in PRINTED if key in use.values)

    def save(self, use):
        return self.words(use, "--")

    def show(self, use, numeric, resolver):
        return f"SYNPROXY{self.words(use, '')} "

    def lower(self, use, rule):
        return Unevaluated("not evaluated yet: SYNPROXY: needs a handshake of its own with both ends")
